from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from django.core.management import CommandError, call_command
from flask import Flask

from token_limit_core import Meter, MeterConfig
from token_limit_core.cli.main import main
from token_limit_django.meter import get_meter as django_meter
from token_limit_flask import TokenLimit, get_meter


class Ran(NamedTuple):
    """What a command wrote, and its exit code."""

    output: str
    exit_code: int


Run = Callable[..., Ran]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/spend.db"


@pytest.fixture
def meter(store: str) -> Iterator[Meter]:
    """Another process's Meter over the store."""
    with Meter(MeterConfig(store=store)) as meter:
        meter.store.check()
        yield meter


def runner(store: str) -> Run:
    def run(*args: str) -> Ran:
        result = CliRunner().invoke(main, ["--store", store, *args], prog_name="token-limit")
        return Ran(result.output, result.exit_code)

    return run


@pytest.fixture(params=["token-limit", "flask token-limit", "manage.py token_limit"])
def run(request: pytest.FixtureRequest, store: str, meter: Meter, settings: object) -> Iterator[Run]:
    """Each of the three command lines over the store."""
    if request.param == "token-limit":
        yield runner(store)
    elif request.param == "flask token-limit":
        app = Flask(__name__)
        TokenLimit(app, store=store)
        with get_meter(app):
            yield lambda *args: _flask(app, args)
    else:
        settings.TOKEN_LIMIT = {"STORE": store}  # type: ignore[attr-defined]
        with django_meter():
            yield _django


def _flask(app: Flask, args: tuple[str, ...]) -> Ran:
    result = app.test_cli_runner().invoke(args=["token-limit", *args])
    return Ran(result.output, result.exit_code)


def _django(*args: str) -> Ran:
    out = io.StringIO()
    try:
        call_command("token_limit", *args, stdout=out, skip_checks=True)
    except CommandError as error:
        return Ran(f"{out.getvalue()}Error: {error}", error.returncode)
    return Ran(out.getvalue(), 0)
