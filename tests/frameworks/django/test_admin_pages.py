"""The pages of the console in Django's admin: the same answers, behind the admin's sign-in and permissions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from token_limit_core.console.routes import ROUTES
from token_limit_core.events import LLMEvent
from token_limit_core.stores.records import Call, Refusal
from token_limit_django.admin.pages import PERMISSIONS
from token_limit_django.meter import get_meter

USD = 10**9
FORM = "application/x-www-form-urlencoded"
pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


def person(*permissions: str, staff: bool = True, csrf: bool = False) -> Client:
    user = User.objects.create_user(f"person {User.objects.count()}", is_staff=staff)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=permissions, content_type__app_label="token_limit")
    )
    client = Client(enforce_csrf_checks=csrf)
    client.force_login(user)
    return client


EVERYTHING = [name for names in PERMISSIONS.values() for name in names]


def address(path: str = "") -> str:
    return reverse("admin:token_limit_overview_changelist") + path


def fill(tenants: int = 3) -> None:
    meter = get_meter()
    now = meter.config.clock()
    events = [
        (LLMEvent(f"e{n}", f"tenant-{n}", model="gpt-5", provider="openai", timestamp=now, user="ann"), 9 * USD)
        for n in range(tenants)
    ]
    meter.store.record(events, now)
    for n in range(tenants):
        meter.set_limit(f"tenant-{n}", 10)
    meter.set_plan("pro", [{"amount": 5}])
    minute = int(now // 60) * 60
    meter.store.add_refusals([Refusal("tenant-0", minute, "exhausted", "per_month", 3, now, "gpt-5")])


def text(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


def test_the_index_of_the_admin_leads_to_the_overview() -> None:
    client = person("view_tenant")
    assert f'href="{address()}"' in text(client.get(reverse("admin:index")))
    assert address() not in text(person("view_apikey").get(reverse("admin:index")))


def test_the_questions_of_support_are_answered_from_the_overview() -> None:
    fill()
    client = person(*EVERYTHING)
    overview = text(client.get(address()))
    assert "<b>3</b> near a limit" in overview
    assert "<b>3</b> Limit used up" in overview
    assert "$27.00" in overview
    assert "Django administration" in overview
    near = text(client.get(address("tenants"), {"show": "near"}))
    assert near.count('class="window"') == 3
    tenant = text(client.get(address("tenant"), {"id": "tenant-0"}))
    for part in ("By", "Top up", "Suspend", "Rename", "Limit used up", "Latest events", "Latest changes"):
        assert part in tenant
    assert "Limit used up" in text(client.get(address("refusals")))
    assert client.get(address("no/such/page")).status_code == 404


def test_files_are_the_same_as_those_of_the_console() -> None:
    fill()
    client = person(*EVERYTHING)
    found = json.loads(client.get(address("tenants.json"), {"sort": "spend"}).content)
    assert found["total"] == 3
    response = client.get(address("refusals.csv"))
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert b"tenant-0,exhausted,per_month,3" in b"".join(response.streaming_content)  # type: ignore[attr-defined]
    for name in ("console.css", "console.js"):
        assert client.get(address(f"static/{name}")).status_code == 200
    assert client.get(address("static/no.css")).status_code == 404


def test_actions_are_carried_out_under_the_name_of_the_user() -> None:
    fill()
    client = person(*EVERYTHING)
    meter = get_meter()
    done = client.post(address("tenant/top-up"), "id=tenant-0&limit=per_month+&usd=5", FORM)
    assert (done.status_code, done["Location"]) == (303, address("tenant?id=tenant-0&said=topped-up"))
    assert meter.usage("tenant-0")[0].ceiling == 15 * USD
    assert meter.store.history("tenant-0")[0].actor == "person 0"
    client.post(address("tenants/change"), "id=tenant-1&id=tenant-2&change=suspend&confirmed=yes", FORM)
    assert meter.store.standings(meter.config.clock()).suspended == 2


def test_limits_and_plans_are_edited_by_clicks_under_the_name_of_the_user() -> None:
    fill()
    client, meter = person(*EVERYTHING), get_meter()
    sent = "tenant=tenant-0&amount=2&unit=requests&frequency=per_day&mode=enforce&timezone=Europe/Berlin&user=ann"
    preview = text(client.post(address("limit"), f"{sent}&preview=yes", FORM))
    assert "It would have refused none of the 1 call of the last 30 days." in preview
    assert client.post(address("limit"), sent, FORM).status_code == 303
    own = next(limit for limit in meter.limits("tenant-0") if limit.unit == "requests")
    assert (own.amount, own.timezone, own.filter) == (2, "Europe/Berlin", "user=ann")
    assert client.post(address("plan"), "plan=team&markup=5", FORM).status_code == 303
    found = client.get(address("plan/limit"), {"plan": "team"}).content.decode()
    version = found.partition('name="version" value="')[2].partition('"')[0]
    sent = f"plan=team&version={version}&amount=7&frequency=per_week&mode=strict"
    assert client.post(address("plan/limit"), sent, FORM).status_code == 303
    team = next(plan for plan in meter.store.plans() if plan.name == "team")
    assert [(row.amount, row.frequency, row.mode) for row in team.limits] == [(7 * USD, "per_week", "strict")]
    assert {change.actor for change in meter.store.history()[:3]} == {"person 0"}


def test_a_form_needs_the_token_of_the_admin() -> None:
    fill()
    client = person(*EVERYTHING, csrf=True)
    sent = "id=tenant-0&reason="
    assert client.post(address("tenant/suspend"), sent, FORM).status_code == 403
    page = client.get(address("tenant/suspend"), {"id": "tenant-0"})
    token = page.context["csrf_token"]
    assert client.post(address("tenant/suspend"), f"{sent}&csrfmiddlewaretoken={token}", FORM).status_code == 303


@pytest.mark.parametrize("path", list(ROUTES))
def test_every_page_and_action_refuses_who_has_no_permission_for_it(path: str) -> None:
    fill(1)
    route = ROUTES[path]
    asked = [(method, "", (method == "POST" and route.edit) or route.right) for method in route.handlers]
    asked += [(method, "id=17", route.change) for method in route.handlers if route.change]
    for method, sent, right in asked:
        others = [name for names in PERMISSIONS.values() for name in names if name not in PERMISSIONS[right]]

        def send(one: Client, method: str = method, sent: str = sent) -> Any:
            return one.get(address(f"{path}?{sent}")) if method == "GET" else one.post(address(path), sent, FORM)

        assert send(person(*others)).status_code == 403
        assert {send(person(name)).status_code == 403 for name in PERMISSIONS[right]} == {False}
        for stranger in (person(*EVERYTHING, staff=False), Client()):
            answer = send(stranger)
            assert (answer.status_code, "login" in answer["Location"]) == (302, True)


def test_buttons_are_shown_to_those_who_may_use_them() -> None:
    fill()
    reader = person("view_tenant")
    for path in ("tenants", "tenant?id=tenant-0"):
        shown = text(reader.get(address(path)))
        assert "Set a limit" not in shown
        assert "Suspend" not in shown.replace('<option value="suspended">Suspended', "")
    get_meter().store.admit(Call("call-1", "tenant-0", USD // 10), get_meter().config.clock())
    holds = [text(person(permission).get(address("holds"))) for permission in ("view_hold", "change_hold")]
    assert [">Release<" in shown for shown in holds] == [False, True]
    assert "Change the chosen tenants" in text(person("view_tenant", "change_tenant").get(address("tenants")))


def test_pages_take_as_many_statements_at_a_hundred_tenants_as_at_ten() -> None:
    client, paths = person(*EVERYTHING), ("", "tenants", "tenants?show=near&sort=share", "refusals", "events", "plans")
    paths += ("plan?plan=pro", "plan/limit?plan=pro")
    counts: list[dict[str, int]] = []
    for tenants in (10, 100):
        fill(tenants)
        counts.append({})
        form = f"limit?tenant=tenant-0&id={get_meter().limits('tenant-0')[0].id}"
        for path in (*paths, "tenant?id=tenant-0", "holds", "history", form):
            with CaptureQueriesContext(connections["token_limit"]) as queries:
                text(client.get(address(path)))
            counts[-1][path] = len(queries)
    assert counts[0] == counts[1]
    assert max(counts[1].values()) <= 20


@override_settings(TOKEN_LIMIT={"ENABLED": False, "STORE": "memory://"})
def test_the_pages_show_another_store_too() -> None:
    fill()
    assert "<b>3</b> near a limit" in text(person(*EVERYTHING).get(address()))


def test_the_pages_speak_the_language_of_the_project() -> None:
    fill()
    with override_settings(LANGUAGE_CODE="de"):
        shown = text(person(*EVERYTHING).get(address()))
    assert "Diesen Monat ausgegeben" in shown
    assert "<b>3</b> nahe an einem Limit" in shown
