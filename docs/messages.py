"""The reference of error messages, read from the code that raises them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MESSAGE = {"Refused": (1, 2), "BadBody": (1,), "_rejection": (2,)}
"""Which arguments of an error are its text; the first one of all others."""

ERRORS = {
    "ConfigurationError", "ImproperlyConfigured", "MiddlewareNotUsed", "LimitChanged", "StoreError", "StoreBusy",
    "StoreBlocked", "SchemaTooNew", "TooOld", "OperationalError", "DeliveryRefused", "_later", "Rejected",
    "CommandError", "ClickException", "UsageError", *MESSAGE,
}  # fmt: skip
"""The errors whose text a person sees."""

PLACES = {
    "Command line": ("token_limit_core/cli/", "token_limit_django/management/"),
    "Limits, plans and tenants": ("token_limit_core/limits/", "token_limit_core/management/"),
    "Answers of a backend": ("token_limit_core/ingest/",),
    "Stores": ("token_limit_core/stores/", "token_limit_core/delivery/", "token_limit_django/store"),
    "Settings and calls": ("token_limit_",),
}
"""The sections of the page, and the code whose errors are there; the first that fits has them."""

INTRO = """# Error messages

Search this page for a message that you have met. `…` stands for a name, a value or a number. A message names the
setting or argument, the value it got and what is expected. [Troubleshooting](../troubleshooting.md) has the causes and
cures of those about the set-up, and of the log messages.
"""


class Message(NamedTuple):
    """The text of an error, with `…` for what differs, and the file that raises it."""

    text: str
    path: str


def page(root: Path) -> str:
    """Write the page of all messages."""
    found: dict[str, set[str]] = {place: set() for place in PLACES}
    for message in messages(root):
        found[_place(message.path)].add(message.text)
    lines = [INTRO]
    for place, texts in found.items():
        lines += [f"## {place}", "", *(f"- {_code(text)}" for text in sorted(texts, key=str.casefold)), ""]
    return "\n".join(lines)


def messages(root: Path) -> Iterator[Message]:
    """List the messages of the errors that the packages make."""
    for file in sorted(root.glob("token_limit_*/**/*.py")):
        path = file.relative_to(root).as_posix()
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                yield from (Message(text, path) for text in _texts(call))


def _texts(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func).rpartition(".")[2]
    if name not in ERRORS:
        return
    for place in MESSAGE.get(name, (0,)):
        text = _text(call.args[place]) if len(call.args) > place else ""
        if re.search(r"\w{2,} \S{2,}|: \w{2,}", text):  # not only the text of another library's error
            yield text


def _text(node: ast.expr) -> str:
    """Return a constant or formatted string on one line; nothing for other expressions."""
    if isinstance(node, ast.Constant):
        return " ".join(str(node.value).split())
    if isinstance(node, ast.JoinedStr):
        parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        return " ".join("".join(parts).split())
    return ""


def _place(path: str) -> str:
    return next(place for place, starts in PLACES.items() if path.startswith(starts))


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"
