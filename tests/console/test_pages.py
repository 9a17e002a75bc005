"""What the pages, the JSON and the files say."""

from __future__ import annotations

import csv
import html
import io
import json
import logging
import re
from decimal import Decimal
from typing import Any

import pytest

from token_limit_core import Meter
from token_limit_core.console.context import harmless
from token_limit_core.errors import StoreError
from token_limit_core.events import LLMEvent
from token_limit_core.ingest.keys import digest_of
from token_limit_core.stores.contract import Store

from .mounts import MOUNTS, Client, by_header
from .site import DAY, EVIL, NOW, USD, fill, make_meter


def rows_of(client: Client, path: str, **params: object) -> list[dict[str, str]]:
    answer = client.get(path, **params)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))


def json_of(client: Client, path: str, **params: object) -> Any:
    answer = client.get(path, **params)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return json.loads(answer.text)


# -- tenants ------------------------------------------------------------------------------------


def test_tenants_are_listed_with_spend_and_limits(client: Client, meter: Meter) -> None:
    text = client.get("tenants").text
    assert "globex" in text
    assert "1–7 of 7" in text
    assert text.count('<svg class="bar') == 5
    month = meter.store.spend("globex", NOW - 15 * DAY, NOW).cost_nano
    found = {row["tenant"]: row for row in json_of(client, "tenants.json")["tenants"]}
    assert Decimal(found["globex"]["month"]["spent_usd"]) * USD == month
    assert [limit["limit_usd"] for limit in found["globex"]["limits"]] == ["12.000000000"]
    assert [row["tenant"] for row in rows_of(client, "tenants.csv")] == list(found)


def test_tenants_are_searched_sorted_and_paged(client: Client, meter: Meter) -> None:
    events = [(LLMEvent(f"e{n}", f"small-{n:03}", timestamp=NOW), 1) for n in range(120)]
    meter.store.record(events, NOW)
    assert "in its id or name: “nobody”" in client.get("tenants", q="nobody").text
    first = client.get("tenants", q="small").text
    assert "1–50 of 120" in first
    assert 'href="/staff/limits/tenants?page=2&amp;q=small"' in first
    last = client.get("tenants", q="small", page="3").text
    assert "101–120 of 120" in last
    assert "small-119" in last
    assert "Next" not in last
    for nonsense in ("0", "-1", "x", "9" * 30, "²"):
        assert client.get("tenants", page=nonsense).status == 200
    spent = json_of(client, "tenants.json", sort="spend")["tenants"]
    amounts = [Decimal(row["month"]["spent_usd"]) for row in spent]
    assert amounts == sorted(amounts, reverse=True)
    assert json_of(client, "tenants.json", sort="share")["tenants"][0]["tenant"] == "initech"
    assert len(rows_of(client, "tenants.csv", q="small")) == 120


def test_a_tenant_has_its_limits_its_days_and_its_models(client: Client) -> None:
    text = client.get("tenant", id="acme").text
    for part in (
        "$40.00 per month",
        "$5.00 per day",
        "$60.00 per month",
        "has yet to begin",
        'aria-current="true">Model',
        "2 holds",
    ):
        assert part in text
    assert text.count('<rect class="column"') == 30
    assert client.get("tenant", id="acme", days="90").text.count('<rect class="column"') == 90
    assert "bob@example.com" in text
    found = json_of(client, "tenant.json", id="acme")
    assert [row["limit_usd"] for row in found["to_come"]] == ["60.000000000"]
    total = sum(Decimal(row["spent_usd"]) for row in found["days"])
    assert total == Decimal(found["month"]["spent_usd"])  # three days of one month
    assert sum(Decimal(row["spent_usd"]) for row in rows_of(client, "tenant.csv", id="acme")) == total


def test_a_tenant_that_is_not_there_is_404(client: Client) -> None:
    assert client.get("tenant", id="Acme").status == 404
    assert client.get("tenant").status == 200  # events that nobody was named for
    assert client.get("tenant.json", id="nobody").status == 404
    assert client.get("no/such/page").status == 404


