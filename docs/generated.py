"""The pages that are generated from code: settings, events, commands, error messages, changelog."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from token_limit_core.cli.main import main
from token_limit_core.config.rules import CORE, DJANGO, FLASK, STARLETTE, Setting
from token_limit_core.config.table import SETTINGS
from token_limit_core.events import LLMEvent

from . import messages

STARLETTE_NAMES = {"TENANT_RESOLVER": "resolver", "UPGRADE_TEMPLATE": "upgrade_page"}


def pages(root: Path) -> dict[str, str]:
    """Return the generated pages by path below `docs/`."""
    return {
        "reference/settings.md": settings(),
        "reference/events.md": events(root),
        "reference/commands.md": commands(),
        "reference/messages.md": messages.page(root),
        "changelog.md": (root / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "]("),
    }


def settings() -> str:
    """Write the reference of settings from the table that checks them."""
    from token_limit_django.conf import SETTINGS as DJANGO_SETTINGS

    known = {**SETTINGS, **{key: one for key, one in DJANGO_SETTINGS.items() if key not in SETTINGS}}
    lines = [
        "# Settings",
        "",
        "Each setting has one meaning in every package. Only its spelling differs:",
        "",
        "- core: `MeterConfig(on_no_tenant=...)`",
        '- Django: `TOKEN_LIMIT = {"ON_NO_TENANT": ...}`',
        '- Flask: `app.config["TOKEN_LIMIT_ON_NO_TENANT"] = ...`',
        "- Starlette and FastAPI: `add_middleware(TokenLimitMiddleware, on_no_tenant=...)`",
        "",
        "A wrong value is an error at start-up. The message names the setting and what is expected.",
        "",
    ]
    for key, setting in known.items():
        lines += [f"## {key} {{ #{key.lower()} }}", "", setting.doc, "", *_facts(key, setting), ""]
    return "\n".join(lines)


def _facts(key: str, setting: Setting) -> Iterator[str]:
    names = {
        CORE: f"`{key.lower()}`",
        DJANGO: f"`TOKEN_LIMIT['{key}']`",
        FLASK: f"`TOKEN_LIMIT_{key}`",
        STARLETTE: f"`{STARLETTE_NAMES.get(key, key.lower())}`",
    }
    yield f"- Names: {', '.join(names[package] for package in names if package in setting.where)}"
    yield f"- Default: `{_default(setting.default)}`"
    path = ", or its dotted path in Django and Flask" if setting.dotted else ""
    yield f"- Expected: {setting.expected}{path}, for example `{setting.example}`"


def _default(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}" if callable(value) else repr(value)


def events(root: Path) -> str:
    """Write the table of an event's fields."""
    source = (root / "token_limit_core" / "events.py").read_text(encoding="utf-8")
    types = dict(re.findall(r"^    (\w+): ([^=\n]+?)(?: =.*)?$", source, re.MULTILINE))
    rows = [
        f"| `{one.name}` | `{types.get(one.name, one.type)}` |".replace(" | None`", "` or None")
        for one in fields(LLMEvent)
    ]
    return "\n".join(
        [
            "# Events",
            "",
            "An event is the record of one call: a row of the ledger, the argument of `on_event`, one item of a batch.",
            "`to_dict()` leaves out fields that are None. In JSON `cost_usd` is a decimal string.",
            "",
            "| field | type |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def _type(annotation: str) -> str:
    return f"`{annotation.removesuffix(' | None')}`{' or None' if annotation.endswith(' | None') else ''}"


def commands() -> str:
    """Write the reference of the command line from its own help."""
    lines = [
        "# Commands",
        "",
        "`token-limit` works on a store. `flask token-limit` has the same commands over the application's store.",
        "Django has them as `manage.py token_limit usage`. [Command line](../command-line.md) shows them at work.",
        "",
        *_command(main, "token-limit"),
    ]
    return "\n".join(lines)


def _command(command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    yield from (f"## {name}", "", "```text", command.get_help(context), "```", "")
    for key, sub in getattr(command, "commands", {}).items():
        yield from _command(sub, f"{name} {key}")
