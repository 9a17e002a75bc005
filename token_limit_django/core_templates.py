"""Load the templates of token_limit_core, which Django's loaders do not find: core is not an installed app."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from typing import Any

from django.template.backends.django import DjangoTemplates

WORDS = "token_limit_django.templatetags.token_limit"
FOLDERS = ("templates", "console/templates")


def core_template(name: str) -> Any:
    """Return a template of core; a template of the same name in the project may extend it."""
    return _engine().get_template(name)


@cache
def _engine() -> DjangoTemplates:
    with as_file(files("token_limit_core")) as core:
        folders = [core / folder for folder in FOLDERS]
    return DjangoTemplates(
        {"NAME": "token_limit", "DIRS": folders, "APP_DIRS": False, "OPTIONS": {"builtins": [WORDS]}}
    )
