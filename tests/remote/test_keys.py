"""API keys and deliveries as people manage them: by command, and in Django's admin."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from tests.remote import backend as does
from tests.remote.backend import Backend
from token_limit_core import Meter, MeterConfig
from token_limit_core.cli.main import main
from token_limit_core.ingest.keys import digest_of, public_id_of
from token_limit_core.stores import open_store
from token_limit_django.meter import get_store

TOKEN = re.compile(r"tl_[0-9a-f]{12}_[\w-]{43}")
LIST, ADD = "admin:token_limit_apikey_changelist", "admin:token_limit_apikey_add"
CHANGES = "admin:token_limit_limitchange_changelist"


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


def person(*permissions: str) -> Client:
    user = User.objects.create_user(f"person {User.objects.count()}", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=permissions, content_type__app_label="token_limit")
    )
    client = Client()
    client.force_login(user)
    return client


def add(client: Client, **fields: Any) -> Any:
    data = {"account": "north", "name": "shop", "tenant_names": "acme\neu-*", "chosen": ["ingest", "check"], **fields}
    return client.post(reverse(ADD), data, follow=True)


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_a_key_is_made_in_the_admin_with_its_token_shown_once_and_revoked() -> None:
    staff = person("add_apikey", "view_apikey", "change_apikey")
    token = token_of(add(staff).content.decode())
    (key,) = get_store().api_keys()
    assert (key.account, key.tenants, key.digest) == ("north", ("acme", "eu-*"), digest_of(token))
    page = staff.get(reverse(LIST)).content.decode()
    assert f"tl_{key.public_id}" in page
    assert token not in page
    detail = staff.get(reverse("admin:token_limit_apikey_change", args=[key.public_id])).content.decode()
    assert key.digest not in detail
    assert 'name="_save"' not in detail

    answer = staff.post(reverse(LIST), {"action": "revoke", "_selected_action": [key.public_id]}, follow=True)
    assert "1 revoked." in answer.content.decode()
    assert get_store().api_keys()[0].revoked_at is not None
    assert [entry.get_change_message() for entry in LogEntry.objects.order_by("id")] == [
        "Made for “north”: ingest, check for acme, eu-*.",
        "Revoked.",
    ]
    assert [(row.kind, row.actor, row.filter) for row in get_store().history()] == [
        ("revoke-key", "person 0", key.public_id),
        ("make-key", "person 0", key.public_id),
    ]
    changes = re.sub(r"<[^>]+>", " ", person("view_limit").get(reverse(CHANGES), follow=True).content.decode())
    for what in ("revoked", "made"):
        assert f"person 0 – API key tl_{key.public_id} {what}" in " ".join(changes.split())


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_spaces_are_part_of_the_tenants_of_a_key(tmp_path: Path) -> None:
    add(person("add_apikey", "view_apikey"), tenant_names=" acme\n\neu-*")
    assert get_store().api_keys()[0].tenants == (" acme", "eu-*")
    run(f"sqlite:///{tmp_path}/spend.db", "keys", "create", "north", " acme")
    assert open_store(f"sqlite:///{tmp_path}/spend.db").api_keys()[0].tenants == (" acme",)


@pytest.mark.django_db(databases="__all__", transaction=True)
@pytest.mark.parametrize(
    "fields", [{"account": ""}, {"tenant_names": " "}, {"tenant_names": "x" * 300}, {"chosen": []}]
)
def test_a_key_that_nobody_could_use_is_not_made_in_the_admin(fields: dict[str, Any]) -> None:
    page = add(person("add_apikey", "view_apikey"), **fields).content.decode()
    assert "errornote" in page
    assert get_store().api_keys() == []


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_keys_are_for_those_who_may() -> None:
    assert add(person("view_apikey")).status_code == 403
    assert person("view_limit").get(reverse(LIST)).status_code == 403
    add(person("add_apikey", "view_apikey"))
    (key,) = get_store().api_keys()
    person("view_apikey").post(reverse(LIST), {"action": "revoke", "_selected_action": [key.public_id]})
    assert get_store().api_keys()[0].revoked_at is None
