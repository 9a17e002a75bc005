"""No text on a page, in a form's error, in a mail or in an answer to a refused request stays English."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, get_args

import pytest
from django.test import override_settings
from django.utils import translation

from tests.pseudo import GERMAN, PseudoCatalogue, english_of, pseudo_german
from token_limit_core import Meter
from token_limit_core.console.changes import change_in_words
from token_limit_core.console.routes import ROUTES
from token_limit_core.events import LLMEvent
from token_limit_core.limits import REFUSALS, Decision
from token_limit_core.runtime.language import speaking
from token_limit_core.stores.records import Refusal
from token_limit_core.stores.reports import Change, ChangeKind
from token_limit_core.upgrade import close_frame, render, sse_error
from token_limit_core.windows import FREQUENCIES
from token_limit_core.wording import notice

from .mounts import Client
from .site import EVIL, NOW, USD, fill, make_meter
from .test_own import DJANGO, MIDDLEWARE, django_site, flask_site, starlette_site

DATA = (
    "acme globex initech hooli umbrella newco openai anthropic gpt claude sonnet mini chat completions ann bob Globex",
    f"{EVIL} UTC Europe Berlin CSV JSON pro team unpaid per_month ledger call 5e0c {'x' * 300} odd new nobody",
    "tl unknown each user markup example com",
)
"""What the store of these tests holds, and names that are the same in every language."""
PAGES = [path for path, route in ROUTES.items() if route.get is not None and "." not in path]


def expect_none(texts: Iterable[str]) -> None:
    """Fail with all of these texts."""
    if found := sorted(texts):
        pytest.fail("\n".join(found))


@pytest.fixture
def meter() -> Iterator[Meter]:
    with make_meter("memory://") as meter:
        yield fill(meter)


@pytest.fixture
def pseudo() -> Iterator[PseudoCatalogue]:
    with pseudo_german() as made:
        yield made


@pytest.fixture
def story(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Add what the pages have further texts for."""
    meter.set_plan("pro", [{"amount": 25}, {"amount": 5, "user": "*", "mode": "strict"}], markup=20)
    meter.set_plan("team", [])
    meter.assign_plan("hooli", "pro")
    meter.assign_plan("hooli", None)
    meter.assign_plan("hooli", "pro")
    meter.suspend("umbrella", reason="unpaid")
    meter.name_tenant("globex", "Globex")
    meter.set_limit("newco", 100, "total", unit="requests", user="*", timezone="Europe/Berlin")
    for frequency in FREQUENCIES:
        meter.set_limit("newco", 1, frequency, model="gpt-5*", provider="openai", mode="strict")
    meter.set_limit("newco", 2, "per_day", feature="chat", effective_date="2027-01-24")
    meter.set_limit("newco", 20, timezone="Europe/Berlin")
    meter.top_up("newco", 5)
    minute = int(NOW // 60) * 60 - 3600

    meter.store.add_refusals([Refusal("initech", minute, kind, "per_month", 1, minute + 1.0) for kind in REFUSALS])
    tags = {"estimated": True, "unverified": True, "price_assumed": "gpt-5", "requested_model": "gpt-5"}
    usage = {"cached_tokens": 5, "reasoning_tokens": 2, "image_count": 1, "web_searches": 2, "total_tokens": 9}
    event = LLMEvent("e", "newco", timestamp=NOW - 5, model="gpt-5", error="x", tags=tags, stream=True, **usage)
    meter.store.record([(event, USD)], NOW)
    monkeypatch.setattr(Meter, "status", lambda self: {"counts": {"assumed": 2, "unverified": 1}})
    return meter


def addresses(meter: Meter) -> Iterator[str]:
    """Yield every page, with what it may show."""
    yield from (path for path in PAGES if path not in ("limit/remove",))
    limits = {tenant: meter.store.limits(tenant) for tenant in ("acme", "newco")}
    yield from (f"limit?tenant=newco&id={row.id}" for row in limits["newco"])
    yield from (f"limit/remove?tenant={name}&id={row.id}" for name, rows in limits.items() for row in rows)
    yield from (f"tenant?id={tenant}&by=feature" for tenant in ("acme", "umbrella", "newco", "hooli", "gone", ""))
    yield from (f"{path}?id=newco" for path in PAGES if path.startswith("tenant/"))
    for plan in meter.store.plans():
        yield f"plan?plan={plan.name}"
        yield from (f"plan/limit?plan={plan.name}&id={row.id}" for row in plan.limits)
    yield from ("plan?plan=x", "plan/limit?plan=pro", "plan/limit?plan=x", "limit?tenant=acme&id=x", "no/such/page")
    yield from (f"{path}?from=x&to=1000-01-01" for path in ("events", "refusals"))
    yield from ("refusals?reference=x", "refusals?tenant=x", "events?tenant=x", "holds?tenant=x", "history?tenant=x")
    yield from ("tenants?page=9", "tenants?q=x", "tenants?show=near&plan=team", "history?tenant=newco", "tenants?q=%00")
    yield from ("events?from=2026-01-01", "tenants?changed=1&left=2", "events?mark=estimated", "holds?tenant=")
    yield from (f"holds?said={code}" for code in ("released", "late", "saved", "topped-up", "moved", "made-before"))


def test_no_page_has_a_text_that_is_not_translated(client: Client, story: Meter, pseudo: PseudoCatalogue) -> None:
    client.post("keys", {"account": "acme", "tenants": "acme", "may-ingest": "yes", "may-check": "yes"})
    key = re.findall(r"tl_(\w+)<", client.get("keys").text)[0]
    found = {}
    for path in addresses(story):
        text = client.ask("GET", path, headers=GERMAN).text
        assert '<html lang="de">' in text, path
        found[path] = english_of(text, *DATA, key)
    client.post("keys/revoke", {"key": key})
    found["keys"] |= english_of(client.ask("GET", "keys", headers=GERMAN).text, *DATA, key)
    expect_none(f"{path}: {', '.join(sorted(words))}" for path, words in found.items() if words)
    expect_none(pseudo.asked_and_missing())


LONG = "9" * 300
LIMIT = {"tenant": "acme", "frequency": "per_hour", "amount": "1", "mode": "enforce"}
WRONG: list[tuple[str, dict[str, str]]] = [
    *(("limit", LIMIT | {"amount": amount}) for amount in ("", "x", "-1", "NaN", "1.0000000001", "1e12")),
    ("limit", LIMIT | {"amount": "1.5", "unit": "tokens"}),
    ("limit", LIMIT | {"amount": "x", "unit": "requests"}),
    ("limit", LIMIT | {"tenant": ""}),
    ("limit", LIMIT | {"tenant": "unheard"}),
    ("limit", LIMIT | {"tenant": LONG}),
    *(("limit", LIMIT | {name: "x"}) for name in ("frequency", "mode", "unit", "timezone", "basis", "anchor")),
    *(("limit", LIMIT | {name: "a\u200bb"}) for name in ("user", "model", "provider", "feature", "name")),
    *(("limit", LIMIT | {"frequency": each, "anchor": anchor})
      for each in FREQUENCIES for anchor in ("32", "x", "2026-01-32", "5")),
    ("limit", LIMIT | {"unit": "tokens", "basis": "cost"}),
    *(("limit", LIMIT | {"effective_date": date}) for date in ("x", "2020-01-01", "9999-12-31T23:59-12:00")),
    ("limit", LIMIT | {"frequency": "per_month"}),
    ("limit", LIMIT | {"id": "17"}),
    ("limit/remove", {"tenant": "acme", "id": "17"}),
    ("limit/remove", {"tenant": "unheard", "id": "17"}),
    *(("plan", {"plan": name, "markup": markup}) for name in ("", "pro", LONG) for markup in ("x", "-101", "NaN")),
    ("plan", {"plan": "pro", "version": "x"}),
    ("plan", {"plan": "gone", "version": "x"}),
    ("plan/remove", {"plan": "pro"}),
    ("plan/limit", LIMIT | {"plan": "pro", "amount": "x", "anchor": "5"}),
    ("plan/limit", LIMIT | {"plan": "pro", "frequency": "per_month"}),
    ("keys", {"account": "", "tenants": ""}),
    ("keys", {"account": LONG, "tenants": "a", "may-ingest": "yes"}),
    ("keys", {"account": "a", "tenants": "a", "name": LONG, "may-ingest": "yes"}),
    ("keys", {"account": "a", "tenants": LONG, "may-ingest": "yes"}),
    ("keys", {"account": "a", "tenants": "a"}),
    *(("tenant/top-up", {"id": "acme", "limit": "per_month ", "usd": usd}) for usd in ("", "x", "-1", "0", "NaN")),
    ("tenant/top-up", {"id": "acme", "limit": "", "usd": "1"}),
    ("tenant/top-up", {"id": "acme", "limit": "per_year ", "usd": "1"}),
    ("tenant/plan", {"id": "acme", "plan": "gone"}),
    ("tenant/name", {"id": "acme", "name": LONG}),
    ("tenant/name", {"id": "acme", "name": "a\u200bb"}),
    ("tenant/suspend", {"id": "acme", "reason": "a\u200bb"}),
    *(("tenant/move", {"id": "acme", "new_id": new}) for new in ("", "*", "globex", "acme", LONG)),
    ("tenant/move", {"id": "unheard", "new_id": "x"}),
    *(("tenants/change", {"id": "acme", "change": "raise", "raise": text, "confirmed": "yes"})
      for text in ("", "x", "-101", "1e9", "20'", '20"')),
    ("tenants/change", {"id": "acme", "change": "plan", "plan": "gone"}),
    ("tenants/change", {"id": "acme", "change": "suspend"}),
    ("tenants/change", {"id": "acme", "change": "raise", "raise": "5"}),
    ("tenants/change", {"id": "acme", "change": "x"}),
    ("tenants/change", {"change": "suspend"}),
]  # fmt: skip
"""Every form with what it does not take, or with what it asks about."""


def test_no_error_of_a_form_stays_english(client: Client, story: Meter, pseudo: PseudoCatalogue) -> None:
    found = []
    for path, fields in WRONG:
        answer = client.post(path, fields, accept_language="de")
        if answer.status != 303:
            found.append(
                (
                    answer.status,
                    path,
                    fields,
                    english_of(answer.text, *DATA, *fields.values(), *map(repr, fields.values())),
                )
            )
    expect_none(f"{path} {fields}: {', '.join(sorted(words))}" for _, path, fields, words in found if words)
    assert sum(status >= 400 for status, *_ in found) > len(WRONG) - 12
    expect_none(pseudo.asked_and_missing())


FACTS: dict[str, Any] = {"limit_usd": Decimal(5), "spent_usd": Decimal(4), "frequency": "per_month", "filter": "user=*"}
KINDS = [
    Decision(kind, "acme", **FACTS, resets_at=1_801_440_000, retry_after=7201, name="seats")  # type: ignore[arg-type]
    for kind in REFUSALS
]
KINDS += [
    Decision("exhausted", "acme", limit=1, spent=1, unit="requests", frequency=frequency) for frequency in FREQUENCIES
]
KINDS += [
    Decision("exhausted", "acme", limit=0, filter=filter, everyone=everyone)
    for filter in ("", "model=gpt-5")
    for everyone in (False, True)
]
REFUSED_DATA = ("UTC requests seats gpt", "per_month usd")


@pytest.mark.parametrize("decision", KINDS, ids=range(len(KINDS)))
def test_no_answer_to_a_refused_request_stays_english(decision: Decision, pseudo: PseudoCatalogue) -> None:
    links = {"upgrade_url": "/up", "support_url": "/help", "back_url": "/back", "language": "de"}
    page = render(decision, "text/html", **links).body.decode()
    problem = json.loads(render(decision, None, **links).body)
    streamed = json.loads(sse_error(decision, language="de").partition(b"data: ")[2])
    read = [page, problem["title"], problem["detail"], streamed["detail"], close_frame(decision, "de")[1]]
    assert set().union(*(english_of(text, *REFUSED_DATA) for text in read)) == set()
    expect_none(pseudo.asked_and_missing())


@pytest.mark.parametrize("recovered", [True, False])
def test_no_mail_about_a_notice_stays_english(recovered: bool, pseudo: PseudoCatalogue) -> None:
    with speaking("de"):
        mail = notice("acme", 80, recovered, "$5", "$4", 1_801_440_000, "UTC")
    assert english_of(" ".join(mail), "acme UTC") == set()
    expect_none(pseudo.asked_and_missing())


@pytest.mark.parametrize("kind", get_args(ChangeKind))
def test_every_kind_of_change_is_said_in_words(kind: Any, pseudo: PseudoCatalogue) -> None:
    notes = {"reprice": "3 calls", "rename": "before: initech", "merge": "with: initech", "assign-plan": "before: team"}
    row = Change(
        NOW, "ann", kind, "acme", "per_month", old_amount=USD, new_amount=2 * USD, new_mode="strict", plan="pro"
    )
    with speaking("de"):
        text = change_in_words(row._replace(plan="pro", note=notes.get(kind, "initech")))
    assert text.strip()
    assert english_of(text, "initech team pro tl") == set()
    expect_none(pseudo.asked_and_missing())


SITES = {"flask": flask_site, "starlette": starlette_site, "django": django_site}
OWN = [("usage/", "alice"), ("usage/?month=2020-01", "bob"), ("embedded", "alice"), ("embedded", "bob"),
       ("usage/console.css", None), ("usage/?signed-in=1", "nobody")]  # fmt: skip


@pytest.mark.parametrize("name", ["flask", "starlette", pytest.param("django", marks=DJANGO)])
def test_no_page_of_a_customer_has_a_text_that_is_not_translated(name: str, pseudo: PseudoCatalogue) -> None:
    middleware = [*MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    with SITES[name]() as (get, meter), override_settings(MIDDLEWARE=middleware), translation.override("en"):
        meter.set_limit("acme", 4, "total", user="*")
        meter.set_limit("acme", 0, "per_week", model="gpt-5")
        found = {}
        for suspended in (False, True):
            for path, user in OWN:
                text = get(f"/{path}", user, headers=GERMAN).text
                found[f"{path} of {user}, {suspended}"] = english_of(text, *DATA, "model of")
            meter.suspend("acme")
    expect_none(f"{path}: {', '.join(sorted(words))}" for path, words in found.items() if words)
    expect_none(pseudo.asked_and_missing())