def test_what_is_hostile_is_shown_as_it_is_and_does_nothing(client: Client) -> None:
    shown = "&lt;script&gt;alert(1)&lt;/script&gt;"
    for path in ("", "events", "history"):
        text = client.get(path).text
        assert shown in text
        assert "<script>alert" not in text
    text = client.get("tenant", id=EVIL).text
    assert shown in text
    assert "{{7*7}}" in text
    assert "<script>alert" not in text


def test_ids_that_differ_in_what_cannot_be_seen_do_not_look_the_same(client: Client, meter: Meter) -> None:
    for tenant_id in (" acme", "ac\nme"):
        meter.set_limit(tenant_id, 5)
        for text in (client.get("tenants").text, client.get("tenant", id=tenant_id).text):
            assert repr(tenant_id) in html.unescape(text)


# -- events, holds, history ---------------------------------------------------------------------


def test_the_event_log_is_filtered(client: Client) -> None:
    assert "No event matches" in client.get("events", tenant="nobody").text
    [failed] = json_of(client, "events.json", mark="failed")["events"]
    assert (failed["tenant_id"], failed["error"], failed["tags"]) == (EVIL, EVIL, {EVIL: EVIL})
    [unpriced] = json_of(client, "events.json", mark="unpriced")["events"]
    assert unpriced["model"] == "gpt-9"
    assert "cost_usd" not in unpriced
    assert [row["model"] for row in json_of(client, "events.json", mark="estimated")["events"]] == ["gpt-9"]
    [nobody] = json_of(client, "events.json", unattributed="1")["events"]
    assert nobody["event_id"] == "nobody"
    everyone = rows_of(client, "events.csv", tenant="acme", provider="openai", model="gpt-5")
    assert {(row["tenant_id"], row["model"]) for row in everyone} == {("acme", "gpt-5")}
    assert rows_of(client, "events.csv", to="2027-01-01") == []


def test_a_wrong_date_is_told_at_its_field_and_the_rest_is_kept(client: Client) -> None:
    answer = client.get("events", **{"tenant": "acme", "from": "yesterday", "to": "2027-13-01"})
    assert answer.status == 400
    assert "“yesterday” is not a date" in answer.text
    assert "“2027-13-01” is not a date" in answer.text
    assert 'value="acme"' in answer.text
    assert client.get("events", **{"from": "2027-01-10", "to": "2027-01-09"}).status == 400
    assert client.get("events.csv", **{"from": "x"}).status == 400
    assert client.get("events.json", **{"from": "0001-01-01"}).status == 400


def test_pages_of_events_lead_through_all_of_them(client: Client, meter: Meter) -> None:
    meter.store.record([(LLMEvent("spaced", " acme ", timestamp=NOW - 5), 1)], NOW)
    assert [row["event_id"] for row in json_of(client, "events.json", tenant=" acme ")["events"]] == ["spaced"]
    every = len(rows_of(client, "events.csv"))
    seen, after = 0, ""
    while True:
        found = json_of(client, "events.json", after=after)
        seen += len(found["events"])
        after = found["next"]
        if after is None:
            break
    assert seen == every > 50
    assert "Older" in client.get("events").text
    for nonsense in ("x", "nan~1", "inf~1", "1~" + "9" * 40):
        assert client.get("events", after=nonsense).status == 200


def test_holds_have_an_age_and_are_released(client: Client, meter: Meter) -> None:
    text = client.get("holds").text
    assert "11 min 40 s" in text
    assert [row["held_usd"] for row in rows_of(client, "holds.csv")] == ["0.040000000", "0.060000000", "0.020000000"]
    assert json_of(client, "holds.json", tenant="initech")["total"] == 1
    oldest = meter.store.holds()[0].call_id
    done = client.post("holds/release", {"call_id": oldest, "tenant": "acme"})
    assert (done.status, done.headers["location"]) == (303, "/staff/limits/holds?tenant=acme&said=released")
    assert [hold.call_id for hold in meter.store.holds()].count(oldest) == 0
    assert "said=late" in client.post("holds/release", {"call_id": oldest}).headers["location"]
    assert "was closed already" in client.get("holds", said="late").text
    assert "Hold of $0.04 released" in client.get("history").text
    assert "Hold of $0.04 released" in client.get("tenant", id="acme").text
    newest = json_of(client, "history.json")["changes"][0]
    assert (newest["actor"], newest["kind"], newest["old_usd"]) == ("ann", "release", "0.040000000")
    rest = [hold.call_id for hold in meter.store.holds()]
    assert "said=partly" in client.post("holds/release", {"call_id": [*rest, oldest]}).headers["location"]
    assert meter.store.holds() == []


