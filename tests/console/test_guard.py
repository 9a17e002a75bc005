"""Who may enter: nobody without an `authorize`, nobody it does not name, and no form from elsewhere."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from token_limit_core import Meter
from token_limit_core.console.access import Csrf, actor_of
from token_limit_core.console.routes import ROUTES
from token_limit_core.console.web import MOST_BODY, Request
from token_limit_core.errors import ConfigurationError

from .mounts import MOUNTS, SECRET, Client, by_header, by_header_async, flask_app, starlette_app
from .site import EVIL, make_meter

EVERY = [(method, path) for path, route in ROUTES.items() for method in route.handlers]
STATIC = [("GET", f"static/{name}") for name in ("console.css", "console.js", "icon.svg")]
LIMIT = {"tenant": "hooli", "frequency": "per_month", "amount": "5", "mode": "enforce"}


@pytest.fixture
def small() -> Meter:
    return make_meter("memory://")


@pytest.mark.parametrize(("method", "path"), [*EVERY, *STATIC, ("GET", "no/such/page"), ("DELETE", "limit")])
def test_without_authorize_every_page_is_closed(small: Meter, mount: str, method: str, path: str) -> None:
    with MOUNTS[mount](small, None) as client:
        answer = client.ask(method, path)
    assert answer.status == (405 if (mount, method) == ("flask", "DELETE") else 403)
    assert "Tenants" not in answer.text


def test_the_log_says_once_how_to_open_it(small: Meter, mount: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "token_limit"), MOUNTS[mount](small, None) as client:
        client.get()
        client.get("events")
    [record] = [record for record in caplog.records if record.name == "token_limit"]
    assert "authorize=" in record.message


@pytest.mark.parametrize(("method", "path"), [*EVERY, *STATIC, ("GET", "no/such/page")])
def test_nobody_but_whom_authorize_names_sees_any_page(client: Client, method: str, path: str) -> None:
    client.person = None
    answer = client.ask(method, path)
    assert answer.status == 403
    assert "acme" not in answer.text


@pytest.mark.parametrize("answered", [None, False, "", 0, 1, object(), ["ann"], b"ann"])
def test_only_a_name_or_true_opens(small: Meter, mount: str, answered: Any) -> None:
    with MOUNTS[mount](small, lambda request: answered) as client:
        assert client.get().status == 403


def test_true_opens_and_is_recorded_without_a_name(small: Meter, mount: str) -> None:
    assert actor_of(True) == "console"
    with MOUNTS[mount](small, lambda request: True) as client:
        assert client.post("limit", {**LIMIT, "new_tenant": "yes"}).status == 303
    assert [change.actor for change in small.store.history()] == ["console"]


def test_an_asynchronous_authorize_is_waited_for(small: Meter, mount: str) -> None:
    if mount == "flask":
        pytest.importorskip("asgiref")
    with MOUNTS[mount](small, by_header_async) as client:
        assert client.get().status == 200
        client.person = None
        assert client.get().status == 403


def test_every_page_has_the_headers_of_a_strict_policy(client: Client) -> None:
    for path in ("", "tenant?id=acme", "limit", "events", "holds", "history", "nothing", "tenants.json", "events.csv"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


def test_pages_have_no_inline_script_or_style(client: Client) -> None:
    for path in ("", "tenant?id=acme", "limit", "events", "holds", "history"):
        text = client.get(path).text
        assert " style=" not in text
        assert "<style" not in text
        assert " on" + "click" not in text
        assert text.count("<script") == text.count('<script src="/staff/limits/static/console.js')


# -- forms --------------------------------------------------------------------------------------


def limits_of(meter: Meter, tenant: str = "hooli") -> list[Any]:
    return meter.limits(tenant)


def test_a_form_of_ours_is_taken(client: Client, meter: Meter) -> None:
    assert client.post("limit", LIMIT).status == 303
    assert [limit.amount for limit in limits_of(meter)] == [5 * 10**9]
    assert meter.store.history("hooli")[0].actor == "ann"


@pytest.mark.parametrize("path", [path for path, route in ROUTES.items() if route.post])
@pytest.mark.parametrize("token", [None, "", "x", "é", "A" * 44])
def test_a_form_without_the_right_token_is_refused(client: Client, meter: Meter, path: str, token: str | None) -> None:
    client.get("limit")
    fields = {**LIMIT, "call_id": meter.store.holds()[0].call_id}
    answer = client.raw_post(path, fields if token is None else {**fields, "csrf": token})
    assert answer.status == 403
    assert limits_of(meter) == []
    assert len(meter.store.holds()) == 3


def test_a_token_is_good_for_one_person_and_one_browser_only(client: Client, meter: Meter) -> None:
    page = client.get("limit").text
    token = page.partition('name="csrf" value="')[2].partition('"')[0]
    client.person = "mallory"
    assert client.raw_post("limit", {**LIMIT, "csrf": token}).status == 403
    client.person = "ann"
    mine, client.cookie = client.cookie, "token_limit_console=" + "x" * 24
    assert client.raw_post("limit", {**LIMIT, "csrf": token}).status == 403
    client.cookie = ""
    assert client.raw_post("limit", {**LIMIT, "csrf": token}).status == 403
    assert limits_of(meter) == []
    client.cookie = mine
    assert client.raw_post("limit", {**LIMIT, "csrf": token}).status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost.evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
    ],
)
def test_a_form_from_another_site_is_refused_though_its_token_is_right(
    client: Client, meter: Meter, headers: dict[str, str]
) -> None:
    assert client.post("limit", LIMIT, **headers).status == 403
    assert limits_of(meter) == []


def test_another_content_type_is_no_form(client: Client, meter: Meter) -> None:
    assert client.post("limit", LIMIT, content_type="text/plain").status == 403
    assert limits_of(meter) == []


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(client: Client) -> None:
    cookie = client.get("limit").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/staff/limits" in cookie
    assert "set-cookie" not in client.get("limit").headers


def test_over_https_the_cookie_is_secure() -> None:
    csrf = Csrf(SECRET)
    assert "; Secure" in csrf.cookie(Request("GET", "", secure=True), "x" * 24)


def test_a_form_that_is_too_large_is_refused(client: Client) -> None:
    assert client.raw_post("limit", {"csrf": "x" * MOST_BODY}).status == 413


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_do_nothing(client: Client, method: str) -> None:
    answer = client.ask(method, "limit")
    assert answer.status == 405
    assert "Set a limit" not in answer.text


def test_a_mount_that_is_open_needs_a_secret(small: Meter) -> None:
    from flask import Flask

    from token_limit_flask.console import console as flask_console
    from token_limit_starlette.console import console as starlette_console

    app = Flask(__name__)
    with pytest.raises(ConfigurationError, match="secret"):
        app.register_blueprint(flask_console(by_header, meter=small), url_prefix="/x")
    for secret in (None, "", "short"):
        with pytest.raises(ConfigurationError, match="secret"):
            starlette_console(by_header, meter=small, secret=secret)
    assert flask_app(small, None)
    assert starlette_app(small, None)


def test_nothing_hostile_gets_into_a_page_or_a_header(client: Client) -> None:
    for path in ("", "events", "history", "holds"):
        assert EVIL not in client.get(path).text
    for path in ("tenant", "limit", "limit/remove", "holds", "history"):
        answer = client.get(path, id=EVIL, tenant=EVIL, said=EVIL, q=EVIL)
        assert "<script>alert" not in answer.text
    for name in ("q", "sort", "page", "tenant", "provider", "model", "mark", "from", "to", "after"):
        for path in ("", "events", "history"):
            answer = client.get(path, **{name: EVIL})
            assert answer.status in (200, 400)
            assert "<script>alert" not in answer.text
