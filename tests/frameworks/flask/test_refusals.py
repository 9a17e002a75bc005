"""What a customer gets who hit the wall, whatever became of the refusal on its way out."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import jinja2
import pytest
from django.test import RequestFactory
from flask import Flask, Request

from token_limit_core import Decision, LimitExceededException
from token_limit_core.testing import FakeProvider
from token_limit_django.responses import upgrade_response as django_response
from token_limit_flask import TokenLimit, get_meter
from token_limit_flask.responses import upgrade_response

from .conftest import Site

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
def broke(make: Callable[..., Site]) -> Site:
    """A site whose user 7 may spend nothing."""
    site = make(upgrade_url="/plans")
    site.meter.set_limit("user:7", 0)
    return site


@pytest.mark.parametrize("propagate", [False, True])
@pytest.mark.parametrize("view", ["plain", "aplain", "own_loop", "wrapped", "grouped", "streamed_late"])
def test_a_refusal_becomes_the_upgrade_response_before_any_traffic(
    broke: Site, fake_provider: FakeProvider, view: str, propagate: bool
) -> None:
    broke.app.config["PROPAGATE_EXCEPTIONS"] = propagate  # as in debug mode and in tests
    response = broke.client("7").get(f"/{view}", headers={"Accept": "application/json"})
    assert (response.status_code, response.content_type) == (402, "application/problem+json")
    assert response.headers["Cache-Control"] == "no-store"
    assert "Accept" in response.headers["Vary"]
    problem = response.json
    assert (problem["kind"], problem["limit_usd"], problem["upgrade_url"]) == ("exhausted", "0", "/plans")
    assert fake_provider.requests == []


@pytest.mark.parametrize("propagate", [False, True])
@pytest.mark.parametrize("view", ["plain", "wrapped"])
def test_people_are_shown_the_page(broke: Site, view: str, propagate: bool) -> None:
    broke.app.config["PROPAGATE_EXCEPTIONS"] = propagate
    response = broke.client("7").get(f"/{view}", headers={"Accept": BROWSER})
    assert (response.status_code, response.mimetype) == (402, "text/html")
    assert "No AI allowance" in response.text
    assert 'href="/plans"' in response.text


def test_busy_is_told_to_try_again(broke: Site) -> None:
    from token_limit_core.stores.records import Call

    broke.meter.set_limit("user:7", "0.000001")
    assert broke.meter.store.admit(Call("in flight", "user:7", 1000), broke.meter.config.clock()).admitted
    response = broke.client("7").get("/plain")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "1")


def test_a_denial_the_app_handled_is_the_apps_business(broke: Site) -> None:
    client = broke.client("7")
    assert client.get("/handled").data == b"no answer today"
    assert client.get("/handled_then_broken").status_code == 500


def test_an_app_that_catches_everything_keeps_its_answer(broke: Site) -> None:
    @broke.app.errorhandler(Exception)
    def catch(error: Exception) -> tuple[str, int]:
        return f"sorry: {type(error).__name__}", 200

    client = broke.client("7")
    assert client.get("/plain").status_code == 402  # the handler of the refusal itself is the closer one
    assert (client.get("/wrapped").status_code, client.get("/wrapped").text) == (200, "sorry: RuntimeError")


def test_an_app_that_handles_the_refusal_itself_keeps_its_answer(broke: Site) -> None:
    @broke.app.errorhandler(LimitExceededException)
    def refused(error: LimitExceededException) -> tuple[str, int]:
        return error.decision.kind, 200

    response = broke.client("7").get("/plain")
    assert (response.status_code, response.text) == (200, "exhausted")


def _small(app: Flask) -> Flask:
    """Put TokenLimit on an app whose one tenant may spend nothing, and which asks before it answers."""
    TokenLimit(app, store="memory://", tenant_resolver=lambda request: "acme")
    get_meter(app).set_limit("acme", 0)
    app.add_url_rule("/", view_func=lambda: get_meter().check_limit() or "fine")
    return app


def test_a_handler_the_app_had_before_is_kept() -> None:
    app = Flask(__name__)
    app.register_error_handler(LimitExceededException, lambda error: ("mine", 418))
    with get_meter(_small(app)):
        assert app.test_client().get("/").status_code == 418


def test_a_page_of_the_app_for_500_does_not_hide_a_wrapped_refusal(broke: Site) -> None:
    @broke.app.errorhandler(500)
    def broken(error: Exception) -> tuple[str, int]:
        return "our fault", 500

    @broke.app.after_request
    def mark(response: Any) -> Any:
        response.headers["X-App"] = "yes"
        return response

    client = broke.client("7")
    refused, failed = client.get("/wrapped"), client.get("/handled_then_broken")
    assert (refused.status_code, refused.headers["X-App"]) == (402, "yes")
    assert (failed.status_code, failed.text) == (500, "our fault")


def test_a_refusal_of_a_wsgi_app_below_becomes_the_upgrade_response() -> None:
    app = Flask(__name__)
    inner = app.wsgi_app

    def middleware(environ: Any, start_response: Any) -> Any:
        with get_meter(app).for_tenant("acme"):
            get_meter(app).check_limit()
        return inner(environ, start_response)

    app.wsgi_app = middleware  # type: ignore[method-assign]
    with get_meter(_small(app)):
        response = app.test_client().get("/")
    assert (response.status_code, response.content_type) == (402, "application/problem+json")


def test_a_refusal_in_the_middle_of_a_body_ends_it(broke: Site) -> None:
    with pytest.raises(LimitExceededException):
        broke.client("7").get("/streamed").data  # noqa: B018 - reads the body


def teapot(request: Request, decision: Decision) -> tuple[str, int]:
    return f"{request.path} {decision.kind}", 418


@pytest.mark.parametrize("view", ["plain", "wrapped"])
def test_a_refusal_can_be_answered_by_the_app(make: Callable[..., Site], view: str) -> None:
    site = make(upgrade_response=f"{__name__}.teapot")
    site.meter.set_limit("user:7", 0)
    site.app.config["PROPAGATE_EXCEPTIONS"] = True
    response = site.client("7").get(f"/{view}")
    assert (response.status_code, response.text) == (418, f"/{view} exhausted")


def test_the_page_can_be_overridden_and_extended(broke: Site, tmp_path: Path) -> None:
    broke.app.jinja_loader.loaders.insert(0, jinja2.FileSystemLoader(tmp_path))  # type: ignore[union-attr]
    (tmp_path / "base.html").write_text(
        "{% extends 'token_limit/upgrade.html' %}{% block title %}Acme: {{ title }}{% endblock %}"
    )
    client = broke.client("7")
    assert "<title>No AI allowance</title>" in client.get("/plain", headers={"Accept": BROWSER}).text
    with broke.app.test_request_context():
        assert "<title>Acme: x</title>" in broke.app.jinja_env.get_template("base.html").render(title="x")
    (tmp_path / "token_limit").mkdir()
    (tmp_path / "token_limit/upgrade.html").write_text("ours: {{ spent }} of {{ limit }}")
    broke.app.jinja_env.cache.clear()  # type: ignore[union-attr]
    assert client.get("/plain", headers={"Accept": BROWSER}).text == "ours: $0.00 of $0.00"


def test_a_broken_template_or_answer_of_the_app_falls_back(
    make: Callable[..., Site], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # as in production
    site = make(upgrade_template="nowhere.html", upgrade_response=lambda request, decision: 1 / 0)
    site.meter.set_limit("user:7", 0)
    response = site.client("7").get("/plain", headers={"Accept": BROWSER})
    assert response.status_code == 402 and "No AI allowance" in response.text
    assert "calling UPGRADE_RESPONSE" in caplog.text and "rendering the upgrade page" in caplog.text


@pytest.mark.parametrize(("answer", "status"), [("Sorry", 402), ({"sorry": True}, 402), (("Sorry", 429), 429)])
def test_an_answer_of_the_app_without_a_status_is_a_refusal_all_the_same(
    make: Callable[..., Site], answer: Any, status: int
) -> None:
    site = make(upgrade_response=lambda request, decision: answer)
    site.meter.set_limit("user:7", 0)
    assert site.client("7").get("/plain").status_code == status


def test_the_page_is_the_same_in_django(make: Callable[..., Site]) -> None:
    app = make().app
    decision = Decision("exhausted", "acme", Decimal(5), Decimal(3), Decimal(1), None, "per_month", resets_at=0)
    with app.test_request_context(headers={"Accept": BROWSER}):
        ours = upgrade_response(app.extensions["token_limit"].settings, decision).get_data(True)
    theirs = django_response(RequestFactory().get("/", headers={"Accept": BROWSER}), decision).content.decode()
    assert "$3.00 spent" in ours
    assert theirs.split() == ours.split()