def test_holds_are_found_by_the_name_of_their_tenant(client: Client, meter: Meter) -> None:
    meter.name_tenant("initech", "Initech Ltd")
    assert len(re.findall(r'name="call_id" value="([^"]+)" form', client.get("holds", q="Initech Ltd").text)) == 1
    assert "No call is in flight" in client.get("holds", q="nobody").text


def test_what_moved_amounts_without_a_call_is_found(client: Client, meter: Meter) -> None:
    oldest = meter.store.holds()[0]
    meter.store.expire(oldest.expires_at + 1)
    late = LLMEvent(oldest.call_id, oldest.tenant_id, timestamp=oldest.created_at, model="gpt-5")
    meter.store.settle(oldest.call_id, late, 5, oldest.expires_at + 2)
    for kind in ("expiry", "correction"):
        assert [row["kind"] for row in json_of(client, "events.json", mark=kind)["events"]] == [kind]
        shown = client.get("events", mark=kind).text
        same_call = html.unescape(re.findall(r'href="/staff/limits/(events\?call=[^"]+)"', shown)[0])
        found = json_of(client, same_call.replace("events?", "events.json?"))["events"]
        assert {row["kind"] for row in found} == {"call", "expiry", "correction"}


def test_a_key_is_made_with_its_token_shown_once_and_revoked(client: Client, meter: Meter) -> None:
    fields = {"account": "north", "name": "shop", "tenants": "acme\neu-*", "may-ingest": "yes"}
    made = client.post("keys", fields)
    (token,) = re.findall(r"tl_[0-9a-f]{12}_[\w-]{43}", made.text)
    (key,) = meter.store.api_keys()
    assert (made.status, key.digest, key.tenants, key.permissions) == (
        200,
        digest_of(token),
        ("acme", "eu-*"),
        ("ingest",),
    )
    listed = client.get("keys")
    assert f"tl_{key.public_id}" in listed.text
    assert token not in listed.text
    assert "said=revoked" in client.post("keys/revoke", {"key": key.public_id}).headers["location"]
    assert meter.store.api_keys()[0].revoked_at == NOW
    assert "said=revoked-before" in client.post("keys/revoke", {"key": key.public_id}).headers["location"]
    history = client.get("history").text
    for change in ("made", "revoked"):
        assert f"API key tl_{key.public_id} {change}" in history
    changes = json_of(client, "history.json")["changes"][:2]
    assert [(row["actor"], row["kind"], row["api_key"], row["tenant"]) for row in changes] == [
        ("ann", "revoke-key", key.public_id, None),
        ("ann", "make-key", key.public_id, None),
    ]


def test_a_reload_after_a_key_was_made_makes_no_other(client: Client, meter: Meter) -> None:
    (form,) = re.findall(r'name="form" value="([^"]+)"', client.get("keys").text)
    fields = {"form": form, "account": "north", "tenants": "acme", "may-ingest": "yes"}
    made = client.post("keys", fields)
    (token,) = re.findall(r"tl_[0-9a-f]{12}_[\w-]{43}", made.text)
    again = client.post("keys", fields)
    assert (again.status, again.headers["location"]) == (303, "/staff/limits/keys?said=made-before")
    listed = client.get("keys", said="made-before").text
    assert "shown only once" in listed
    assert token not in listed
    assert [key.digest for key in meter.store.api_keys()] == [digest_of(token)]
    (next_form,) = re.findall(r'name="form" value="([^"]+)"', made.text)
    assert client.post("keys", {**fields, "form": next_form}).status == 200
    assert client.post("keys", {**fields, "form": "no id"}).status == 200
    assert len(meter.store.api_keys()) == 3


