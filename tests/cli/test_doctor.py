"""`doctor`: what is metered and what is not, in words, and an exit code that says whether something is wrong."""

from __future__ import annotations

import io
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import flask_login  # type: ignore[import-untyped]
import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from flask import Flask

from tests.cli.conftest import Run, runner
from token_limit_core import Meter
from token_limit_core.events import LLMEvent
from token_limit_flask import TokenLimit, get_meter

SECTIONS = ["SDKs", "Store", "Settings", "Recent calls"]


def section(text: str, title: str) -> str:
    found = re.search(rf"^{title}\n((?:  .*\n)*)", text, re.MULTILINE)
    assert found, text
    return found[1]


def test_the_doctor_says_what_is_metered_and_what_holds(run: Run, store: str, meter: Meter) -> None:
    text, code = run("doctor")
    assert code == 0, text
    assert [line for line in text.splitlines() if not line.startswith("  ")] == [*SECTIONS, "Everything is in order."]
    (openai,) = (
        line for line in section(text, "SDKs").splitlines() if f" openai {metadata.version('openai')} " in line
    )
    assert "metered: chat.completions, " in openai
    assert "not metered: videos, " in openai
    assert f"SqlStore at {store} answers, with schema version " in section(text, "Store")
    assert "on_unpriced = 'assume': " in section(text, "Settings")
    assert "every call of the last 7 days has a price" in section(text, "Recent calls")


def test_the_doctor_finds_calls_without_a_price_or_a_tenant(run: Run, meter: Meter) -> None:
    now = meter.config.clock()
    event = LLMEvent("a", "", provider="openai", model="gpt-99", timestamp=now)
    meter.store.settle("a", event, None, now)
    found = section(run("doctor").output, "Recent calls")
    assert "gpt-99: no price was known for 1 call in 7 days" in found
    assert "calls without a tenant this month: 1, for $0.00" in found
    assert "nothing limits them" in found
    meter.set_limit("", 5)
    assert "a limit holds them" in run("doctor").output


@pytest.mark.parametrize(
    "store",
    ["sqlite:///{}/missing.db", "postgresql+psycopg://nobody:hunter2@127.0.0.1:9/nothing"],
    ids=["file", "server"],
)
def test_a_store_that_cannot_be_used_is_wrong(store: str, tmp_path: Path) -> None:
    text, code = runner(store.format(tmp_path))("doctor")
    assert code == 1
    assert "  WRONG " in section(text, "Store")
    assert text.endswith("1 thing is wrong.\n")
    assert "hunter2" not in text
    assert list(tmp_path.iterdir()) == []


def test_outside_of_an_application_nobody_knows_its_users(store: str, meter: Meter) -> None:
    text, code = runner(store)("doctor", "--user", "alice")
    assert code == 0
    assert "only an application knows its users" in section(text, "Who pays")


@pytest.mark.django_db
@pytest.mark.parametrize("resolver", [None, "tests.cli.test_doctor.tenant_of", "tests.cli.test_doctor.broken"])
def test_django_says_who_a_user_pays_as(settings: Any, resolver: str | None) -> None:
    settings.TOKEN_LIMIT = {"STORE": "memory://", "TENANT_RESOLVER": resolver}
    user = get_user_model().objects.create_user("alice")
    expected = {
        None: f"alice pays as user:{user.pk}, which has no limit",
        "tests.cli.test_doctor.tenant_of": "alice pays as team-alice, which has no limit",
        "tests.cli.test_doctor.broken": "WRONG  alice: the resolver failed: RuntimeError: no team",
    }[resolver]
    assert expected in _doctor("--user", "alice")
    assert expected.replace("alice pays", f"{user.pk} pays").replace("WRONG  alice", f"WRONG  {user.pk}") in _doctor(
        "--user", str(user.pk)
    )
    assert "WRONG  nobody: user: there is no 'nobody'" in _doctor("--user", "nobody")


def tenant_of(request: Any) -> str:
    return f"team-{request.user.username}"


def broken(request: Any) -> str:
    raise RuntimeError("no team")


def _doctor(*arguments: str) -> str:
    out = io.StringIO()
    with suppress(CommandError):
        call_command("token_limit_doctor", *arguments, stdout=out, skip_checks=True)
    return out.getvalue()


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, id: str) -> None:
        self.id = id
        self.team = f"team-{id}"


def test_flask_says_who_a_user_pays_as() -> None:
    app = Flask(__name__)
    app.secret_key = "x"
    TokenLimit(app, store="memory://", user_tenant_attributes=["team"])
    with get_meter(app) as meter:
        run = app.test_cli_runner()
        assert "this app has no Flask-Login" in run.invoke(args=["token-limit", "doctor", "--user", "alice"]).output
        manager = flask_login.LoginManager(app)
        manager.user_loader(lambda id: User(id) if id == "alice" else None)
        meter.set_limit("team-alice", 5)
        shown = run.invoke(args=["token-limit", "doctor", "--user", "alice"])
        assert "alice pays as team-alice, which has 1 limit\n" in shown.output
        unknown = run.invoke(args=["token-limit", "doctor", "--user", "bob"])
        assert (unknown.exit_code, "the user_loader knows no 'bob'" in unknown.output) == (1, True)
