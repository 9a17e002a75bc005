"""Core's templates for Django, whose loaders do not find them: core is no installed app."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from typing import Any

from django.template.backends.django import DjangoTemplates

FOLDERS = ("templates", "console/templates")


def core_template(name: str) -> Any:
    """Return one of core's templates; those that have a name in a project's loaders, too, may be extended by that."""
    return _engine().get_template(name)


@cache
def _engine() -> DjangoTemplates:
    with as_file(files("token_limit_core")) as core:
        folders = [core / folder for folder in FOLDERS]
    return DjangoTemplates({"NAME": "token_limit", "DIRS": folders, "APP_DIRS": False, "OPTIONS": {}})
