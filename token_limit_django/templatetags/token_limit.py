"""`{% load token_limit %}{% token_limit_usage %}`: the usage of the request's tenant, to embed in a page."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from .. import usage

register = template.Library()


@register.simple_tag
def token_limit_usage() -> SafeString:
    """Make the fragment; empty without a tenant."""
    return usage.fragment()
