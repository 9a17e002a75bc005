"""A customer and a support person in a real browser; the screenshots are kept in `artifacts/`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.servers import free_port
from tests.support import require_chromium

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "artifacts"
MOST_CHATS = 60
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

sys.path.insert(0, str(ROOT / "examples" / "django_saas"))

from demo import site  # noqa: E402

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = require_chromium()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENAI_API_KEY", raising=False)
        with site(tmp_path_factory.mktemp("site"), free_port()) as running:
            yield running.url


def sign_in(context: BrowserContext, url: str, path: str, username: str) -> Page:
    page = context.new_page()
    page.goto(url + path)
    page.fill("[name=username]", username)
    page.fill("[name=password]", "demo")
    page.press("[name=password]", "Enter")
    page.wait_for_url(lambda reached: path not in reached)
    return page


def ask(page: Page, question: str) -> bool:
    """Ask as a person does; tell whether there was an answer rather than a refusal."""
    outcomes = page.locator("#log .answer, #log .refused")
    before = outcomes.count()
    with page.expect_response(lambda response: response.url.endswith("/usage/")):
        page.fill("[name=question]", question)
        page.click("#ask button")
    expect(outcomes).to_have_count(before + 1)
    return "answer" in (outcomes.last.get_attribute("class") or "")


def shot(page: Page, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png")


def test_a_customer_hits_the_wall_and_support_raises_the_limit(browser: Browser, url: str) -> None:
    size = {"width": 1280, "height": 640}
    customer = browser.new_context(viewport=size)
    page = sign_in(customer, url, "/login/", "alice")
    chats = 0
    while ask(page, f"Question {chats + 1}: what does a limit do?"):
        chats += 1
        assert chats < MOST_CHATS, "the limit never refused"
    assert chats >= 1
    refusal = page.locator("#log .refused")
    expect(refusal).to_contain_text("monthly limit of $0.003 is used up")
    expect(refusal.get_by_role("link", name="Upgrade")).to_have_attribute("href", "/plans/")
    shot(page, "chat-refused")

    without_script = browser.new_context(viewport=size, java_script_enabled=False)
    without_script.add_cookies(customer.cookies())  # type: ignore[arg-type]
    plain = without_script.new_page()
    plain.goto(url)
    plain.fill("[name=question]", "One more?")
    plain.click("#ask button")
    expect(plain.get_by_role("heading")).to_have_text("Monthly limit reached")
    expect(plain.get_by_role("link", name="Upgrade")).to_be_visible()
    shot(plain, "upgrade")

    phone = browser.new_context(viewport={"width": 390, "height": 740}, color_scheme="dark", java_script_enabled=False)
    phone.add_cookies(customer.cookies())  # type: ignore[arg-type]
    small = phone.new_page()
    small.goto(url)
    small.fill("[name=question]", "And on the phone?")
    small.click("#ask button")
    assert small.evaluate("document.documentElement.scrollWidth") <= 390
    shot(small, "upgrade-phone-dark")

    support = sign_in(browser.new_context(viewport=size), url, "/admin/login/?next=/admin/", "support")
    support.goto(f"{url}/admin/token_limit/limit/?q=acme")
    support.get_by_role("link", name="acme", exact=True).first.click()
    shot(support, "admin")
    support.locator("td.actions a").first.click()
    support.fill("[name=amount]", "-1")
    support.get_by_role("button", name="Continue").click()
    expect(support.locator("#amount-problem")).to_be_visible()
    shot(support, "admin-bad-amount")
    support.fill("[name=amount]", "0.02")
    support.get_by_role("button", name="Continue").click()
    support.get_by_role("button", name="Save").click()
    expect(support.get_by_role("status")).to_contain_text("Saved.")
    shot(support, "admin-raised")

    assert ask(page, "Am I back?")
    expect(page.locator("#usage")).to_contain_text(re.compile(r"of \$0\.02\b"))
    shot(page, "chat-again")


PAGES = ("", "tenants", "tenant?id=acme", "tenant/top-up?id=acme", "plans", "refusals", "events", "holds", "history")
"""Pages below the overview of the admin."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_pages_in_admin_fit_and_are_accessible(browser: Browser, url: str, width: int, scheme: str) -> None:
    looks: dict[str, Any] = {"viewport": {"width": width, "height": 740}, "color_scheme": scheme}
    page = sign_in(browser.new_context(**looks, bypass_csp=True), url, "/admin/login/?next=/admin/", "support")
    for path in PAGES:
        response = page.goto(f"{url}/admin/token_limit/overview/{path}")
        assert response is not None and response.status == 200
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page, ".tl-admin").response["violations"]
        assert [rule["id"] for rule in found if rule["impact"] in ("serious", "critical")] == []
        shot(page, f"admin-{path.partition('?')[0].replace('/', '-') or 'overview'}-{width}-{scheme}")


def test_without_javascript_support_finds_who_is_over_and_tops_up(browser: Browser, url: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 740}, java_script_enabled=False)
    page = sign_in(context, url, "/admin/login/?next=/admin/", "support")
    page.goto(f"{url}/admin/")
    page.get_by_role("link", name="Overview").first.click()
    page.get_by_role("link", name=re.compile("tenants in all")).click()
    page.locator("#content-main, .tl-admin").get_by_role("link", name="acme").first.click()
    page.get_by_role("link", name="Top up").click()
    page.fill("[name=usd]", "-1")
    page.get_by_role("button", name="Top up").click()
    expect(page.locator("#usd-problem")).to_be_visible()
    page.fill("[name=usd]", "1")
    page.get_by_role("button", name="Top up").click()
    expect(page.get_by_role("status")).to_contain_text("Added to this window.")
    expect(page.locator(".changes")).to_contain_text("Topped up by $1.00")
