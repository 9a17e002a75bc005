"""API keys and deliveries as people manage them by command."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from django.core.management import CommandError, call_command

from tests.remote import backend as does
from tests.remote.backend import Backend
from token_limit_core import Meter, MeterConfig
from token_limit_core.cli.main import main
from token_limit_core.ingest.keys import digest_of, public_id_of
from token_limit_core.stores import open_store
from token_limit_django.meter import get_store

TOKEN = re.compile(r"tl_[0-9a-f]{12}_[\w-]{43}")


def token_of(text: str) -> str:
    (token,) = set(TOKEN.findall(text))
    return str(token)


def run(store: str, *arguments: str, **env: str) -> Result:
    return CliRunner().invoke(main, ["--store", store, *arguments], env=env, prog_name="token-limit")


def test_a_key_is_made_listed_and_revoked_by_command(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/spend.db"
    assert "store: there is no file" in run(url, "keys", "list").output
    token = token_of(run(url, "keys", "create", "north", "acme", "eu-*", "--name", "shop").output)
    key = open_store(url).api_key(str(public_id_of(token)))
    assert key is not None
    assert (key.account, key.tenants, key.permissions, key.digest) == (
        "north",
        ("acme", "eu-*"),
        ("ingest", "check"),
        digest_of(token),
    )

    listed = run(url, "keys", "list").output
    assert f"tl_{key.public_id}  north (shop): ingest, check for acme, eu-*; made " in listed
    assert token not in listed
    assert run(url, "keys", "list", "--account", "south").output == "There are no keys.\n"
    assert run(url, "keys", "revoke", f"tl_{key.public_id}").output == f"tl_{key.public_id} is revoked.\n"
    assert "revoked already" in run(url, "keys", "revoke", key.public_id).output
    assert "; revoked " in run(url, "keys", "list").output
    assert [row.actor for row in open_store(url).history()] == ["command line"] * 2
    unknown = run(url, "keys", "revoke", "tl_nothing")
    assert (unknown.exit_code, "there is no tl_nothing" in unknown.output) == (2, True)


def test_refused_events_are_counted_and_let_go_by_command(tmp_path: Path) -> None:
    with Backend() as backend:
        backend.scripts["events"] = [does.status(401)]
        homes: list[dict[str, Any]] = [{"spool": f"{tmp_path}/spool.db"}, {"store": f"sqlite:///{tmp_path}/spend.db"}]
        for home in homes:
            backend.scripts["events"] = [does.status(401)]
            with Meter(MeterConfig(url=backend.url, on_flush_error=lambda error: None, **home)) as meter:
                meter.track_manually(provider="openai", model="gpt-4o-mini", input_tokens=1, output_tokens=1)
                assert meter.flush(20)
            before = len(backend.events)
            options = [part for name, value in home.items() for part in (f"--{name}", value)]
            command = ["--url", backend.url, *options, "deliveries"]
            runner = CliRunner(env={"TOKEN_LIMIT_API_KEY": "k1"})
            assert runner.invoke(main, [*command, "status"]).output == "waiting 0, parked 1\n"
            assert "1 events were let go again; waiting 0, parked 0." in runner.invoke(main, [*command, "retry"]).output
            assert len(backend.events) == before + 1
            assert backend.seen[-1][2] == "Bearer k1"


def test_without_a_backend_there_are_no_deliveries() -> None:
    done = run("memory://", "deliveries", "status")
    assert (done.exit_code, "there is no backend" in done.output) == (2, True)


def manage(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_a_key_is_made_listed_and_revoked_by_management_command() -> None:
    token = token_of(manage("token_limit_keys", "create", "north", "*", "--permission", "set-limit"))
    public_id = str(public_id_of(token))
    assert "north: set-limit for *; made" in manage("token_limit_keys", "list")
    assert manage("token_limit_keys", "revoke", public_id) == f"tl_{public_id} is revoked.\n"
    key = get_store().api_key(public_id)
    assert key is not None
    assert key.revoked_at is not None
    with pytest.raises(CommandError, match="there is no tl_x"):
        manage("token_limit_keys", "revoke", "x")
    with pytest.raises(CommandError, match="there is no backend"):
        manage("token_limit_deliveries", "status")


def test_spaces_are_part_of_the_tenants_of_a_key(tmp_path: Path) -> None:
    run(f"sqlite:///{tmp_path}/spend.db", "keys", "create", "north", " acme")
    assert open_store(f"sqlite:///{tmp_path}/spend.db").api_keys()[0].tenants == (" acme",)
