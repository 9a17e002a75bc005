"""Creating, changing and removing limits: what is wrong is told at its field, and nothing is half-saved."""

from __future__ import annotations

import re
from typing import Any

import pytest

from token_limit_core import Meter
from token_limit_core.windows import PER_DAY, PER_MONTH

from .mounts import Client
from .site import NOW, USD

NEW = {"tenant": "hooli", "frequency": "per_month", "amount": "25", "mode": "enforce", "effective_date": ""}
LONG = "9" * 50


def state(meter: Meter) -> list[Any]:
    return [meter.limits(tenant) for tenant in ("acme", "hooli", "newcomer")] + [len(meter.store.history())]


def hidden(text: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', text)
    assert found
    return found[1]


def problem(text: str, name: str) -> str:
    found = re.search(rf'<p class="problem" id="{name}-problem">(.*?)</p>', text)
    assert found, text
    assert f'aria-describedby="{name}-problem' in text
    return found[1]


def test_a_limit_is_created(client: Client, meter: Meter) -> None:
    done = client.post("limit", {**NEW, "frequency": "per_day", "mode": "observe", "amount": " 9.99 "})
    assert (done.status, done.headers["location"]) == (303, "/staff/limits/tenant?id=hooli&said=saved")
    [limit] = meter.limits("hooli")
    assert (limit.amount, limit.frequency, limit.mode) == (9_990_000_000, PER_DAY, "observe")
    assert "Saved." in client.get("tenant", id="hooli", said="saved").text


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("amount", "-1", "out of range"),
        ("amount", "NaN", "not finite"),
        ("amount", "inf", "not finite"),
        ("amount", "lots", "not an amount"),
        ("amount", "", "Expected an amount"),
        ("amount", LONG, "out of range"),
        ("amount", "1e999999", "out of range"),
        ("amount", "0.0000000001", "nine digits"),
        ("amount", "<script>", "&lt;script&gt;"),
        ("mode", "strictest", "expected"),
        ("frequency", "per_fortnight", "expected"),
        ("effective_date", "tomorrow", "expected an ISO date"),
        ("effective_date", "2027-01-15T13:59", "in the past"),
        ("effective_date", "0001-01-01T00:00", "in the past"),
        ("unit", "yen", "expected"),
        ("timezone", "Mars/Olympus", "time zone"),
        ("anchor", "32", "from 1 to 31"),
        ("basis", "guess", "expected"),
        ("model", "x" * 256, "no call can match"),
        ("name", "a\tb", "line of at most"),
        ("tenant", "", "1 to 255 characters"),
        ("tenant", "newcomer", "Nothing is known of tenant"),
        ("tenant", "acme", "already has a limit per month"),
    ],
)
def test_bad_input_is_told_at_its_field_and_nothing_is_saved(
    client: Client, meter: Meter, field: str, value: str, message: str
) -> None:
    before = state(meter)
    answer = client.post("limit", {**NEW, "amount": "31.25", field: value})
    assert answer.status == 400
    assert message in problem(answer.text, field)
    assert 'role="alert"' in answer.text
    if field != "amount":
        assert 'value="31.25"' in answer.text
    if field in ("amount", "effective_date", "tenant") and value.isalnum():
        assert f'value="{value}"' in answer.text
    assert state(meter) == before


def test_several_fields_are_told_at_once(client: Client) -> None:
    answer = client.post("limit", {**NEW, "amount": "x", "effective_date": "y", "mode": "z"})
    assert answer.text.count('class="problem"') == 3


def test_a_tenant_that_nobody_has_seen_needs_a_second_word(client: Client, meter: Meter) -> None:
    asked = client.post("limit", {**NEW, "tenant": "newcomer"})
    assert 'name="new_tenant"' in asked.text
    assert client.post("limit", {**NEW, "tenant": "newcomer", "new_tenant": "yes"}).status == 303
    assert [limit.amount for limit in meter.limits("newcomer")] == [25 * USD]


def editing(client: Client, meter: Meter, which: int = 0) -> dict[str, str]:
    limit = meter.limits("acme")[which]
    text = client.get("limit", tenant="acme", id=limit.id).text
    names = ("tenant", "frequency", "amount", "id", "version", "effective_date")
    return {**{name: hidden(text, name) if name != "effective_date" else "" for name in names}, "mode": limit.mode}


