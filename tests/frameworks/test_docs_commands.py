"""The commands that the pages list for Django and Flask: each is typed as it stands, and works."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager, nullcontext

import click
import pytest
from django.core.management import CommandError, call_command
from flask import Flask

from tests.pages import blocks
from token_limit_core import Meter
from token_limit_django.meter import get_meter as django_meter
from token_limit_flask import TokenLimit
from token_limit_flask import get_meter as flask_meter


def commands(page: str) -> list[list[str]]:
    """List the words of the commands of a page's section, without prompts and comments."""
    lines = [line for block in blocks(page, "## Commands", "console") for line in block.code.splitlines()]
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]


def spend(meter: Meter) -> None:
    """Let the tenant of the pages have an event."""
    meter.track_manually(provider="openai", model="gpt-4o", input_tokens=1, output_tokens=1, tenant_id="acme")


def without_backend(name: str) -> AbstractContextManager[object]:
    """Expect the commands about deliveries to say that events are delivered nowhere."""
    if not name.endswith("deliveries"):
        return nullcontext()
    return pytest.raises((click.UsageError, CommandError), match="there is no backend that events are delivered to")


@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize("page", ["docs/admin.md", "docs/django.md"])
def test_the_commands_for_django_work(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    spend(django_meter())
    typed = commands(page)
    assert len(typed) > 5
    for words in typed:
        name, *arguments = words[words.index("manage.py") + 1 :]
        if name != "token_limit_doctor" and "--help" not in arguments:  # which have tests of their own
            with without_backend(name):
                call_command(name, *arguments)
    assert "acme" in capsys.readouterr().out


def test_the_commands_for_flask_work() -> None:
    app = Flask("x")
    app.config["TOKEN_LIMIT_STORE"] = "memory://"
    TokenLimit(app)
    typed = commands("docs/flask.md")
    assert len(typed) > 5
    with flask_meter(app) as meter:
        spend(meter)
        for program, *words in typed:
            assert program == "flask"
            with without_backend(words[1]):
                app.test_cli_runner().invoke(args=words, standalone_mode=False, catch_exceptions=False)
