"""Every keyword of `set_limit` is a field of the form, and what a limit would have done is shown before it is saved."""

from __future__ import annotations

import re

import pytest

from token_limit_core import Meter
from token_limit_core.console import previews
from token_limit_core.console.fields import LIMIT_FIELDS
from token_limit_core.management.parsing import LIMIT_KEYWORDS

from .mounts import Client
from .site import USD

NEW = {"tenant": "hooli", "frequency": "per_month", "amount": "25", "mode": "enforce"}
EVERY = {
    "tenant": "hooli", "amount": "5000", "frequency": "per_month", "mode": "strict", "unit": "tokens", "user": "*",
    "model": "gpt-5*", "provider": "openai", "feature": "chat", "timezone": "Europe/Berlin", "anchor": "15",
    "basis": "", "name": "Chat of each user", "effective_date": "2027-02-04T14:00",
}  # fmt: skip


def shown(text: str, role: str = "status") -> str:
    found = re.search(rf'role="{role}">(.*?)</p>', text)
    return found[1] if found else ""


def test_the_form_has_a_field_for_every_keyword_of_set_limit(client: Client) -> None:
    assert {"amount", *LIMIT_KEYWORDS} == LIMIT_FIELDS.keys()
    common, _, more = client.get("limit").text.partition('<details class="fields">')
    for name in LIMIT_FIELDS:
        assert f'name="{name}"' in (common if name in ("amount", "frequency", "mode") else more)


def test_every_field_is_saved_and_shown_again(client: Client, meter: Meter) -> None:
    assert client.post("limit", EVERY).status == 303
    [limit] = meter.limits("hooli")
    assert (limit.amount, limit.unit, limit.mode, limit.name) == (5000, "tokens", "strict", "Chat of each user")
    assert (limit.timezone, limit.anchor) == ("Europe/Berlin", "15")
    assert limit.filter == "feature=chat&model=gpt-5*&provider=openai&user=*"
    text = client.get("limit", tenant="hooli", id=limit.id).text
    assert '<details class="fields" open>' in text
    assert "5,000 tokens (strict)" in text
    for name, value in EVERY.items():
        if name not in ("unit", "mode", "basis"):
            assert f'name="{name}" value="{value}"' in text
    for value in ("tokens", "strict"):
        assert f'<option value="{value}" selected>' in text


def test_a_change_keeps_what_is_not_sent_and_cannot_change_what_tells_limits_apart(
    client: Client, meter: Meter
) -> None:
    limit = meter.set_limit("hooli", 5, user="ann", timezone="Asia/Tokyo", basis="cost")
    page = client.get("limit", tenant="hooli", id=limit.id).text
    version = page.partition('name="version" value="')[2].partition('"')[0]
    sent = {"tenant": "hooli", "id": limit.id, "version": version, "amount": "6", "user": "bob"}
    assert client.post("limit", sent).status == 303
    [limit] = meter.limits("hooli")
    assert (limit.amount, limit.filter, limit.timezone, limit.basis) == (6 * USD, "user=ann", "Asia/Tokyo", "cost")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"amount": "0"}, r"refused (\d+) of the \1 calls of the last 30 days\. They cost \$"),
        ({"amount": "1", "unit": "requests", "mode": "observe"}, "In mode observe it refuses none"),
        ({"amount": "1000"}, r"refused none of the \d+ calls of the last 30 days"),
        ({"model": "other*"}, "No call of the last 30 days falls under this limit"),
    ],
)
def test_the_confirmation_says_what_the_limit_would_have_done(
    client: Client, meter: Meter, fields: dict[str, str], said: str
) -> None:
    history = len(meter.store.history())
    assert ">Save</button>" not in client.get("limit").text
    answer = client.post("limit", {**NEW, **fields, "preview": "yes"})
    assert answer.status == 200
    assert re.search(said, shown(answer.text))
    assert ">Save</button>" in answer.text
    assert (meter.limits("hooli"), len(meter.store.history())) == ([], history)
    assert client.post("limit", {**NEW, **fields}).status == 303


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"amount": "0"}, r"refused (\d+) of the \1 calls? since .* UTC\. They cost \$"),
        ({"amount": "1000"}, r"refused none of the \d+ calls? since .* UTC\. The last 30 days have more calls than"),
        ({"model": "other*"}, r"No call since .* UTC falls under this limit\. The last 30 days"),
    ],
)
def test_a_preview_of_more_calls_than_a_page_looks_at_says_since_when_it_looked(
    client: Client, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], said: str
) -> None:
    monkeypatch.setattr(previews, "MOST_CALLS", 5)
    assert re.search(said, shown(client.post("limit", {**NEW, **fields, "preview": "yes"}).text))


def test_a_preview_of_what_cannot_be_saved_shows_what_is_wrong(client: Client) -> None:
    answer = client.post("limit", {**NEW, "timezone": "Nowhere", "preview": "yes"})
    assert answer.status == 400
    assert "Nothing was saved" in shown(answer.text, "alert")
    assert '<details class="fields" open>' in answer.text
