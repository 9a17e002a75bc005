"""Plans by clicks: made, given limits and a markup, changed and removed, each under the name of who did it."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from token_limit_core import Meter
from token_limit_core.stores.contract import Store

from .mounts import Client
from .site import USD

LIMIT = {"plan": "pro", "amount": "25", "frequency": "per_month", "mode": "enforce"}


@pytest.fixture
def meter(meter: Meter) -> Meter:
    meter.set_plan("pro", [{"amount": 25}, {"amount": 5, "user": "*", "timezone": "Asia/Tokyo"}], markup=20, by="bob")
    meter.set_plan("free", [], by="bob")
    return meter


def page(client: Client, path: str, **params: object) -> str:
    return html.unescape(client.get(path, **params).text)


def version_in(text: str) -> str:
    found = re.search(r'name="version" value="([^"]*)"', html.unescape(text))
    assert found
    return found[1]


def problem(text: str, name: str) -> str:
    found = re.search(rf'<p class="problem" id="{name}-problem">(.*?)</p>', text)
    assert found, text
    return html.unescape(found[1])


def plan_of(meter: Meter, name: str = "pro") -> list[tuple[int, str, str, str]]:
    found = next(plan for plan in meter.store.plans() if plan.name == name)
    return [(row.amount, row.frequency, row.filter, row.timezone) for row in found.limits]


PRO = [(25 * USD, "per_month", "", "UTC"), (5 * USD, "per_month", "user=*", "Asia/Tokyo")]


def test_a_plan_is_made_and_gets_limits(client: Client, meter: Meter) -> None:
    assert 'href="/staff/limits/plan"' in page(client, "plans")
    done = client.post("plan", {"plan": " team ", "markup": "7.5"})
    assert (done.status, done.headers["location"]) == (303, "/staff/limits/plan?plan=team&said=saved")
    version = version_in(client.get("plan/limit", plan="team").text)
    more = {"plan": "team", "version": version, "unit": "tokens", "amount": "90000", "model": "gpt-5*", "user": "*"}
    assert client.post("plan/limit", {**LIMIT, **more}).status == 303
    [plan] = [plan for plan in meter.store.plans() if plan.name == "team"]
    [limit] = plan.limits
    assert (plan.markup, limit.amount, limit.unit, limit.filter) == ("7.5", 90_000, "tokens", "model=gpt-5*&user=*")
    assert "90,000 tokens per month (model gpt-5*, each user)" in page(client, "plan", plan="team")
    assert [change.actor for change in meter.store.history()[:2]] == ["ann", "ann"]


def test_the_limits_of_a_plan_are_changed_and_removed_one_at_a_time(client: Client, meter: Meter) -> None:
    first, second = next(plan for plan in meter.store.plans() if plan.name == "pro").limits
    text = client.get("plan/limit", plan="pro", id=second.id).text
    assert 'name="timezone" value="Asia/Tokyo"' in text
    sent = {"plan": "pro", "id": second.id, "version": version_in(text), "amount": "6"}
    assert client.post("plan/limit", sent).status == 303
    assert sorted(plan_of(meter)) == sorted([PRO[0], (6 * USD, *PRO[1][1:])])
    gone = {"plan": "pro", "id": first.id}
    stale = client.post("plan/limit/remove", {**gone, "version": sent["version"]})
    assert (stale.status, len(plan_of(meter))) == (409, 2)
    assert "Another person has changed this plan" in stale.text
    gone["version"] = version_in(client.get("plan", plan="pro").text)
    assert client.post("plan/limit/remove", gone).status == 303
    assert plan_of(meter) == [(6 * USD, *PRO[1][1:])]
    assert next(plan.markup for plan in meter.store.plans() if plan.name == "pro") == "20"
    assert client.post("plan/limit/remove", gone).status == 404
    assert meter.store.history()[0].actor == "ann"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("amount", "", "Expected an amount"),
        ("amount", "-1", "out of range"),
        ("unit", "yen", "expected"),
        ("frequency", "per_month", "already has a limit"),
        ("timezone", "Mars/Olympus", "time zone"),
        ("anchor", "32", "from 1 to 31"),
    ],
)
def test_bad_input_is_told_at_its_field_and_nothing_is_saved(
    client: Client, meter: Meter, field: str, value: str, message: str
) -> None:
    version = version_in(client.get("plan/limit", plan="pro").text)
    named = {**LIMIT, "version": version, "name": "kept", field: value}
    answer = client.post("plan/limit", named)
    assert answer.status == 400
    assert message in problem(answer.text, field)
    assert 'name="name" value="kept"' in answer.text
    assert plan_of(meter) == PRO


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"plan": ""}, "plan", "expected a name"),
        ({"plan": "x" * 65}, "plan", "expected a name"),
        ({"plan": "pro"}, "plan", "already"),
        ({"plan": "new", "markup": "lots"}, "markup", "expected percent"),
    ],
)
def test_a_plan_that_cannot_be_made_says_why(
    client: Client, meter: Meter, fields: dict[str, str], field: str, message: str
) -> None:
    answer = client.post("plan", fields)
    assert answer.status == 400
    assert message in problem(answer.text, field)
    assert [plan.name for plan in meter.store.plans()] == ["free", "pro"]
    assert plan_of(meter) == PRO


def test_a_markup_is_changed_and_the_limits_stay(client: Client, meter: Meter) -> None:
    sent = {"plan": "pro", "markup": "", "version": version_in(client.get("plan", plan="pro").text)}
    assert client.post("plan", sent).status == 303
    assert next(plan.markup for plan in meter.store.plans() if plan.name == "pro") == ""
    assert plan_of(meter) == PRO


@pytest.mark.parametrize("path", ["plan", "plan/limit"])
def test_a_form_that_has_gone_stale_is_refused_once(client: Client, meter: Meter, path: str) -> None:
    version = version_in(client.get(path, plan="pro").text)
    meter.set_plan("pro", [{"amount": 30}], markup=20, by="bob")
    sent = {**LIMIT, "frequency": "per_day", "markup": "9"}
    answer = client.post(path, {**sent, "version": version})
    assert answer.status == 409
    assert "Another person has changed this plan" in answer.text
    assert meter.store.history()[0].actor == "bob"
    assert client.post(path, {**sent, "version": version_in(answer.text)}).status == 303
    assert plan_of(meter)[0] == (30 * USD, "per_month", "", "UTC")


@pytest.mark.parametrize("path", ["plan", "plan/limit", "plan/limit/remove"])
def test_a_save_between_check_and_save_is_not_overwritten(
    client: Client, meter: Meter, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_plan = type(meter.store).set_plan
    first = next(plan for plan in meter.store.plans() if plan.name == "pro").limits[0]

    def second(store: Store, *given: Any, **more: Any) -> Any:
        monkeypatch.undo()
        meter.set_plan("pro", [{"amount": 30}], by="bob")
        return set_plan(store, *given, **more)

    version = version_in(client.get("plan", plan="pro").text)
    monkeypatch.setattr(type(meter.store), "set_plan", second)
    named = {"id": first.id} if path.endswith("remove") else {"frequency": "per_day", "markup": "9"}
    answer = client.post(path, {**LIMIT, **named, "version": version})
    assert (answer.status, meter.store.history()[0].actor) == (409, "bob")
    assert "Another person has changed this plan" in answer.text


def test_a_plan_is_removed_once_no_tenant_is_on_it(client: Client, meter: Meter) -> None:
    meter.assign_plan("acme", "pro")
    assert "Tenants are on this plan" in client.get("plan", plan="pro").text
    assert client.post("plan/remove", {"plan": "pro"}).status == 409
    assert plan_of(meter) == PRO
    assert client.post("plan/remove", {"plan": "free"}).status == 303
    assert [plan.name for plan in meter.store.plans()] == ["pro"]
    assert (meter.store.history()[0].kind, meter.store.history()[0].actor) == ("remove-plan", "ann")
    for path in ("plan", "plan/limit"):
        assert client.get(path, plan="free").status == 404
        assert client.post(path, {"plan": "free", "version": "x"}).status == 404
    assert client.post("plan/remove", {"plan": "free"}).status == 404
