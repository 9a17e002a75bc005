"""`{% load token_limit %}{% token_limit_usage %}`: the usage of the request's tenant, to embed in a page."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from token_limit_core.runtime.language import translate

from .. import usage

register: template.Library = template.Library()


@register.simple_tag
def token_limit_usage() -> SafeString:
    """Make the fragment; empty without a tenant."""
    return usage.fragment()


@register.filter
def tr(text: str) -> str:
    """Translate a text of our own pages; a page of the project that replaces one loads this library for it."""
    return translate(text)
