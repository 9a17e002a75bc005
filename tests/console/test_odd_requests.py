"""What browsers, proxies and other people's middleware do to a request, and odd values in rows already stored."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from token_limit_core import Meter
from token_limit_core.console.context import harmless
from token_limit_core.errors import ConfigurationError
from token_limit_core.events import LLMEvent
from token_limit_core.limits import Limit, LimitStatus
from token_limit_core.windows import PER_MONTH, Window, parse_effective_date
from token_limit_core.wording import moment, percent
from token_limit_starlette.console import console as starlette_console

from .mounts import MOUNTS, PREFIX, SECRET, WHO, Client, by_header, flask_app
from .site import NOW, fill, make_meter

LIMIT = {"tenant": "hooli", "frequency": "per_month", "amount": "5", "mode": "enforce"}
PEOPLE = {WHO: "ann"}


@pytest.fixture
def full() -> Meter:
    return fill(make_meter("memory://"), 1)


# -- what comes with a request ------------------------------------------------------------------


def test_another_cookie_that_breaks_the_rules_breaks_no_form(client: Client) -> None:
    token = client.get("limit").text.partition('name="csrf" value="')[2].partition('"')[0]
    client.cookie = f'prefs={{"a": 1}}; {client.cookie}; x'
    assert client.raw_post("limit", {**LIMIT, "csrf": token}).status == 303


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "//", "http:"])
def test_an_origin_that_is_none_is_another_site(client: Client, origin: str) -> None:
    assert client.post("limit", LIMIT, origin=origin).status == 403


@pytest.mark.parametrize("query", ["_Context__obj=1", "_block_vars=1&_loop_vars=1", "self=1&path=2&caller=3"])
def test_a_parameter_that_no_page_has_is_left_out(client: Client, query: str) -> None:
    answer = client.get(f"events?tenant=acme&{query}")
    assert answer.status == 200
    assert query.partition("=")[0] not in answer.text
    assert "events.csv?tenant=acme" in answer.text


def test_405_names_what_is_allowed(client: Client) -> None:
    assert set(client.ask("POST", "events").headers["allow"].split(", ")) >= {"GET", "HEAD"}


def test_a_form_is_taken_though_the_application_has_read_it_first(full: Meter) -> None:
    app = flask_app(full, by_header)

    @app.before_request
    def log_form() -> None:
        from flask import request

        request.form.get("tenant")

    client = app.test_client()
    page = client.get(f"{PREFIX}/limit", headers=PEOPLE).text
    token = page.partition('name="csrf" value="')[2].partition('"')[0]
    assert client.post(f"{PREFIX}/limit", data={**LIMIT, "csrf": token}, headers=PEOPLE).status_code == 303


@pytest.fixture
def on_postgres(postgres_url: str) -> Iterator[Meter]:
    meter = fill(make_meter(postgres_url), 1)
    yield meter
    meter.close()


@pytest.mark.parametrize(
    "path", ["tenant?id=", "tenant.json?id=", "tenant.csv?id=", "holds?tenant=", "history?tenant=", "limit?tenant="]
)
def test_a_character_that_no_database_takes_is_told(on_postgres: Meter, mount: str, path: str) -> None:
    with MOUNTS[mount](on_postgres, by_header) as client:
        assert client.get(f"{path}a%00b").status == 400
        assert client.post("holds/release", {"call_id": "a\0b"}).status == 400
        assert client.post("limit/remove", {"tenant": "a\0b", "id": "1"}).status == 400


# -- where it is mounted ------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["/tl/", "/api/v1/tl/"])
def test_behind_a_proxy_that_strips_its_prefix_or_does_not(full: Meter, base: str) -> None:
    app = Starlette(routes=[Mount("/tl", starlette_console(by_header, meter=full, secret=SECRET))])
    with TestClient(app, base_url="http://localhost", root_path="/api/v1", follow_redirects=False) as client:
        answer = client.get(f"{base}limit", headers=PEOPLE)
        assert answer.status_code == 200
        assert 'action="/api/v1/tl/limit"' in answer.text
        assert client.get(f"{base}static/console.css", headers=PEOPLE).status_code == 200


@pytest.mark.parametrize("org", ["a%3BDomain%3Devil.example", "%C3%BC", "%E2%82%AC", "a%20b", "a%0D%0Ab"])
def test_a_mount_of_any_name_gets_into_no_header(full: Meter, org: str) -> None:
    app = Starlette(routes=[Mount("/{org}/tl", starlette_console(by_header, meter=full, secret=SECRET))])
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        page = client.get(f"/{org}/tl/limit", headers=PEOPLE)
        assert page.status_code == 200
        assert f"Path=/{org}/tl;" in page.headers["set-cookie"]
        token = re.findall('name="csrf" value="([^"]+)"', page.text)[0]
        cookie = page.headers["set-cookie"].partition(";")[0]
        saved = client.post(f"/{org}/tl/limit", data={**LIMIT, "csrf": token}, headers={**PEOPLE, "cookie": cookie})
        assert saved.headers["location"] == f"/{org}/tl/tenant?id=hooli&said=saved"


# -- what the rows hold -------------------------------------------------------------------------


@pytest.mark.parametrize("date", ["9999-12-31T23:59-23:59", "0001-01-01T00:00+23:59"])
def test_a_date_that_no_calendar_shows_is_refused(client: Client, meter: Meter, date: str) -> None:
    answer = client.post("limit", {**LIMIT, "effective_date": date})
    assert answer.status == 400
    assert 'id="effective_date-problem"' in answer.text
    with pytest.raises(ConfigurationError, match="effective_date"):
        parse_effective_date(date, NOW)
    assert [client.get(path).status for path in ("tenant?id=hooli", "history", "history.json")] == [200] * 3


@pytest.mark.parametrize("seconds", [1.8e12, -1e12, 253402300800.0])
def test_an_event_of_an_impossible_time_hides_no_other(client: Client, meter: Meter, seconds: float) -> None:
    meter.store.record([(LLMEvent("odd-time", "umbrella", model="gpt-5", timestamp=seconds), 1)], NOW)
    days = "from=1970-01-01" if seconds > 0 else ""
    for path in ("events", "events.json", "events.csv"):
        assert client.get(f"{path}?tenant=umbrella&{days}").status == 200
    assert client.get("tenant?id=umbrella").status == 200


def test_a_time_is_shown_as_the_nearest_that_a_calendar_has() -> None:
    assert moment(NOW) == datetime.fromtimestamp(NOW, UTC)
    assert moment(1e30) == moment(float("inf")) == datetime(9999, 12, 31, tzinfo=UTC)
    assert moment(-1e30) == moment(float("nan")) == datetime(1, 1, 1, tzinfo=UTC)


def test_a_tag_that_json_has_no_word_for_is_written_as_text(full: Meter, mount: str) -> None:
    event = LLMEvent("odd-tag", "acme", model="gpt-5", timestamp=NOW - 1, tags={"at": datetime(2027, 1, 1, tzinfo=UTC)})
    full.store.record([(event, 1)], NOW)
    with MOUNTS[mount](full, by_header) as client:
        newest = json.loads(client.get("events.json", "GET", tenant="acme").text)["events"][0]
    assert newest["tags"]["at"].startswith("2027-01-01")


@pytest.mark.parametrize("text", ["x;=1+1", "x\t@SUM(A1)", "a,-2", 'a"\n=1', "a;  +1", "x;＝1"])
def test_a_formula_after_what_some_spreadsheets_split_at_is_harmless_too(text: str) -> None:
    assert not re.search(r"[;,\t\n\r]\s*[=+\-@＝]", harmless(text))
    assert harmless(text).replace("'", "") == text


def test_text_with_ordinary_signs_stays_as_it_is() -> None:
    assert harmless("gpt-4o+vision, a=b; c@d") == "gpt-4o+vision, a=b; c@d"


def test_a_credit_is_no_share_of_a_limit() -> None:
    from token_limit_core.console import tenant_usage as own

    limit = Limit("acme", 10 * 10**9, PER_MONTH)
    status = LimitStatus(limit, Window(0, 86400), -(10**9), 0)
    usage = own.Usage("acme", [status], [], 0, 86400, 1.0)
    assert own.context(usage)["usage"]["limits"][0]["share"] == "0 %"
    assert own.context(usage)["usage"]["limits"][0]["spent"] == "-$1.00"
    assert percent(5, 1000) == "under 1 %"
