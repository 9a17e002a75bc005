"""The FastAPI example in a real browser: answers stream in as server-sent events, and the wall is shown."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.servers import free_port
from tests.support import require_chromium

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "artifacts"
MOST_CHATS = 60

_spec = importlib.util.spec_from_file_location("fastapi_chat_demo", ROOT / "examples/fastapi_chat/demo.py")
assert _spec is not None
assert _spec.loader is not None
demo = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(demo)

pytestmark = pytest.mark.browser


@pytest.fixture
def page() -> Iterator[Page]:
    path = require_chromium()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium.new_page(viewport={"width": 1280, "height": 640})
        chromium.close()


def ask(page: Page, question: str) -> bool:
    """Ask as a person does; tell whether there was an answer rather than a refusal."""
    outcomes = page.locator("#log .answer, #log .refused")
    before = outcomes.count()
    with page.expect_response(lambda response: response.url.endswith("/usage/")):
        page.fill("[name=question]", question)
        page.click("#ask button")
    expect(outcomes).to_have_count(before + 1)
    expect(outcomes.last).to_have_text(re.compile(r"\w{2}"))
    return "answer" in (outcomes.last.get_attribute("class") or "")


def test_a_customer_chats_until_the_wall_and_after_it(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with demo.site(tmp_path, free_port()) as site:
        page.goto(site.url)
        page.fill("[name=username]", "alice")
        page.fill("[name=password]", "demo")
        page.press("[name=password]", "Enter")
        page.wait_for_url(f"{site.url}/")
        chats = 0
        while ask(page, f"Question {chats + 1}: what does a limit do?"):
            chats += 1
            assert chats < MOST_CHATS, "the limit never refused"
        assert chats >= 1
        refusal = page.locator("#log .refused")
        expect(refusal).to_contain_text("monthly limit of $0.003 is used up")
        expect(refusal.get_by_role("link", name="Upgrade")).to_have_attribute("href", "/plans/")
        ARTIFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTIFACTS / "fastapi-chat-refused.png")
        demo.token_limit(site, "set", "acme", "0.02")
        assert ask(page, "Am I back?")
        expect(page.locator("#usage")).to_contain_text(re.compile(r"of \$0\.02\b"))
        page.goto(f"{site.url}/plans/")
        expect(page.get_by_role("heading")).to_have_text("Plans")
