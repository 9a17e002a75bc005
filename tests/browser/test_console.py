"""Support people at the console in a real browser, for both mounts; screenshots are kept in `artifacts/`."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from flask import Flask, render_template_string
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from werkzeug.serving import make_server

from tests.browser.test_demo import ARTIFACTS, FLAGS
from tests.console.mounts import PREFIX, flask_app, starlette_app
from tests.console.site import EVIL, USD, sqlite
from tests.support import require_chromium
from tests.waiting import wait_until
from token_limit_core import Meter, scope
from token_limit_core.meter import engine_of
from token_limit_flask.usage import usage_page

pytestmark = pytest.mark.browser

WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 800}
PAGES = {
    "overview": "",
    "tenants": "tenants",
    "tenant": "tenant?id=acme",
    "refusals": "refusals",
    "plans": "plans",
    "top-up": "tenant/top-up?id=acme",
    "plan": "plan?plan=pro",
    "plan-limit": "plan/limit?plan=pro",
    "limit": "limit",
    "remove": "limit/remove?tenant=globex&id=3",
    "holds": "holds",
    "events": "events?tenant=acme",
    "changes": "history",
}


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


def werkzeug(meter: Meter) -> AbstractContextManager[str]:
    return serving(flask_app(meter, lambda request: "ann@example.com"))


@contextmanager
def uvicorn_server(meter: Meter) -> Iterator[str]:
    app = starlette_app(meter, lambda request: "ann@example.com")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


SERVERS: dict[str, Callable[[Meter], Any]] = {"flask": werkzeug, "starlette": uvicorn_server}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = require_chromium()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Meter]:
    meter = sqlite(tmp_path, days=40)
    meter.set_plan("pro", [{"amount": 25}, {"amount": 90_000, "unit": "tokens", "user": "*"}], markup=20)
    yield meter
    meter.close()


@pytest.fixture(params=list(SERVERS))
def framework(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def base(framework: str, meter: Meter) -> Iterator[str]:
    with SERVERS[framework](meter) as url:
        yield f"{url}{PREFIX}/"


def open_page(browser: Browser, **options: Any) -> tuple[Page, list[str]]:
    """Open a tab; complaints of the browser (scripts, Content-Security-Policy) are collected."""
    complaints: list[str] = []
    page = browser.new_context(**options).new_page()

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and "status of 400" not in message.text:  # a form that is shown again
            complaints.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    return page, complaints


def shot(page: Page, name: str, whole: bool = True) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"console-{name}.png", full_page=whole)


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {rule['nodes'][0]['html']}" for rule in found if rule["impact"] in ("serious", "critical")]


LEAVES_ITS_BOX = """() => [...document.querySelectorAll("form input, form select, form p")].filter(
    (each) => each.getBoundingClientRect().right > each.closest("form").getBoundingClientRect().right + 1
).map((each) => each.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_page_fits_obeys_the_policy_and_is_accessible(
    browser: Browser, base: str, framework: str, size: dict[str, int], scheme: str
) -> None:
    page, complaints = open_page(browser, viewport=size, color_scheme=scheme, bypass_csp=False)
    checker, _ = open_page(browser, viewport=size, color_scheme=scheme, bypass_csp=True)  # axe is injected
    for name, path in PAGES.items():
        response = page.goto(base + path)
        assert response is not None
        assert response.status == 200
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert page.evaluate(LEAVES_ITS_BOX) == []
        if framework == "flask":  # both send the same pages, and axe takes its time
            shot(page, f"{name}-{'phone' if size is PHONE else 'wide'}-{scheme}", whole=name != "events")
            checker.goto(base + path)
            assert serious(checker) == []
    assert complaints == []
    page.context.close()
    checker.context.close()


def test_without_javascript_everything_works(browser: Browser, base: str, meter: Meter, framework: str) -> None:
    page, complaints = open_page(browser, viewport=WIDE, java_script_enabled=False)
    page.goto(f"{base}tenants")
    page.select_option("[name=sort]", "share")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr").first).to_contain_text("initech")
    page.fill("[name=q]", "GLOB")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="globex").click()
    page.get_by_role("link", name="Change $12.00 per month").click()
    page.fill("[name=amount]", "-3")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#amount-problem")).to_contain_text("out of range")
    expect(page.locator("[name=amount]")).to_have_value("-3")
    shot(page, f"{framework}-bad-amount")
    page.fill("[name=amount]", "20")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("status")).to_contain_text("of the last 30 days")
    shot(page, f"{framework}-preview")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Saved.")
    assert [limit.amount for limit in meter.limits("globex")] == [20 * USD]
    page.get_by_text("Days as a table").click()
    expect(page.locator("details table")).to_be_visible()
    shot(page, f"{framework}-saved")
    page.get_by_role("link", name="Remove $20.00 per month").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("status")).to_contain_text("Removed.")
    assert meter.limits("globex") == []
    page.get_by_role("link", name="Holds", exact=True).click()
    page.get_by_role("button", name="Release").first.click()
    expect(page.get_by_role("status")).to_contain_text("Released.")
    assert len(meter.store.holds()) == 2
    assert complaints == []
    page.context.close()


