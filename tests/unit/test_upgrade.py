from __future__ import annotations

import json
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest

from token_limit_core.errors import ConfigurationError
from token_limit_core.limits import Decision
from token_limit_core.limits.references import parse_reference, reference_of
from token_limit_core.runtime.links import check_support_url, check_upgrade_url
from token_limit_core.upgrade import context, problem, render

NOW = 1_800_021_600.0  # 15 January 2027, 14:00 UTC


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("token_limit_core.upgrade.time.time", lambda: NOW)


FIRST_OF_DECEMBER = 1796083200  # 2026-12-01T00:00:00Z
CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def decision(kind: Any = "exhausted", **facts: Any) -> Decision:
    known = {
        "tenant_id": "acme",
        "limit_usd": Decimal("25.000000000"),
        "spent_usd": Decimal("25.031500000"),
        "held_usd": Decimal(0),
        "frequency": "per_month",
        "resets_at": FIRST_OF_DECEMBER,
    }
    return Decision(kind=kind, **(known | facts))


class Page(HTMLParser):
    """What a person sees of a page: its texts and links outside hidden elements."""

    VOID = ("meta", "rect")

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[tuple[str | None, str]] = []
        self.text = ""
        self._open: list[tuple[str, bool, str | None]] = []
        self.feed(body.decode())
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self._open.append((tag, "hidden" in dict(attrs), dict(attrs).get("href")))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if not data.strip() or any(hidden for _, hidden, _ in self._open):
            return
        tag, _, href = self._open[-1]
        if tag == "a":
            self.links.append((href, data))
        elif tag != "style":
            self.text = f"{self.text} {data.strip()}"


@pytest.mark.parametrize(
    ("accept", "wants_html"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/problem+json", False),
        ("text/event-stream", False),
        (CHROME, True),
        ("text/html", True),
        ("TEXT/HTML", True),
        ("text/*", True),
        ("application/xhtml+xml", True),
        ("text/html;q=0", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=0.5, application/json", False),
        ("text/html , application/json ; q=0.9", True),
        ("application/json;q=0.2, text/html;q=0.3", True),
        ("text/html, application/json", False),
        ("text/html;level=1;q=0.4, */*;q=0.1", True),
        ("text/*;q=0.3, */*;q=0.8", False),
        ("application/*;q=0, */*;q=0.1", True),
        ("text/html;q=high", False),
        ("text/html;q=nan", False),
        (";;,,q=1", False),
    ],
)
def test_accept_decides_between_page_and_problem(accept, wants_html):
    answer = render(decision(), accept)
    expected = "text/html; charset=utf-8" if wants_html else "application/problem+json"
    assert answer.headers["Content-Type"] == expected
    assert (b"<html" in answer.body) == wants_html


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_answers_are_not_cached_and_vary_by_accept(accept):
    headers = render(decision(), accept).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Vary"] == "Accept, Accept-Language"
    assert "Retry-After" not in headers


def test_problem_carries_every_fact_of_the_decision():
    refused = decision()
    answer = render(refused, None, upgrade_url="https://example.com/billing?plan=pro&from=limit")
    assert answer.status == 402
    members = json.loads(answer.body)
    assert parse_reference(members.pop("instance")) == reference_of("exhausted", "acme", NOW)
    assert members == {
        "type": "urn:token-limit:exhausted",
        "title": "Monthly limit reached",
        "status": 402,
        "detail": refused.explain(),
        "kind": "exhausted",
        "limit_usd": "25",
        "spent_usd": "25.0315",
        "remaining_usd": "0",
        "frequency": "per_month",
        "resets_at": "2026-12-01T00:00:00Z",
        "upgrade_url": "https://example.com/billing?plan=pro&from=limit",
    }


def test_the_smallest_amount_is_written_out_and_not_in_exponents():
    members = json.loads(render(decision(spent_usd=Decimal("1E-9"), limit_usd=Decimal("1E+3")), None).body)
    assert (members["spent_usd"], members["limit_usd"]) == ("0.000000001", "1000")


def test_problem_leaves_out_what_is_not_known():
    answer = render(Decision("unverifiable", "acme", retry_after=5), "application/json")
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"
    assert set(json.loads(answer.body)) == {
        "type", "title", "status", "detail", "kind", "retry_after", "instance",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "status"),
    [("exhausted", 402), ("does_not_fit", 402), ("busy", 429), ("unverifiable", 503), ("no_tenant", 403)],
)
def test_each_kind_has_its_status_and_urn_and_a_page(kind, status):
    members = json.loads(render(decision(kind), None).body)
    assert (members["status"], members["type"]) == (status, f"urn:token-limit:{kind}")
    page = render(decision(kind), CHROME)
    assert page.status == status
    assert Page(page.body).text


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_the_tenant_is_not_named(accept):
    assert b"acme" not in render(decision(), accept).body


def test_page_says_why_how_much_until_when_and_links_to_the_upgrade():
    page = Page(render(decision(), CHROME, upgrade_url="/billing/?plan=pro&seats=2").body)
    for text in ("Monthly limit reached", "$25.03 spent", "of $25.00", "per month", "1 December 2026, 00:00 UTC"):
        assert text in page.text
    assert page.links == [("/billing/?plan=pro&seats=2", "Upgrade")]
    assert "script" not in page.tags


def test_page_without_an_upgrade_url_shows_no_link():
    assert Page(render(decision(), CHROME).body).links == []


@pytest.mark.parametrize("kind", ["busy", "unverifiable"])
def test_page_of_a_passing_refusal_says_try_again_and_not_upgrade(kind):
    refused = decision(kind, spent_usd=Decimal(20), held_usd=Decimal(5), retry_after=1)
    page = Page(render(refused, CHROME, upgrade_url="/billing/").body)
    assert page.links == [("", "Try again")]
    assert "Resets" not in page.text


