"""What a reader may search for is found on the site: names, settings, check ids, commands, messages."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache

import pytest

from docs import generated
from tests.pages import PAGES, ROOT
from tests.unit.test_public_names import DOCUMENTED, EXPORTED, METER

PACKAGES = ("token_limit_core", "token_limit_django", "token_limit_flask", "token_limit_starlette")
_FIELDS = re.compile(r"%[.\d]*[a-z]| \(%d times since the last message\)|[;:,]")


@cache
def site() -> str:
    """Return the text of all pages, with the names that the API reference takes from docstrings."""
    api = (ROOT / "docs" / "reference" / "api.md").read_text()
    return "\n".join(
        [
            *((ROOT / page).read_text() for page in PAGES),
            *generated.pages(ROOT).values(),
            *(name for path in re.findall(r"^::: (\S+)$", api, re.MULTILINE) for name in referenced(path)),
        ]
    )


def referenced(path: str) -> list[str]:
    """List the name of an object of the API reference, and those of its public members."""
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name, None) or importlib.import_module(path)
    members = [key for key in dir(found) if not key.startswith("_")] if not inspect.isfunction(found) else []
    return [name, *members]


def calls(folder: str) -> Iterator[tuple[str, ast.Call]]:
    """List the calls in the code of a package, each with the source of what is called."""
    for file in (ROOT / folder).rglob("*.py"):
        text = file.read_text()
        if "logger" in text or "log_fault" in text or "raise " in text:
            yield from ((ast.unparse(node.func), node) for node in ast.walk(ast.parse(text)) if type(node) is ast.Call)


def fragment(message: str) -> str:
    """Return the first phrase of a message that is the same in every process."""
    parts = [part.strip(" (") for part in _FIELDS.split(message)]
    return next((part for part in parts if " " in part and len(part) > 8), "")


def constant(call: ast.Call) -> str:
    """Return the constant text that a call begins with, or nothing."""
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def raised() -> Iterator[tuple[str, ast.Call]]:
    """List the errors that the code raises, apart from Python's own, each with the name of its class."""
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                yield ast.unparse(node.exc.func), node.exc


def phrases(error: ast.Call) -> set[str]:
    """Return the constant parts of an error's text that are long enough to search for."""
    texts = [
        part
        for argument in error.args
        if isinstance(argument, ast.Constant | ast.JoinedStr)
        for part in ast.walk(argument)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    return {text for part in texts if len(text := " ".join(part.value.split())) > 15}


@cache
def logged() -> list[str]:
    """List the constant messages that are logged as warnings or errors."""
    levels = {"logger.warning", "logger.error", "logger.exception", "log_fault"}
    found = [constant(call) for package in PACKAGES for name, call in calls(package) if name in levels]
    return [message for message in found if fragment(message)]


def words(names: set[str]) -> set[str]:
    """Return the names that the site does not have."""
    return names - set(re.findall(r"\w+", site()))


def test_every_public_name_is_found() -> None:
    names = {name for listed in (EXPORTED, DOCUMENTED) for group in listed.values() for name in group}
    assert words(names | set(METER)) == set()


def test_every_management_command_is_found() -> None:
    commands = (ROOT / "token_limit_django" / "management" / "commands").glob("token_limit*.py")
    assert words({command.stem for command in commands}) == set()


def test_every_log_message_is_found() -> None:
    assert len(logged()) > 40
    assert [message for message in logged() if fragment(message) not in site()] == []


@pytest.mark.parametrize("package", ["token_limit_django", "token_limit_flask", "token_limit_starlette"])
def test_every_error_of_the_set_up_is_found(package: str) -> None:
    found = [constant(call) for name, call in calls(package) if name in ("ConfigurationError", "ImproperlyConfigured")]
    assert [message for message in found if fragment(message) not in site()] == []


def test_every_error_message_is_found() -> None:
    missing = {
        name: absent
        for name, error in raised()
        if not hasattr(builtins, name) and (absent := {part for part in phrases(error) if part not in site()})
    }
    assert missing == {}