def test_a_key_that_nobody_could_use_is_told_at_its_field(client: Client, meter: Meter) -> None:
    fields = {"account": "north", "tenants": "acme", "may-check": "yes"}
    wrong = [({"account": ""}, "account"), ({"tenants": " "}, "tenants"), ({"may-check": ""}, "permissions")]
    for changed, problem in wrong:
        answer = client.post("keys", {**fields, **changed})
        assert (answer.status, f'id="{problem}-problem"' in answer.text) == (400, True)
    assert client.raw_post("keys", fields).status == 403
    assert meter.store.api_keys() == []


def test_the_history_says_who_did_what(client: Client) -> None:
    text = client.get("history").text
    assert "bob@example.com" in text
    assert "$40.00 → $60.00 per month" in text
    newest = json_of(client, "history.json", tenant="acme")["changes"][0]
    assert (newest["actor"], newest["kind"]) == ("bob@example.com", "set")
    assert (newest["old_usd"], newest["new_usd"]) == ("40.000000000", "60.000000000")
    assert len(rows_of(client, "history.csv")) == 6


def test_the_history_is_searched_by_person_and_tenant(client: Client) -> None:
    everyone = json_of(client, "history.json")["changes"]
    by_bob = [row for row in everyone if row["actor"] == "bob@example.com"]
    assert 0 < len(by_bob) < len(everyone)
    assert json_of(client, "history.json", actor=" BOB@")["changes"] == by_bob
    assert len(rows_of(client, "history.csv", actor="bob")) == len(by_bob)
    assert client.get("history?actor=bob&tenant=acme").text.count("<tr>") == 1 + sum(
        row["tenant"] == "acme" for row in by_bob
    )
    assert client.get("history?actor=&tenant=").text.count("<tr>") == 1 + len(everyone)
    assert "No change matches." in client.get("history?actor=b_b").text
    assert "No change matches." in client.get("history?tenant=").text


# -- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_text_that_a_spreadsheet_takes_for_a_formula_is_made_harmless(start: str) -> None:
    assert harmless(f"{start}cmd") == f"'{start}cmd"
    assert harmless(f"a{start}") == f"a{start}"


def test_files_are_safe_in_a_spreadsheet_and_keep_negative_numbers(mount: str) -> None:
    meter = make_meter("memory://")
    event = LLMEvent("=1+1", "=cmd|' /C calc'!A0", provider="+x", model="@y", timestamp=NOW - 1)
    meter.store.record([(event, -5)], NOW)
    with MOUNTS[mount](meter, by_header) as client:
        [row] = rows_of(client, "events.csv")
        assert (row["tenant_id"], row["provider"], row["model"], row["event_id"]) == (
            "'=cmd|' /C calc'!A0",
            "'+x",
            "'@y",
            "'=1+1",
        )
        assert row["cost_usd"] == "-0.000000005"
        assert rows_of(client, "tenants.csv")[0]["tenant"].startswith("'=")


# -- faults -------------------------------------------------------------------------------------


def test_a_store_that_is_away_is_told_and_logged(
    mount: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    meter = fill(make_meter("memory://"), 1)

    def away(*args: object, **kwargs: object) -> None:
        raise StoreError("away")

    for name in ("tenants", "events", "hold_page", "history", "limits", "set_limit"):
        monkeypatch.setattr(meter.store, name, away)
    with caplog.at_level(logging.CRITICAL, "token_limit"), MOUNTS[mount](meter, by_header) as client:
        for path in ("", "tenant?id=acme", "events", "events.csv", "holds", "history", "limit?tenant=acme&id=1"):
            answer = client.get(path)
            assert answer.status == 503
            assert "away" not in answer.text
    assert isinstance(meter.store, Store)