@pytest.mark.parametrize("accept", [CHROME, None])
def test_who_is_not_known_is_told_to_sign_in_and_not_to_wait_or_to_pay(accept):
    answer = render(Decision("no_tenant"), accept, upgrade_url="/billing/")
    text = answer.body.decode()
    assert "sign in" in text.lower()
    assert "in a moment" not in text
    assert "limit cannot be checked" not in text
    assert "/billing/" not in text
    assert "Retry-After" not in answer.headers


def test_page_of_an_unverifiable_limit_shows_no_figures():
    page = Page(render(Decision("unverifiable", "acme"), CHROME).body)
    assert "$" not in page.text
    assert "None" not in page.text


def test_a_quote_in_the_upgrade_url_cannot_leave_its_attribute():
    page = Page(render(decision(), CHROME, upgrade_url='/x"><i>').body)
    assert page.links == [('/x"><i>', "Upgrade")]
    assert "i" not in page.tags


def test_an_own_page_gets_the_context():
    answer = render(
        decision(), CHROME, upgrade_url="/up/", page=lambda values: f"{values['limit']} {values['upgrade_url']}"
    )
    assert answer.body == b"$25.00 /up/"


def test_context_shares_the_bar_between_spent_and_held():
    values = context(decision("busy", spent_usd=Decimal("21.50"), held_usd=Decimal("9")), "/up/")
    assert (values["spent_percent"], values["held_percent"]) == (86, 14)
    assert (values["retry"], values["upgrade_url"]) == (True, None)


def test_context_fills_the_bar_of_a_limit_of_zero():
    values = context(decision(limit_usd=Decimal(0), spent_usd=Decimal(0)))
    assert (values["spent_percent"], values["held_percent"], values["limit"]) == (100, 0, "$0.00")


def test_context_shows_amounts_that_cents_would_hide():
    values = context(decision(limit_usd=Decimal("0.02"), spent_usd=Decimal("0.0204"), frequency="per_day"))
    assert (values["spent"], values["period"], values["title"]) == ("$0.0204", "day", "Daily limit reached")


@pytest.mark.parametrize(
    "url",
    ["/billing/", "billing", "?upgrade=1", "https://example.com/up", "HTTP://example.com", "//cdn.example.com/up"],
)
def test_upgrade_urls_a_link_may_have(url):
    assert check_upgrade_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "java\tscript:alert(1)",
        "java\nscript:alert(1)",
        "\x01javascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "mailto:sales@example.com",
        "ftp://example.com/",
        "https:///nowhere",
        "https:javascript",
        "http://[broken",
        "",
        7,
        b"/x",
    ],
)
def test_upgrade_urls_a_link_must_not_have(url):
    with pytest.raises(ConfigurationError, match="upgrade_url"):
        check_upgrade_url(url)


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_render_refuses_an_unsafe_upgrade_url(accept):
    with pytest.raises(ConfigurationError, match="upgrade_url"):
        render(decision(), accept, upgrade_url="javascript:alert(1)")


def test_the_bar_is_a_bar_where_the_style_is_not_allowed() -> None:
    page = render(decision(), CHROME).body.decode()
    assert '<svg width="100%" height="10"' in page
    assert '<rect class="held" fill="currentColor" fill-opacity="0.4"' in page


def test_a_reference_leads_to_its_refusal_and_names_no_tenant():
    reference = reference_of("exhausted", "acme", NOW + 59)
    assert str(reference).startswith("exhausted.20270115T1400Z.")
    assert parse_reference(f" {reference} ") == reference == parse_reference(f"urn:token-limit:refusal:{reference}")
    assert (reference.is_of("acme"), reference.is_of("globex")) == (True, False)
    for wrong in ("", "x", "exhausted", "exhausted.x.y", "nothing.20270115T1400Z.ab", "exhausted.20270115T1400Z."):
        assert parse_reference(wrong) is None


@pytest.mark.parametrize("kind", ["exhausted", "does_not_fit", "busy", "unverifiable", "no_tenant", "suspended"])
def test_page_and_problem_document_have_one_title_and_one_reference(kind):
    values, members = context(decision(kind)), problem(decision(kind))
    assert values["title"] == members["title"]
    assert members["instance"].endswith(values["reference"])
    assert values["reference"] in render(decision(kind), CHROME).body.decode()


def test_a_limit_of_nothing_is_no_allowance_and_promises_no_reset():
    nothing = decision(limit_usd=Decimal(0), spent_usd=Decimal(0), resets_at=None)
    page = render(nothing, CHROME).body.decode()
    assert problem(nothing)["title"] == "No AI allowance"
    assert "<h1>No AI allowance</h1>" in page
    assert problem(nothing)["detail"] == "This account has no AI allowance."


@pytest.mark.parametrize("url", ["mailto:help@example.com", "https://example.com/help", "/help/"])
def test_support_is_linked_on_the_page_and_in_the_document(url):
    assert check_support_url(url) == url
    assert f'href="{url}"' in render(decision(), CHROME, support_url=url).body.decode()
    assert problem(decision(), None, url)["support_url"] == url


@pytest.mark.parametrize("url", ["javascript:alert(1)", "mailto:", "mailto:a b@c", ""])
def test_support_urls_a_link_must_not_have(url):
    with pytest.raises(ConfigurationError, match="support_url"):
        check_support_url(url)


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        ("https://example.com/chat?room=1", "/chat?room=1"),
        ("https://evil.example//evil.example/", None),
        ("javascript:alert(1)", None),
        ("http://[", None),
        ("", None),
        (None, None),
    ],
)
def test_the_way_back_stays_on_the_site(referer, back):
    assert context(decision(), back_url=referer)["back_url"] == back
