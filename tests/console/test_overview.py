"""The overview, refusals, actions on a tenant and changes of many, as a support person uses them."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from token_limit_core import Meter
from token_limit_core.console.overview import pace_of
from token_limit_core.events import LLMEvent
from token_limit_core.limits.references import reference_of
from token_limit_core.stores.entries import Spend
from token_limit_core.stores.records import Refusal
from token_limit_core.windows import PER_MONTH, window_of

from .mounts import MOUNTS, Client, by_header
from .site import DAY, NOW, USD, fill, make_meter


@pytest.fixture
def story(meter: Meter) -> Meter:
    """Add plans, a suspended tenant, refusals, and what is not known."""
    meter.set_plan("pro", [{"amount": 25}, {"amount": 5, "user": "*"}], markup=20)
    meter.assign_plan("hooli", "pro")
    meter.suspend("umbrella", reason="unpaid")
    meter.name_tenant("globex", "Globex Ltd")
    minute = int(NOW // 60) * 60 - 3600
    rows = [
        Refusal("initech", minute, "exhausted", "per_month", 4, minute + 5.0, "gpt-5", "chat.completions", "ann"),
        Refusal("umbrella", minute - 60, "suspended", "", 2, minute - 9.0, "gpt-5", "chat.completions", "bob"),
        Refusal("acme", minute - 40 * 86400, "busy", "per_minute model=gpt-4*", 1, minute - 40 * DAY, "gpt-5"),
    ]  # fmt: skip
    meter.store.add_refusals(rows)
    return meter


def flat(text: str) -> str:
    return " ".join(html.unescape(text).split())


def test_the_overview_leads_to_every_answer(client: Client, story: Meter) -> None:
    answer = client.get()
    assert answer.status == 200
    for link in (
        "tenants?show=over&sort=share",
        "tenants?show=near&sort=share",
        "tenants?show=suspended",
        "refusals?kind=exhausted&from=2027-01-14",
        "events?from=2027-01-01&mark=unpriced",
        "events?from=2027-01-01&unattributed=1",
        "tenant?id=globex",
    ):
        assert f'href="/staff/limits/{link.replace("&", "&amp;")}"' in answer.text
        assert client.ask("GET", link).status == 200
    text = flat(answer.text)
    assert "1 call this month: gpt-9" in text
    assert "on_no_tenant=" in text
    assert "<b>4</b> Limit used up" in text
    assert "Globex Ltd" in text


def test_the_counts_of_the_overview_are_those_of_the_lists(client: Client, story: Meter) -> None:
    counts = story.store.standings(NOW)
    for show in ("near", "over", "unlimited", "suspended"):
        found = json.loads(client.get("tenants.json", show=show).text)
        assert found["total"] == getattr(counts, show)
    assert json.loads(client.get("tenants.json", plan="pro").text)["total"] == 1


def test_a_month_is_compared_with_the_same_days_of_the_last_one() -> None:
    now = window_of(PER_MONTH, NOW).start + 4 * DAY + DAY / 2  # noon of the fifth
    month, before = window_of(PER_MONTH, now), window_of(PER_MONTH, now - 30 * DAY)
    spends = {day: Spend(1, 0, 0, 10, 0, 10) for day in range(before.start // 86400, int(now // DAY) + 1)}
    pace = pace_of(spends, month, before, now)
    assert (pace.today.cost_nano, pace.month.cost_nano, pace.same_days.cost_nano) == (10, 50, 50)
    assert (pace.last_month.cost_nano, pace.change, pace.until) == (310, "+0 %", "2027-01-31")
    assert pace.forecast == 50 * 31 * 86400 // int(4.5 * 86400)
    first = pace_of(spends, month, before, month.start + 60.0)
    assert first.forecast is None
    assert pace_of({}, month, before, now).change == ""


def test_a_refusal_is_found_by_the_reference_that_the_customer_reads(client: Client, story: Meter) -> None:
    for reference in (reference_of("exhausted", "initech", NOW - 3600), reference_of("exhausted", "acme", NOW - 3600)):
        found = json.loads(client.get("refusals.json", reference=f"urn:token-limit:refusal:{reference}").text)
        assert [row["tenant"] for row in found["refusals"]] == ["initech"] * reference.is_of("initech")
    wrong = client.get("refusals", reference="nothing")
    assert (wrong.status, 'id="reference-problem"' in wrong.text) == (400, True)


def test_refusals_are_filtered_shown_and_exported(client: Client, story: Meter) -> None:
    assert "Limit used up" in client.get("refusals").text
    everything = {"from": "2026-11-01"}
    rows = list(csv.DictReader(io.StringIO(client.get("refusals.csv", **everything).text)))
    assert [(row["tenant"], row["kind"], row["calls"]) for row in rows] == [
        ("initech", "exhausted", "4"),
        ("umbrella", "suspended", "2"),
        ("acme", "busy", "1"),
    ]

    def found(**params: object) -> list[str]:
        answer = json.loads(client.get("refusals.json", **{**everything, **params}).text)
        return [row["tenant"] for row in answer["refusals"]]

    assert found(tenant="initech") == found(kind="exhausted") == found(user="ann") == ["initech"]
    assert found(limit="per_minute model=gpt-4*") == ["acme"]
    assert found(to="2026-12-31") == ["acme"]
    assert found(tenant="nobody") == []
    assert "per minute (model gpt-4*)" in client.get("refusals", **everything).text
    assert client.get("refusals", **{"from": "x"}).status == client.get("refusals.csv", to="x").status == 400
    assert "Limit used up" in client.get("tenant", id="initech").text


@pytest.mark.parametrize("by", ["model", "provider", "user", "feature", "session"])
def test_a_tenants_spend_is_shown_by_each_of_its_parts(client: Client, story: Meter, by: str) -> None:
    key = {"model": "gpt-5", "provider": "openai", "user": "ann"}.get(by, "(none)")
    assert f'<th scope="row" class="id">{key}</th>' in client.get("tenant", id="globex", by=by).text


ACTIONS: list[tuple[str, dict[str, str], str]] = [
    ("top-up", {"limit": "per_month ", "usd": "3"}, "Topped up by $3.00"),
    ("plan", {"plan": "pro"}, "Plan pro"),
    ("plan", {"plan": ""}, ""),
    ("name", {"name": "Acme Ltd"}, "Named “Acme Ltd”"),
    ("suspend", {"reason": "unpaid"}, "Suspended: unpaid"),
]


@pytest.mark.parametrize(("path", "fields", "said"), ACTIONS)
def test_an_action_is_carried_out_and_kept_in_the_history(
    client: Client, story: Meter, path: str, fields: dict[str, str], said: str
) -> None:
    assert client.get(f"tenant/{path}", id="acme").status == 200
    done = client.post(f"tenant/{path}", {"id": "acme", **fields})
    assert (done.status, done.headers["location"].partition("&")[0]) == (303, "/staff/limits/tenant?id=acme")
    assert said in html.unescape(client.get("tenant", id="acme").text)
    if said:
        assert story.store.history("acme")[0].actor == "ann"


def test_a_suspended_tenant_is_resumed_and_one_gets_another_id(client: Client, story: Meter) -> None:
    assert "suspended since" in client.get("tenant", id="umbrella").text
    client.post("tenant/resume", {"id": "umbrella"})
    assert "suspended since" not in client.get("tenant", id="umbrella").text
    moved = client.post("tenant/move", {"id": "umbrella", "new_id": "parasol"})
    assert "id=parasol" in moved.headers["location"]
    assert client.get("tenant", id="umbrella").status == 404


@pytest.mark.parametrize(
    ("path", "fields", "field"),
    [
        ("top-up", {"limit": "per_month ", "usd": "-3"}, "usd"),
        ("top-up", {"limit": "per_month ", "usd": ""}, "usd"),
        ("top-up", {"limit": "", "usd": "3"}, "limit"),
        ("plan", {"plan": "gold"}, "plan"),
        ("name", {"name": "a\nb"}, "name"),
        ("move", {"new_id": "globex"}, "new_id"),
        ("move", {"new_id": ""}, "new_id"),
    ],
)
def test_what_cannot_be_done_is_told_at_its_field_and_nothing_is_saved(
    client: Client, story: Meter, path: str, fields: dict[str, str], field: str
) -> None:
    changes = len(story.store.history("acme"))
    answer = client.post(f"tenant/{path}", {"id": "acme", **fields})
    assert (answer.status, f'id="{field}-problem"' in answer.text) == (400, True)
    assert len(story.store.history("acme")) == changes
    assert client.post(f"tenant/{path}", {"id": "nobody", **fields}).status == 404


def change(client: Client, **fields: Any) -> Any:
    return client.post("tenants/change", {"id": "acme", **fields})


def test_limits_of_many_are_raised_by_percent(client: Client, story: Meter) -> None:
    asked = change(client, change="raise", **{"raise": "50"})
    assert (asked.status, "Raise limits by percent: 50 %" in flat(asked.text)) == (200, True)
    assert [row.amount for row in story.limits("globex")] == [12 * USD]
    done = change(client, change="raise", confirmed="yes", **{"raise": "50"})
    assert done.headers["location"] == "/staff/limits/tenants?changed=1&left=0"
    assert sorted(row.amount // USD for row in story.store.limits("acme")) == [7, 60, 90]
    for wrong in ("", "x", "0", "-101", "nan", "999999"):
        assert change(client, change="raise", confirmed="yes", **{"raise": wrong}).status == 400


def test_limits_of_many_are_removed(client: Client, story: Meter) -> None:
    assert "Remove limits" in change(client, change="remove").text
    assert len(story.store.limits("acme")) == 3
    assert change(client, change="remove", confirmed="yes").headers["location"].endswith("changed=1&left=0")
    assert story.store.limits("acme") == []


def test_many_are_put_on_a_plan_suspended_and_resumed(client: Client, story: Meter) -> None:
    change(client, change="plan", plan="pro", confirmed="yes")
    assert story.store.tenant("acme").plan == "pro"  # type: ignore[union-attr]
    change(client, change="suspend", confirmed="yes")
    assert story.store.tenant("acme").suspended_at == NOW  # type: ignore[union-attr]
    again = change(client, change="suspend", confirmed="yes")
    assert again.headers["location"].endswith("changed=0&left=1")
    change(client, change="resume", confirmed="yes")
    assert story.store.tenant("acme").suspended_at is None  # type: ignore[union-attr]
    assert change(client, change="plan", plan="gold", confirmed="yes").status == 400
    assert client.post("tenants/change", {"change": "suspend"}).status == 400
    assert change(client, change="erase", confirmed="yes").status == 400


def test_events_are_found_by_name_of_tenant_and_by_id_of_call(client: Client, story: Meter) -> None:
    event = LLMEvent("abc", "globex", model="gpt-5", timestamp=NOW - 20 * DAY, request_id="req-1")
    story.store.record([(event, 7)], NOW)

    def found(**params: object) -> list[str]:
        return [row["event_id"] for row in json.loads(client.get("events.json", **params).text)["events"]]

    assert found(call="req-1") == found(call="abc") == ["abc"]
    assert set(found(tenant="Globex Ltd")) == set(found(tenant="globex")) != set()
    page = client.get("events", call="req-1").text
    assert "Request id" in page
    assert "$0.000000007" in page
    assert "Streamed" not in page


@pytest.fixture
def crowd() -> Iterator[Client]:
    with make_meter("memory://") as meter, MOUNTS["flask"](fill(meter), by_header) as client:
        yield client


def test_plans_are_listed_with_what_they_allow(crowd: Client) -> None:
    assert "No plan so far" in crowd.get("plans").text


def test_a_change_of_a_plan_is_of_no_tenant(client: Client, story: Meter) -> None:
    rows = flat(client.get("history").text).split("<tr>")
    assert ["(no tenant)" in row for row in rows if "Plan pro: " in row] == [False]


def test_plans_link_to_their_tenants(client: Client, story: Meter) -> None:
    text = flat(client.get("plans").text)
    assert "$25.00 per month" in text
    assert "$5.00 per month (each user)" in text
    assert 'href="/staff/limits/tenants?plan=pro">1<' in text