@contextmanager
def own_page(meter: Meter, tenant: str) -> Iterator[str]:
    """Serve a tenant's own page with an embedded fragment in an app without a stylesheet."""
    app = Flask(__name__)
    app.register_blueprint(usage_page(), url_prefix="/usage")

    @app.get("/app")
    def embedded() -> str:
        return render_template_string("<!doctype html><title>Shop</title><h1>Shop</h1>{{ token_limit_usage() }}")

    def scoped(environ: Any, start_response: Any) -> Any:
        with scope.use(scope.child(engine_of(meter), tenant)):
            return list(inner(environ, start_response))

    inner, app.wsgi_app = app.wsgi_app, scoped  # type: ignore[method-assign]
    with serving(app) as url:
        yield url


def test_the_tenants_own_page(browser: Browser, meter: Meter) -> None:
    with own_page(meter, "acme") as url:
        for name, size, scheme in (("wide-light", WIDE, "light"), ("phone-dark", PHONE, "dark")):
            page, complaints = open_page(browser, viewport=size, color_scheme=scheme)
            page.goto(f"{url}/usage/")
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            shot(page, f"own-{name}")
            assert complaints == []
            page.context.close()
            page, _ = open_page(browser, viewport=size, color_scheme=scheme, bypass_csp=True)
            page.goto(f"{url}/usage/")
            assert serious(page) == []
            page.goto(f"{url}/app")
            shot(page, f"own-fragment-{name}")
            page.context.close()


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the thing of that name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        text = page.evaluate("(document.activeElement.labels?.[0] ?? document.activeElement).innerText")
        if " ".join(text.split()) == name:
            return
    pytest.fail(f"{name} cannot be reached with Tab")


def test_with_the_keyboard_alone_a_limit_is_set(browser: Browser, base: str, meter: Meter, framework: str) -> None:
    page, complaints = open_page(browser, viewport=WIDE)
    page.goto(f"{base}tenants")
    tab_to(page, "Skip to the content")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("hooli")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    tab_to(page, "Set a limit hooli")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Set a limit")
    tab_to(page, "Amount")
    page.keyboard.type("12.5")
    shot(page, f"{framework}-keyboard", whole=False)
    tab_to(page, "Continue")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("of the last 30 days")
    tab_to(page, "Save")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Saved.")
    assert [limit.amount for limit in meter.limits("hooli")] == [12_500_000_000]
    assert complaints == []
    page.context.close()


def test_with_javascript_a_choice_is_taken_at_once_and_a_release_is_asked_for(
    browser: Browser, base: str, meter: Meter
) -> None:
    page, said = open_page(browser, viewport=WIDE)
    page.goto(f"{base}tenants")
    page.select_option("[name=sort]", "spend")
    page.wait_for_url("**sort=spend**")
    page.goto(f"{base}holds")
    page.get_by_role("button", name="Release").first.click()
    assert len(said) == 1  # the question, which `open_page` has answered with no
    assert said[0].startswith("Release $0.04 held for acme?")
    assert len(meter.store.holds()) == 3
    assert page.locator("time").count() == 0
    page.goto(f"{base}history")
    assert re.search(r"2027.* \d+:\d\d:\d\d .*\w", page.locator("time").first.get_attribute("title") or "")
    page.context.close()


def test_hostile_names_are_only_text(browser: Browser, base: str, framework: str) -> None:
    page, complaints = open_page(browser, viewport=WIDE)
    page.goto(f"{base}tenants")
    page.get_by_role("link", name=EVIL).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(EVIL)
    page.goto(f"{base}events?mark=failed")
    page.locator("summary").click()
    expect(page.locator(".details")).to_contain_text(EVIL)
    shot(page, f"{framework}-event")
    assert complaints == []
    page.context.close()


def test_the_policy_stops_a_script_that_would_get_in(browser: Browser, base: str) -> None:
    page, complaints = open_page(browser, viewport=WIDE)
    page.goto(base)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'alert(2)'}))")
    page.evaluate("document.body.append(Object.assign(document.createElement('style'), {textContent: '*{}'}))")

    def stopped() -> bool:
        page.evaluate("0")  # lets what the browser has complained of arrive
        return len([text for text in complaints if "Content Security Policy" in text]) >= 2

    wait_until(stopped)
    assert not {"1", "2"} & set(complaints)
    page.context.close()