def test_a_limit_is_changed_in_place(client: Client, meter: Meter) -> None:
    fields = editing(client, meter)
    assert fields["amount"] == "40.00"
    assert client.post("limit", {**fields, "amount": "45"}).status == 303
    first, *_ = meter.limits("acme")
    assert (str(first.id), first.amount) == (fields["id"], 45 * USD)
    newest = meter.store.history("acme")[0]
    assert (newest.actor, newest.old_amount, newest.new_amount) == ("ann", 40 * USD, 45 * USD)


def test_a_form_that_has_gone_stale_is_refused_with_all_that_was_typed(client: Client, meter: Meter) -> None:
    fields = editing(client, meter)
    meter.set_limit("acme", 50, by="bob")
    answer = client.post("limit", {**fields, "amount": "45.5"})
    assert answer.status == 409
    assert "Another person has changed this limit: it is $50.00 (enforce) now" in answer.text
    assert 'value="45.5"' in answer.text
    assert meter.store.history("acme")[0].actor == "bob"
    again = {**fields, "amount": "45.5", "version": hidden(answer.text, "version")}
    assert client.post("limit", again).status == 303
    assert meter.limits("acme")[0].amount == 45_500_000_000


def test_a_change_between_the_check_and_the_save_is_refused_too(
    client: Client, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = editing(client, meter)
    save = meter.store.set_limit

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(meter.store, "set_limit", save)
        meter.set_limit("acme", 50, by="bob")
        return save(*args, **kwargs)

    monkeypatch.setattr(meter.store, "set_limit", meanwhile)
    assert client.post("limit", {**fields, "amount": "45"}).status == 409
    assert [limit.amount for limit in meter.limits("acme")][0] == 50 * USD


def test_a_limit_that_was_removed_meanwhile_is_told(client: Client, meter: Meter) -> None:
    fields = editing(client, meter, which=1)
    meter.remove_limit("acme", PER_DAY)
    answer = client.post("limit", fields)
    assert answer.status == 409
    assert "was removed" in answer.text
    assert client.get("limit", tenant="acme", id=fields["id"]).status == 404
    assert client.get("limit", tenant="nobody", id="1").status == 404


def test_a_limit_to_come_is_changed_and_called_off(client: Client, meter: Meter) -> None:
    waiting = next(limit for limit in meter.limits("acme") if limit.effective_from > NOW)
    text = client.get("limit", tenant="acme", id=waiting.id).text
    assert 'value="2027-02-04T14:00"' in text
    fields = {
        "tenant": "acme", "frequency": PER_MONTH, "amount": "70", "mode": "enforce", "id": str(waiting.id),
        "version": hidden(text, "version"),
    }  # fmt: skip
    assert "has not begun yet" in problem(client.post("limit", {**fields, "effective_date": ""}).text, "effective_date")
    assert client.post("limit", {**fields, "effective_date": "2027-02-10T00:00"}).status == 303
    replaced = next(limit for limit in meter.limits("acme") if limit.effective_from > NOW)
    assert replaced.amount == 70 * USD
    page = client.get("limit/remove", tenant="acme", id=replaced.id).text
    assert "called off" in page
    gone = {"tenant": "acme", "id": replaced.id, "version": hidden(page, "version")}
    assert client.post("limit/remove", gone).status == 303
    assert [limit.effective_until for limit in meter.limits("acme")] == [None, None]
    assert meter.store.history("acme")[0].kind == "cancel"


def test_a_limit_is_removed_after_a_question(client: Client, meter: Meter) -> None:
    limit = meter.limits("globex")[0]
    page = client.get("limit/remove", tenant="globex", id=limit.id).text
    assert "Remove this limit?" in page
    assert meter.limits("globex") == [limit]
    fields = {"tenant": "globex", "id": limit.id, "version": hidden(page, "version")}
    meter.set_limit("globex", 13)
    assert client.post("limit/remove", fields).status == 409
    assert len(meter.limits("globex")) == 1
    fields["version"] = hidden(client.get("limit/remove", tenant="globex", id=limit.id).text, "version")
    assert client.post("limit/remove", fields).status == 303
    assert meter.limits("globex") == []
    assert client.post("limit/remove", fields).status == 404
    assert (meter.store.history("globex")[0].kind, meter.store.history("globex")[0].actor) == ("remove", "ann")
