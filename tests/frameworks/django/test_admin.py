"""The entries of the admin's index, and what each permission lets a person do on the pages that they lead to."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings
from django.urls import reverse

from token_limit_core.events import LLMEvent
from token_limit_core.ingest.keys import make_key
from token_limit_core.stores.records import Call
from token_limit_django.admin.entries import LEADS
from token_limit_django.meter import get_meter, get_store
from token_limit_django.models import ApiKey, Hold, LedgerEntry, Limit, LimitChange, Tenant

NOON = datetime(2026, 11, 15, 12, tzinfo=UTC).timestamp()
USD = 10**9
FORM = "application/x-www-form-urlencoded"

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

ENTRIES: dict[Any, tuple[str, str]] = {
    Limit: ("view_limit", "tenants"),
    LimitChange: ("view_limitchange", "history"),
    Tenant: ("view_tenant", "tenants"),
    Hold: ("view_hold", "holds"),
    LedgerEntry: ("view_ledgerentry", "events"),
    ApiKey: ("view_apikey", "keys"),
}
"""Of each table the permission to view it, and the page that its entry leads to."""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_meter().config, "clock", lambda: NOON)


def person(*permissions: str, staff: bool = True) -> Client:
    user = User.objects.create_user(f"person {User.objects.count()}", is_staff=staff)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=permissions, content_type__app_label="token_limit")
    )
    client = Client()
    client.force_login(user)
    return client


def address(model: Any, view: str, *args: object) -> str:
    return reverse(f"admin:token_limit_{model._meta.model_name}_{view}", args=args)


def place(path: str = "") -> str:
    return reverse("admin:token_limit_overview_changelist") + path


def spend(tenant: str, usd: float, event_id: str = "event", **fields: Any) -> None:
    event = LLMEvent(event_id, tenant, timestamp=NOON, model="gpt-5", provider="openai", **fields)
    get_store().settle(event.event_id, event, round(usd * USD), NOON)


def admit(tenant: str, estimate: int = 0, call_id: str = "call") -> str:
    return get_store().admit(Call(call_id, tenant, estimate), NOON).kind


def page(client: Client, path: str = "") -> str:
    response = client.get(place(path))
    assert response.status_code == 200
    return str(response.content.decode())


def text(shown: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", shown.partition('id="content"')[2]).split())


def post(client: Client, path: str, fields: str) -> Any:
    return client.post(place(path), fields, FORM)


def version(client: Client, path: str) -> str:
    found = re.search(r'name="version" value="([^"]*)"', page(client, path))
    assert found
    return found[1]


# -- the entries of the index ---------------------------------------------------------------------


@pytest.mark.parametrize("model", LEADS)
def test_an_entry_leads_those_who_may_see_it_to_its_page(model: Any) -> None:
    permission, path = ENTRIES[model]
    client = person(permission)
    old = address(model, "changelist")
    assert f'href="{old}"' in client.get(reverse("admin:index")).content.decode()
    assert client.get(old)["Location"] == place(path)
    assert client.get(old, follow=True).status_code == 200
    assert client.get(old, {"q": "x y"})["Location"] == place(f"{path}?q=x+y")
    for gone in ("17", "it's_2Fgone"):
        assert client.get(address(model, "change", gone))["Location"] == place(path)


@pytest.mark.parametrize("model", LEADS)
def test_every_old_address_refuses_who_has_no_permission_for_it(model: Any) -> None:
    others = person(*{name for name, path in ENTRIES.values() if path != ENTRIES[model][1]} - {"view_limit"})
    views = (address(model, "changelist"), address(model, "add"))
    views += tuple(address(model, view, "17") for view in ("change", "delete", "history"))
    for old in views:
        assert others.get(old).status_code == 403
        for stranger in (person(ENTRIES[model][0], staff=False), Client()):
            answer = stranger.get(old)
            assert (answer.status_code, "login" in answer["Location"]) == (302, True)
    assert views[0] not in others.get(reverse("admin:index")).content.decode()


def test_an_old_link_to_a_row_leads_to_where_it_is_shown_now() -> None:
    client = person(*(permission for permission, _ in ENTRIES.values()))
    limit = get_meter().set_limit("acme/7 & co", 5).id
    get_meter().set_plan("pro", [{"amount": 5}])
    admit("acme/7 & co", USD)
    spend("acme/7 & co", 1, "one")
    key = make_key("north", ["acme"], now=NOON).key
    get_store().add_api_key(key, "ann")
    tenant = "id=acme%2F7+%26+co"
    shown = {
        address(Limit, "change", limit): f"tenant?{tenant}",
        address(Limit, "history", limit): f"tenant?{tenant}",
        address(Limit, "delete", limit): f"tenant?{tenant}",
        address(Limit, "change", Limit.objects.get(plan="pro").pk): "plans",
        address(Tenant, "change", "acme_2F7 & co"): f"tenant?{tenant}",
        address(Hold, "change", "call"): "holds?tenant=acme%2F7+%26+co",
        address(LedgerEntry, "change", LedgerEntry.objects.get().pk): "events?call=one&from=2026-11-15",
        address(LimitChange, "change", LimitChange.objects.latest("id").pk): "history?tenant=",
        address(ApiKey, "change", key.public_id): "keys",
    }
    assert {old: client.get(old)["Location"] for old in shown} == {old: place(new) for old, new in shown.items()}
    assert {client.get(old, follow=True).status_code for old in shown} == {200}


def test_the_index_leads_to_the_forms_of_a_new_limit_and_a_new_key() -> None:
    client = person("add_limit", "add_apikey", "add_tenant", "add_ledgerentry")
    for model, path in ((Limit, "limit"), (ApiKey, "keys")):
        assert address(model, "add") in client.get(reverse("admin:index")).content.decode()
        assert client.get(address(model, "add"))["Location"] == place(path)
    for model in (Tenant, Hold, LedgerEntry, LimitChange):
        assert client.get(address(model, "add")).status_code == 403


def test_a_form_of_an_old_page_saves_nothing_and_does_not_seem_to() -> None:
    root = Client()
    root.force_login(User.objects.create_superuser("root"))
    get_meter().set_limit("acme", 5)
    admit("acme", USD)
    spend("acme", 1, "one")
    for model in (Limit, Tenant, Hold, LedgerEntry):
        row = model.objects.first()
        action = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
        assert root.post(address(model, "changelist"), action).status_code == 405
        assert root.post(address(model, "change", row.pk), {"amount": "0", "name": "x"}).status_code == 405
        assert root.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 405
        assert list(model.objects.all().values()) == list(model.objects.filter(pk=row.pk).values())
    new = {"tenant_id": "new", "frequency": "per_month", "mode": "enforce", "limit_usd": "5"}
    assert root.post(address(Limit, "add"), new).status_code == 405
    assert Limit.objects.count() == 1


def test_the_index_speaks_the_language_of_the_project() -> None:
    with override_settings(LANGUAGE_CODE="de"):
        shown = person(*(permission for permission, _ in ENTRIES.values())).get(reverse("admin:index"))
        for name in ("Token-Limits", "Übersicht", "Mandanten", "Ereignisse", "Reservierungen", "Änderungen"):
            assert f">{name}</a>" in shown.content.decode()
        assert ">Token-Limits</a>" in page(person("view_tenant")).partition("breadcrumbs")[2]


# -- what each permission allows ------------------------------------------------------------------


def test_a_limit_that_one_may_add_stops_the_next_call_and_is_noted() -> None:
    client = person("add_limit")
    spend("acme", 3)
    assert admit("acme", call_id="before") == "admitted"
    saved = post(client, "limit", "tenant=acme&amount=2.50&frequency=per_month&mode=enforce")
    assert (saved.status_code, client.get(saved["Location"]).status_code) == (303, 200)
    assert admit("acme", call_id="after") == "exhausted"
    limit = Limit.objects.get()
    assert post(client, "limit", f"tenant=acme&id={limit.pk}&amount=9").status_code == 403
    assert client.get(place(f"limit?tenant=acme&id={limit.pk}")).status_code == 403
    assert post(client, "limit/remove", f"tenant=acme&id={limit.pk}").status_code == 403
    assert (Limit.objects.get().amount, Limit.objects.db) == (2_500_000_000, "token_limit")
    assert "person 0 acme Set to $2.50 per month (enforce)" in text(page(person("view_limit"), "history"))


def test_a_raise_by_one_who_may_change_limits_is_honoured_by_the_next_call() -> None:
    limit = get_meter().set_limit("acme", 5).id
    spend("acme", 5)
    assert admit("acme") == "exhausted"
    client = person("change_limit")
    path = f"limit?tenant=acme&id={limit}"
    sent = f"tenant=acme&id={limit}&version={version(client, path)}&amount=7.5&frequency=per_month&mode=enforce"
    assert post(client, "limit", sent).status_code == 303
    assert admit("acme") == "admitted"
    assert post(client, "limit", "tenant=acme&amount=1&frequency=per_day&mode=enforce").status_code == 403
    assert post(client, "limit/remove", f"tenant=acme&id={limit}").status_code == 403
    assert [row.amount for row in Limit.objects.all()] == [7_500_000_000]
    stale = post(client, "limit", sent)
    assert stale.status_code == 409
    assert "it is $7.50 (enforce) now. Save again to replace it." in text(stale.content.decode())


def test_those_who_may_delete_limits_remove_one_or_those_of_many() -> None:
    client = person("delete_limit")
    limit = get_meter().set_limit("acme", 0).id
    for tenant in ("globex", "initech", "kept"):
        get_meter().set_limit(tenant, 1)
    assert admit("acme") == "exhausted"
    gone = version(client, f"limit/remove?tenant=acme&id={limit}")
    assert post(client, "limit/remove", f"tenant=acme&id={limit}&version={gone}").status_code == 303
    assert admit("acme") == "admitted"
    chosen = "id=globex&id=initech&id=acme&change=remove"
    assert post(person("change_limit", "change_tenant"), "tenants/change", f"{chosen}&confirmed=yes").status_code == 400
    assert "globex" in text(post(client, "tenants/change", chosen).content.decode())
    done = post(client, "tenants/change", f"{chosen}&confirmed=yes")
    assert done["Location"] == place("tenants?changed=2&left=1")
    assert [row.tenant_id for row in Limit.objects.all()] == ["kept"]


def test_with_permission_to_view_one_sees_the_limit_and_changes_nothing() -> None:
    limit = get_meter().set_limit("acme", 5).id
    spend("acme", 1)
    viewer = person("view_limit")
    for path in ("tenants", "tenant?id=acme"):
        shown = page(viewer, path)
        assert "$1.00 of $5.00 (20 %)" in text(shown)
        assert "/limit?tenant" not in shown and "limit/remove" not in shown
    for path, fields in (
        ("limit", "tenant=other&amount=99"),
        ("limit", f"tenant=acme&id={limit}&amount=99"),
        ("limit/remove", f"tenant=acme&id={limit}"),
        ("tenant/top-up", "id=acme&limit=per_month+&usd=5"),
        ("tenant/name", "id=acme&name=x"),
    ):
        assert post(viewer, path, fields).status_code == 403
    assert Limit.objects.get().amount == 5 * USD


def test_buttons_are_those_of_the_permissions() -> None:
    get_meter().set_limit("acme", 5)
    buttons = {"add_limit": "Set a limit", "change_limit": "Top up"}
    buttons |= {"delete_limit": "Remove", "change_tenant": "Rename"}
    for permission in buttons:
        shown = text(page(person(permission), "tenant?id=acme"))
        assert [name for name, button in buttons.items() if button in shown] == [permission]


def test_a_tenants_name_is_given_by_those_who_may_change_tenants() -> None:
    get_meter().set_limit("acme/7", 5)
    assert post(person("change_tenant"), "tenant/name", "id=acme%2F7&name=Acme+%26+Sons").status_code == 303
    assert Tenant.objects.get().name == "Acme & Sons"
    assert "Acme &amp; Sons" in page(person("view_tenant"), "tenants?q=sons")
    assert "<title>Acme &amp; Sons |" in page(person("view_tenant"), "tenant?id=acme%2F7")


def test_holds_are_found_and_released_by_those_who_may_change_holds() -> None:
    for tenant in ("acme", "beta"):
        get_meter().set_limit(tenant, 1)
    admit("acme", USD, "stuck")
    admit("beta", USD, "other")
    get_meter().name_tenant("beta", "Beta Ltd")
    found = page(person("view_hold"), "holds?q=Beta+Ltd")
    assert ("other" in found, "stuck" in found, ">Release" in found) == (True, False, False)
    assert post(person("view_hold"), "holds/release", "call_id=stuck").status_code == 403
    assert admit("acme", call_id="next") == "busy"
    client = person("change_hold")
    both = post(client, "holds/release", "call_id=stuck&call_id=other")
    assert "Released." in text(client.get(both["Location"]).content.decode())
    assert admit("acme", call_id="next") == "admitted"
    assert set(Hold.objects.filter(state="released").values_list("call_id", flat=True)) == {"stuck", "other"}
    assert "Hold of $1.00 released" in text(page(person("view_limitchange"), "history"))


def test_keys_are_made_by_those_who_may_add_them_and_revoked_by_those_who_may_change_them() -> None:
    maker, revoker, viewer = person("add_apikey"), person("change_apikey"), person("view_apikey")
    sent = "account=north&name=shop&tenants=acme%0Aeu-*&may-ingest=yes&form=0123456789abcdef"
    for other in (revoker, viewer):
        assert post(other, "keys", sent).status_code == 403
        assert "Make a key" not in page(other, "keys")
    assert "tl_" in post(maker, "keys", sent).content.decode()
    (key,) = get_store().api_keys()
    for other in (maker, viewer):
        assert post(other, "keys/revoke", f"key={key.public_id}").status_code == 403
        assert ">Revoke<" not in page(other, "keys")
    assert post(revoker, "keys/revoke", f"key={key.public_id}").status_code == 303
    assert get_store().api_keys()[0].revoked_at == NOON
    assert [(row.kind, row.actor) for row in get_store().history()] == [
        ("revoke-key", "person 1"), ("make-key", "person 0"),
    ]  # fmt: skip


# -- every page -----------------------------------------------------------------------------------

EVIL = "<script>alert('x')</script>"
SHOWN = ("", "tenants", f"tenant?id={EVIL}", f"limit?tenant={EVIL}", "holds", f"events?tenant={EVIL}", "history")


def test_names_are_escaped_and_nothing_is_inline() -> None:
    root = Client()
    root.force_login(User.objects.create_superuser("root"))
    get_meter().set_limit(EVIL, 5)
    admit(EVIL, USD, "<b>call")
    spend(EVIL, 1, "<b>event", error="<b>error", user="<b>user")
    get_meter().name_tenant(EVIL, "<b>name")
    for path in SHOWN:
        shown = page(root, path)
        assert "<script>alert" not in shown and "<b>name" not in shown and "<b>e" not in shown and "<b>c" not in shown
        assert "&lt;script&gt;alert" in shown or "&lt;b&gt;name" in shown
        content = shown.partition('id="content"')[2].partition('id="footer"')[0]
        assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>|\sstyle=|\son\w+=|<style", content)
