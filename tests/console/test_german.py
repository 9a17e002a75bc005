"""German: numbers, dates, refusals, the upgrade page, and what forms say about typed values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.test import RequestFactory
from django.utils import translation
from flask import Flask
from starlette.requests import Request

from token_limit_core import Meter
from token_limit_core.events import LLMEvent
from token_limit_core.limits import Decision
from token_limit_core.runtime.language import speaking
from token_limit_core.upgrade import render
from token_limit_core.wording import clock_time, column_usd, count, dollars, exact, quantity, rounded
from token_limit_django.responses import upgrade_response as django_response
from token_limit_flask import TokenLimit
from token_limit_flask.responses import upgrade_response as flask_response
from token_limit_starlette.options import KEY, Options
from token_limit_starlette.responses import upgrade_response as starlette_response

from .mounts import Client
from .site import NOW, USD, make_meter

GERMAN = {"accept-language": "de-DE,de;q=0.9"}
REFUSED = Decision(
    "exhausted",
    "acme",
    limit_usd=Decimal("1025"),
    spent_usd=Decimal("1025.5"),
    held_usd=Decimal(0),
    frequency="per_month",
    resets_at=1_801_440_000,
    timezone="Europe/Berlin",
)


@pytest.fixture
def german() -> Iterator[None]:
    with speaking("de"):
        yield


@pytest.mark.usefixtures("german")
def test_numbers_and_dates_are_written_as_germans_write_them() -> None:
    assert count(1234567) == "1.234.567"
    assert (exact(1234 * USD, "usd"), rounded(5), column_usd(-USD // 2)) == ("1.234,00 $", "<0,01 $", "-0,500000 $")
    assert (quantity(1, "requests"), quantity(2000, "tokens"), dollars(None)) == (
        "1 Anfrage",
        "2.000 Token",
        "ohne Preis",
    )
    assert clock_time(NOW, "Europe/Berlin") == "15. Jan. 2027, 15:00 Europe/Berlin"


def test_a_refusal_is_explained_in_the_language_in_force() -> None:
    english = "The monthly limit of $1,025.00 is used up ($1,025.50 spent). It resets on"
    assert REFUSED.explain() == f"{english} 01 February 2027 01:00 Europe/Berlin."
    with speaking("de"):
        assert REFUSED.explain() == (
            "Das Monatslimit von 1.025,00 $ ist aufgebraucht (1.025,50 $ ausgegeben). "
            "Es beginnt neu am 01. Februar 2027 01:00 Europe/Berlin."
        )


@pytest.mark.parametrize("kind", ["busy", "does_not_fit", "unverifiable", "no_tenant", "unpriced", "suspended"])
def test_every_kind_of_refusal_has_a_german_page(kind: Any) -> None:
    decision = Decision(kind, "acme", limit_usd=Decimal(5), spent_usd=Decimal(4), retry_after=3600)
    english, german = (render(decision, "text/html", language=code).body.decode() for code in ("en", "de"))
    heading = english.partition("<h1>")[2].partition("</h1>")[0]
    assert heading
    assert heading not in german
    assert '<html lang="de">' in german
    assert decision.explain() not in render(decision, None, language="de").body.decode()


def test_the_fields_of_a_problem_document_that_programs_read_stay_english() -> None:
    english, german = (json.loads(render(REFUSED, None, language=code).body) for code in ("en", "de"))
    assert german["title"] == "Monatslimit erreicht"
    assert {name for name in english if english[name] != german[name]} <= {"title", "detail", "instance"}


def flask_page() -> tuple[str, str]:
    app = Flask(__name__)
    app.secret_key = "x" * 32
    TokenLimit(app, store="memory://", patches=[], tenant_resolver=lambda request: "acme")
    state = app.extensions["token_limit"]
    with app.test_request_context(headers={"accept": "text/html", **GERMAN}), state.meter:
        response = flask_response(state.settings, REFUSED)
    return response.get_data(as_text=True), response.headers["Content-Language"]


def django_page() -> tuple[str, str]:
    with translation.override("de"):
        response = django_response(RequestFactory().get("/", headers={"accept": "text/html"}), REFUSED)
    return response.content.decode(), response["Content-Language"]  # type: ignore[union-attr]


async def starlette_page() -> tuple[str, str]:
    with make_meter("memory://") as meter:
        headers = [(name.encode(), value.encode()) for name, value in {"accept": "text/html", **GERMAN}.items()]
        connection = Request({"type": "http", "headers": headers, KEY: Options(meter)})
        response = await starlette_response(connection, REFUSED)
    return bytes(response.body).decode(), response.headers["Content-Language"]


async def test_the_upgrade_page_is_german_in_every_framework() -> None:
    for text, language in (flask_page(), django_page(), await starlette_page()):
        assert language == "de"
        for part in ("Monatslimit erreicht", "1.025,50 $ ausgegeben", "von 1.025,00 $", "pro Monat", "1. Februar 2027"):
            assert part in " ".join(text.replace("<span >", "").split()), part


MONTHLY = {"tenant": "acme", "frequency": "per_month", "amount": "1", "mode": "enforce"}
FORMS = [
    ("limit", MONTHLY | {"amount": "x"}, "kein Betrag in US-Dollar"),
    ("limit", MONTHLY | {"amount": ""}, "Hier fehlt ein Betrag"),
    ("limit", MONTHLY | {"effective_date": "2020-01-01"}, "in der Vergangenheit"),
    ("limit", MONTHLY | {"effective_date": "soon"}, "kein ISO-Datum"),
    ("limit", MONTHLY, "hat schon ein Limit pro Monat"),
    ("keys", {"account": "", "tenants": "", "may-ingest": "yes"}, "erlaubt sind 1 bis 255 Zeichen"),
    ("tenant/top-up", {"id": "acme", "limit": "per_month ", "usd": ""}, "Hier fehlt ein Betrag in US-Dollar"),
    ("tenants/change", {"id": "acme", "change": "plan", "plan": "gone"}, "gibt es nicht"),
]


@pytest.mark.parametrize(("path", "fields", "german"), FORMS)
def test_a_form_says_in_german_what_is_wrong(client: Client, path: str, fields: dict[str, str], german: str) -> None:
    answer = client.post(path, fields, accept_language="de")
    assert answer.status == 400
    assert german in answer.text


def test_the_notice_of_a_hold_that_was_closed_is_german(client: Client) -> None:
    text = client.ask("GET", "holds?said=late", headers=GERMAN).text
    assert "Diese Reservierung war schon geschlossen." in text


def test_counts_of_a_page_are_german(client: Client, meter: Meter) -> None:
    meter.store.record([(LLMEvent("e", "hans", timestamp=NOW - 60, input_tokens=12345), 1234 * USD)], NOW)
    text = client.ask("GET", "tenant?id=hans", headers=GERMAN).text
    assert "12.345" in text
    assert "1.234,00 $" in text
    assert "15. Jan. 2027" in text
