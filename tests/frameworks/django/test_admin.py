"""The admin as a support person uses it: through its pages, on the project's own store."""

from __future__ import annotations

import contextlib
import html
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.db.models.signals import post_save
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from token_limit_core.events import LLMEvent
from token_limit_core.runtime.ids import process_name
from token_limit_core.stores.records import Call
from token_limit_core.wording import exact_usd
from token_limit_django.admin.limits import LimitAdmin
from token_limit_django.meter import get_meter, get_store
from token_limit_django.models import Counter, Hold, LedgerEntry, Limit, Rollup, Tenant

NOON = datetime(2026, 11, 15, 12, tzinfo=UTC).timestamp()
DAY = 86400
USD = 10**9

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

LIMITS = "admin:token_limit_limit_changelist"
TENANTS = "admin:token_limit_tenant_changelist"
HOLDS = "admin:token_limit_hold_changelist"
CHANGES = "admin:token_limit_limitchange_changelist"
EVENTS = "admin:token_limit_ledgerentry_changelist"


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(NOON)
    monkeypatch.setattr(get_meter().config, "clock", clock)
    return clock


def person(*permissions: str, staff: bool = True) -> Client:
    user = User.objects.create_user(f"person {User.objects.count()}", is_staff=staff)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=permissions, content_type__app_label="token_limit")
    )
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def support() -> Client:
    changes = [f"{verb}_limit" for verb in ("add", "change", "delete", "view")]
    return person(*changes, "change_tenant", "change_hold", "view_ledgerentry")


def spend(tenant: str, usd: float | None, event_id: str = "", at: float = NOON, **fields: Any) -> None:
    number = LedgerEntry.objects.count()
    fields = {"provider": "openai", "model": "gpt-4o-mini", "input_tokens": 1200, "output_tokens": 30, **fields}
    event = LLMEvent(event_id or f"event-{number}", tenant, timestamp=at, **fields)
    get_store().settle(event.event_id, event, None if usd is None else round(usd * USD), at)


def admit(tenant: str, estimate: int | None = 0, call_id: str = "") -> str:
    call = Call(call_id or f"call-{Hold.objects.count()}", tenant, estimate)
    return get_store().admit(call, get_meter().config.clock()).kind


def set_limit(
    tenant: str, usd: str, frequency: str = "per_month", date: str | None = None, mode: str = "enforce"
) -> int:
    return get_meter().set_limit(tenant, usd, frequency, date, mode=mode).id


def post_limit(client: Client, limit_id: int | None = None, **data: str) -> Any:
    known = {"mode": "enforce", "effective_date": ""}
    if limit_id is None:
        return client.post(reverse("admin:token_limit_limit_add"), {"frequency": "per_month", **known, **data})
    url = reverse("admin:token_limit_limit_change", args=[limit_id])
    return client.post(url, {**known, "shown": shown(client.get(url).content.decode()), **data})


def shown(html: str) -> str:
    """Find what a form remembers of the limit it was made from."""
    found = re.search(r'name="shown" value="([^"]+)"', html)
    return "" if found is None else found[1]


def page(client: Client, name: str, *args: Any, **query: str) -> str:
    response = client.get(reverse(name, args=args), query)
    assert response.status_code == 200
    return str(response.content.decode())


def text(html: str) -> str:
    body = html.partition('id="content"')[2]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def history() -> list[tuple[int, str]]:
    return list(LogEntry.objects.order_by("id").values_list("action_flag", "change_message"))


# -- limits ---------------------------------------------------------------------------------------


def test_the_list_shows_each_limit_with_what_its_window_has_spent_and_holds(support: Client) -> None:
    set_limit("acme", "25")
    admit("acme", 2 * USD)
    spend("acme", 12.5)
    shown = page(support, LIMITS)
    assert "acme $25.00 per month enforce $12.50 of $25.00 (50 %) $2.00 held, resets in 15 d 12 h" in text(shown)
    assert '<rect class="settled" width="50.00" height="8"/><rect class="held" x="50.00" width="8.00"' in shown


def test_a_window_that_no_call_has_opened_yet_shows_what_was_spent_before_the_limit(support: Client) -> None:
    spend("acme", 5)
    spend("acme", 7, at=NOON - DAY)
    spend("acme", 100, at=NOON - 20 * DAY)
    set_limit("acme", "20")
    set_limit("acme", "50", "per_day")
    assert not Counter.objects.exists()
    shown = text(page(support, LIMITS))
    assert "$20.00 per month enforce $12.00 of $20.00 (60 %)" in shown
    assert "$50.00 per day enforce $5.00 of $50.00 (10 %)" in shown


@pytest.mark.parametrize(
    ("limit", "spent", "shown", "level"),
    [
        ("10", 0, "$0.00 of $10.00 (0 %)", "fine"),
        ("10", 0.001, "$0.001 of $10.00 (under 1 %)", "fine"),
        ("10", 8, "$8.00 of $10.00 (80 %)", "near"),
        ("10", 9.999999, "$10.00 of $10.00 (99 %)", "near"),
        ("10", 25, "$25.00 of $10.00 (250 %)", "reached"),
        ("0", 0, "$0.00 of $0.00", "reached"),
    ],
)
def test_a_bar_is_honest_at_its_ends(support: Client, limit: str, spent: float, shown: str, level: str) -> None:
    set_limit("acme", limit)
    spend("acme", spent)
    html = page(support, LIMITS)
    assert shown in text(html)
    assert f'class="token-limit-bar {level}"' in html


def test_limits_are_found_by_part_of_the_tenants_id_or_name(support: Client) -> None:
    for tenant in ("org-1", "org-2", "solo"):
        set_limit(tenant, "5")
    Tenant.objects.filter(id="solo").update(name="Jane Doe Inc.")
    assert [tenant in page(support, LIMITS, q="ORG") for tenant in ("org-1", "org-2", "solo")] == [True, True, False]
    found = text(page(support, LIMITS, q="jane doe"))
    assert "Jane Doe Inc. solo" in found and "org-1" not in found


def test_a_limit_set_here_stops_the_next_call_and_is_in_the_history(support: Client) -> None:
    spend("acme", 3)
    assert admit("acme") == "admitted"
    response = post_limit(support, tenant_id="acme", limit_usd="2.50")
    assert response.status_code == 302
    limit = Limit.objects.get()
    assert (limit.tenant_id, limit.amount, limit.frequency, limit.mode) == (
        "acme",
        2_500_000_000,
        "per_month",
        "enforce",
    )
    assert admit("acme") == "exhausted"
    assert history() == [(ADDITION, "Set to $2.50 per month (enforce).")]
    assert LogEntry.objects.get().object_id == str(limit.pk)


def test_a_raise_is_honoured_by_the_next_call_and_keeps_what_was_counted(support: Client) -> None:
    limit_id = set_limit("acme", "5")
    admit("acme")
    spend("acme", 5)
    assert admit("acme") == "exhausted"
    response = post_limit(support, limit_id, limit_usd="7.5")
    assert response.status_code == 302
    assert admit("acme") == "admitted"
    assert Counter.objects.get().settled == 5 * USD
    assert history() == [(CHANGE, "$5.00 → $7.50.")]
    assert "$5.00 → $7.50." in page(support, "admin:token_limit_limit_history", limit_id)


def test_the_mode_can_be_changed_alone(support: Client) -> None:
    limit_id = set_limit("acme", "0")
    post_limit(support, limit_id, limit_usd="0", mode="observe")
    assert admit("acme") == "admitted"
    assert history() == [(CHANGE, "enforce → observe.")]


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity", "1e400", "1000000001", "abc", "", "0.0000000001"])
@pytest.mark.parametrize("existing", [False, True])
def test_an_impossible_amount_is_answered_at_its_field_and_saves_nothing(
    support: Client, amount: str, existing: bool
) -> None:
    limit_id = set_limit("acme", "5") if existing else None
    before = list(Limit.objects.values())
    response = post_limit(support, limit_id, tenant_id="acme", limit_usd=amount, mode="observe")
    assert response.status_code == 200
    assert response.context["adminform"].form.errors.keys() == {"limit_usd"}
    assert list(Limit.objects.values()) == before
    assert history() == []


def test_an_amount_out_of_range_is_told_the_range(support: Client) -> None:
    assert "must be between 0 and 1000000000" in text(
        post_limit(support, tenant_id="acme", limit_usd="-5").content.decode()
    )


@pytest.fixture
def both_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold back what two people save until both forms were found good."""
    both, plain = threading.Barrier(2, timeout=30), LimitAdmin.save_model

    def save_model(*args: Any) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait()
            both.abort()  # nobody waits a third time
        plain(*args)

    monkeypatch.setattr(LimitAdmin, "save_model", save_model)


def at_once(*works: Callable[[], Any]) -> list[Any]:
    def work(one: Callable[[], Any]) -> Any:
        try:
            return one()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(work, works))


@pytest.mark.parametrize("existing", [True, False])
def test_of_two_who_save_at_once_the_second_is_refused_and_nothing_of_theirs_is_saved(
    support: Client, both_checked: None, existing: bool
) -> None:
    limit_id = set_limit("acme", "5") if existing else None
    other = person("add_limit", "change_limit", "view_limit")
    answers = at_once(
        partial(post_limit, support, limit_id, tenant_id="acme", limit_usd="8"),
        partial(post_limit, other, limit_id, tenant_id="acme", limit_usd="6"),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 302]
    refused, saved = sorted(answers, key=lambda answer: answer.status_code)
    amount = "$8.00" if saved is answers[0] else "$6.00"
    told = text(refused.content.decode())
    assert (f"it is {amount} (enforce) now" if existing else "already has a limit per month") in told
    assert [exact_usd(limit.amount) for limit in Limit.objects.all()] == [amount]
    assert len(history()) == 1
    assert len(get_store().history("acme")) == 2 - (not existing)


def test_a_limit_that_changes_while_it_is_removed_stays(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_id = set_limit("acme", "5")
    other, plain = person("change_limit", "view_limit"), LimitAdmin.delete_model

    def delete_model(*args: Any) -> None:
        assert post_limit(other, limit_id, limit_usd="6").status_code == 302
        plain(*args)

    monkeypatch.setattr(LimitAdmin, "delete_model", delete_model)
    delete = reverse("admin:token_limit_limit_delete", args=[limit_id])
    assert "It was not removed." in support.post(delete, {"post": "yes"}, follow=True).content.decode()
    assert Limit.objects.get().amount == 6 * USD
    assert [flag for flag, _ in history()] == [CHANGE]


def test_a_limit_that_is_removed_while_it_is_changed_is_gone(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_id = set_limit("acme", "5")
    plain = LimitAdmin.save_model

    def save_model(*args: Any) -> None:
        get_meter().remove_limit("acme", by="billing job")
        plain(*args)

    monkeypatch.setattr(LimitAdmin, "save_model", save_model)
    answer = post_limit(support, limit_id, limit_usd="6")
    assert (answer.status_code, Limit.objects.exists(), history()) == (302, False, [])
    assert "deleted" in support.get(answer.url, follow=True).content.decode()


@pytest.mark.parametrize("tenant", [" a", "a ", " "])
def test_spaces_are_part_of_a_tenants_id(support: Client, tenant: str) -> None:
    response = post_limit(support, tenant_id=tenant, limit_usd="0")
    assert response.status_code == 302
    assert Limit.objects.get().tenant_id == tenant
    assert (admit(tenant), admit(tenant.strip())) == ("exhausted", "admitted")
    assert html.escape(repr(tenant)) in support.get(reverse(LIMITS)).content.decode()


@pytest.mark.parametrize("tenant", ["", "\0", "x" * 256])
def test_an_impossible_tenant_is_answered_at_its_field(support: Client, tenant: str) -> None:
    response = post_limit(support, tenant_id=tenant, limit_usd="5")
    assert response.context["adminform"].form.errors.keys() == {"tenant_id"}
    assert not Limit.objects.exists()


def test_an_unknown_tenant_may_be_limited_but_is_pointed_out(support: Client) -> None:
    spend("acme", 1)
    warned = [
        [str(message) for message in support.post(
            reverse("admin:token_limit_limit_add"),
            {"tenant_id": tenant, "frequency": "per_day", "mode": "enforce", "limit_usd": "5", "effective_date": ""},
            follow=True,
        ).context["messages"] if message.level_tag == "warning"]
        for tenant in ("acme", "Acme")
    ]  # fmt: skip
    assert warned[0] == []
    assert "Tenant “Acme” is new" in warned[1][0]


def test_a_form_that_has_gone_stale_is_refused_and_says_what_the_limit_is_now(support: Client) -> None:
    limit_id = set_limit("acme", "5")

    first = shown(page(support, "admin:token_limit_limit_change", limit_id))
    assert post_limit(support, limit_id, limit_usd="8", shown=first).status_code == 302
    stale = post_limit(support, limit_id, limit_usd="6", shown=first)
    assert stale.status_code == 200
    html = stale.content.decode()
    assert "it is $8.00 (enforce) now. Save again to replace it." in text(html)
    assert 'value="6"' in html
    assert Limit.objects.get().amount == 8 * USD
    assert post_limit(support, limit_id, limit_usd="6", shown=shown(html)).status_code == 302
    assert Limit.objects.get().amount == 6 * USD


def test_tenant_and_window_of_a_limit_cannot_be_changed(support: Client) -> None:
    limit_id = set_limit("acme", "5")
    post_limit(support, limit_id, limit_usd="6", tenant_id="other", frequency="per_day")
    assert list(Limit.objects.values_list("id", "tenant_id", "frequency", "amount")) == [
        (limit_id, "acme", "per_month", 6 * USD)
    ]


def test_a_second_limit_for_the_same_window_is_not_added_over_the_first(support: Client) -> None:
    set_limit("acme", "5")
    response = post_limit(support, tenant_id="acme", limit_usd="50")
    assert "already has a limit per month" in text(response.content.decode())
    assert Limit.objects.get().amount == 5 * USD
    assert post_limit(support, tenant_id="acme", limit_usd="1", frequency="per_day").status_code == 302


@pytest.mark.parametrize(("use_tz", "zone"), [(True, "UTC"), (True, "America/New_York"), (False, "America/New_York")])
def test_a_change_can_wait_for_a_date_in_utc(
    support: Client, clock: Clock, settings: Any, use_tz: bool, zone: str
) -> None:
    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    limit_id = set_limit("acme", "5")
    admit("acme")
    spend("acme", 5)
    assert post_limit(support, limit_id, limit_usd="9", effective_date="2026-11-20T08:00").status_code == 302
    begins = datetime(2026, 11, 20, 8, tzinfo=UTC).timestamp()
    assert admit("acme") == "exhausted"
    clock.now = begins - 1
    assert admit("acme") == "exhausted"
    clock.now = begins
    assert admit("acme") == "admitted"
    message = "$5.00 → $9.00, from 20 Nov 2026, 08:00 UTC."
    assert sorted(history()) == [(ADDITION, message), (CHANGE, message)]
    clock.now = NOON
    waiting = Limit.objects.get(effective_from=begins)
    shown = page(support, "admin:token_limit_limit_change", waiting.pk)
    assert 'value="2026-11-20T08:00"' in shown
    assert "ends" in text(page(support, "admin:token_limit_limit_change", limit_id)).lower()


def test_an_effective_date_in_the_past_is_answered_at_its_field(support: Client) -> None:
    limit_id = set_limit("acme", "5")
    response = post_limit(support, limit_id, limit_usd="6", effective_date="2026-11-15T12:00")
    assert "This is in the past" in str(response.context["adminform"].form.errors["effective_date"])
    assert Limit.objects.get().amount == 5 * USD


def test_a_limit_that_has_yet_to_begin_can_be_amended(support: Client, clock: Clock) -> None:
    set_limit("acme", "5")
    waiting = set_limit("acme", "9", date="2026-11-20")
    response = post_limit(support, waiting, limit_usd="9")
    assert "has not begun yet: enter its date" in str(response.context["adminform"].form.errors["effective_date"])
    response = post_limit(support, waiting, limit_usd="10", effective_date="2026-11-21T00:00")
    assert response.status_code == 302
    amounts = {}
    for day in (20, 21):
        clock.now = datetime(2026, 11, day, tzinfo=UTC).timestamp()
        amounts[day] = [status.limit.amount // USD for status in get_store().usage("acme", clock.now)]
    assert amounts == {20: [5], 21: [10]}
    assert history() == [(CHANGE, "$9.00 → $10.00, begins 20 Nov 2026, 00:00 UTC → 21 Nov 2026, 00:00 UTC.")]


def test_calling_off_a_change_lets_the_present_limit_go_on(support: Client, clock: Clock) -> None:
    present = set_limit("acme", "5")
    waiting = set_limit("acme", "9", date="2026-11-20")
    response = support.post(reverse("admin:token_limit_limit_delete", args=[waiting]), {"post": "yes"})
    assert response.status_code == 302
    assert list(Limit.objects.values_list("id", "effective_until")) == [(present, None)]


def test_removing_the_present_limit_leaves_the_one_that_waits(support: Client) -> None:
    present = set_limit("acme", "5")
    waiting = set_limit("acme", "9", date="2026-11-20")
    support.post(reverse("admin:token_limit_limit_delete", args=[present]), {"post": "yes"})
    assert list(Limit.objects.values_list("id", flat=True)) == [waiting]
    assert get_store().usage("acme", NOON) == []


def test_removing_a_limit_removes_its_counters_and_says_so(support: Client) -> None:
    limit_id = set_limit("acme", "0")
    assert admit("acme") == "exhausted"
    support.post(reverse("admin:token_limit_limit_delete", args=[limit_id]), {"post": "yes"})
    assert admit("acme") == "admitted"
    assert not Limit.objects.exists() and not Counter.objects.exists()
    assert history() == [(DELETION, "Removed $0.00 per month (enforce), with the counters of its windows.")]


def test_several_limits_are_removed_at_once(support: Client) -> None:
    chosen = [set_limit("acme", "1"), set_limit("acme", "2", "per_day")]
    kept = set_limit("other", "3")
    admit("acme")
    data = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    assert support.post(reverse(LIMITS), data).status_code == 302
    assert list(Limit.objects.values_list("id", flat=True)) == [kept]
    assert not Counter.objects.exists()
    assert sorted(message for _, message in history()) == [
        "Removed $1.00 per month (enforce), with the counters of its windows.",
        "Removed $2.00 per day (enforce), with the counters of its windows.",
    ]


def test_an_ended_limit_is_out_of_the_way_and_cannot_be_changed(support: Client, clock: Clock) -> None:
    ended = set_limit("acme", "5")
    set_limit("acme", "9", date="2026-11-20")
    clock.now = NOON + 10 * DAY
    assert "$5.00 per month" not in text(page(support, LIMITS))
    assert "$5.00 per month" in text(page(support, LIMITS, state="ended"))
    assert 'name="limit_usd"' not in page(support, "admin:token_limit_limit_change", ended)
    assert post_limit(support, ended, limit_usd="99").status_code == 403
    assert Limit.objects.get(pk=ended).amount == 5 * USD


def test_filters_of_limits(support: Client) -> None:
    set_limit("acme", "1", "per_day", mode="observe")
    set_limit("acme", "2")
    set_limit("acme", "3", date="2026-12-01")
    found = {
        name: re.findall(r"\$(\d).00 per", text(page(support, LIMITS, **{name.split("=")[0]: name.split("=")[1]})))
        for name in ("state=now", "state=coming", "state=ended", "frequency=per_day", "mode=observe")
    }
    assert found == {
        "state=now": ["1", "2"],
        "state=coming": ["3"],
        "state=ended": [],
        "frequency=per_day": ["1"],
        "mode=observe": ["1"],
    }


# -- who may do what ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [LIMITS, TENANTS, HOLDS, EVENTS])
def test_pages_are_for_staff_with_permission_only(name: str) -> None:
    assert (
        person("view_limit", "view_tenant", "view_hold", "view_ledgerentry", staff=False).get(reverse(name)).status_code
        == 302
    )
    assert Client().get(reverse(name)).status_code == 302
    assert person().get(reverse(name)).status_code == 403


def test_with_permission_to_view_one_sees_the_limit_and_changes_nothing() -> None:
    limit_id = set_limit("acme", "5")
    spend("acme", 1)
    viewer = person("view_limit")
    assert "$1.00 of $5.00 (20 %)" in text(page(viewer, LIMITS))
    shown = page(viewer, "admin:token_limit_limit_change", limit_id)
    assert "$1.00 of $5.00 (20 %)" in text(shown) and 'name="limit_usd"' not in shown
    assert post_limit(viewer, limit_id, limit_usd="99").status_code == 403
    assert post_limit(viewer, tenant_id="other", limit_usd="99").status_code == 403
    assert viewer.post(reverse("admin:token_limit_limit_delete", args=[limit_id]), {"post": "yes"}).status_code == 403
    assert Limit.objects.get().amount == 5 * USD
    assert history() == []


def test_limits_and_history_live_in_different_databases(support: Client) -> None:
    set_limit("acme", "5")
    assert Limit.objects.db == "token_limit" != LogEntry.objects.db == "default"
    post_limit(support, Limit.objects.get().pk, limit_usd="6")
    assert Limit.objects.using("token_limit").get().amount == 6 * USD
    assert LogEntry.objects.using("default").get().get_edited_object() == Limit.objects.get()


def test_a_change_is_committed_before_its_history_is_written(support: Client) -> None:
    limit_id = set_limit("acme", "0")
    seen: list[tuple[bool, str]] = []

    def elsewhere() -> str:
        try:
            return admit("acme")
        finally:
            connections.close_all()

    def while_history_is_written(**kwargs: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            seen.append((connections["token_limit"].in_atomic_block, pool.submit(elsewhere).result()))

    post_save.connect(while_history_is_written, sender=LogEntry)
    try:
        post_limit(support, limit_id, limit_usd="1")
        set_limit("acme", "0")
        support.post(reverse("admin:token_limit_limit_delete", args=[limit_id]), {"post": "yes"})
    finally:
        post_save.disconnect(while_history_is_written, sender=LogEntry)
    assert [atomic for atomic, _ in seen] == [False] * len(seen)
    assert seen[0] == (False, "admitted")


# -- tenants --------------------------------------------------------------------------------------


def test_every_change_of_a_limit_is_listed_with_who_made_it(support: Client, clock: Clock) -> None:
    get_meter().set_limit("acme", 10)
    set_limit_in_admin = {"tenant_id": "globex", "frequency": "per_day", "limit_usd": "5", "mode": "observe"}
    support.post(reverse("admin:token_limit_limit_add"), set_limit_in_admin)
    clock.now += 60
    get_meter().remove_limit("acme", by="billing job")
    page_of_changes = reverse("admin:token_limit_page", args=["history"])
    for old_link in (reverse(CHANGES), reverse("admin:token_limit_limitchange_change", args=[1])):
        assert support.get(old_link)["Location"] == page_of_changes
    rows = re.findall(r"<tr>(.*?)</tr>", support.get(page_of_changes).content.decode(), re.DOTALL)
    shown = [" ".join(re.sub(r"<[^>]+>", " ", row).split()).partition(" UTC ")[2] for row in rows]
    assert [row for row in shown if row] == [
        "billing job acme $10.00 per month removed",
        "person 0 globex Set to $5.00 per day (observe)",
        "the application acme Set to $10.00 per month (enforce)",
    ]
    assert person("view_tenant").get(reverse(CHANGES)).status_code == 403


def test_tenants_show_this_months_spend_and_lead_to_limits_and_events(support: Client) -> None:
    set_limit("acme", "5")
    set_limit("acme", "1", "per_day")
    spend("acme", 1.25)
    spend("acme", None)
    spend("acme", 50, at=NOON - 30 * DAY)
    spend("other", 0)
    shown = page(support, TENANTS)
    assert "acme $1.25 + 1 unpriced 2 2 limits Events" in text(shown)
    assert "other $0.00 1 Set a limit Events" in text(shown)
    links = [link.replace("&amp;", "&") for link in re.findall(r'href="([^"]*tenant_id=[^"]*)"', shown)]
    assert len(links) == 4 and [support.get(link).status_code for link in links] == [200] * 4
    assert 'value="other"' in support.get(next(link for link in links if "add" in link)).content.decode()


def test_a_tenants_name_is_all_that_can_be_changed(support: Client) -> None:
    set_limit("acme/7 & co", "5")
    spend("acme/7 & co", 2)
    tenant = Tenant.objects.get()
    found = re.search(r'href="(/admin/token_limit/tenant/[^"]+/change/)"', page(support, TENANTS))
    assert found is not None
    assert "$2.00 of $5.00 (40 %)" in text(support.get(found[1]).content.decode())
    response = support.post(found[1], {"name": "Acme & Sons", "id": "stolen", "first_seen": "0"})
    assert response.status_code == 302
    assert list(Tenant.objects.values("id", "name", "first_seen", "plan", "suspended_at")) == [
        {"id": tenant.id, "name": "Acme & Sons", "first_seen": tenant.first_seen, "plan": None, "suspended_at": None}
    ]
    assert history() == [(CHANGE, "Name “” → “Acme & Sons”.")]
    assert "Acme &amp; Sons" in page(support, TENANTS, q="sons")
    assert support.get(reverse("admin:token_limit_tenant_add")).status_code == 403
    assert support.get(found[1].replace("change", "delete")).status_code == 403


def test_calls_without_a_tenant_are_listed_too(support: Client) -> None:
    spend("", 1)
    assert "(no tenant) $1.00 1 - Events" in text(page(support, TENANTS))
    assert "(no tenant)" in text(page(support, EVENTS))
    assert "event-0" in page(support, "admin:token_limit_ledgerentry_change", LedgerEntry.objects.get().pk)


# -- holds ----------------------------------------------------------------------------------------


def test_only_open_holds_are_listed_with_age_and_expiry(support: Client, clock: Clock) -> None:
    set_limit("acme", "5")
    admit("acme", USD // 50, "in-flight")
    admit("acme", None, "no-price")
    admit("acme", USD, "done")
    spend("acme", 1, "done")
    clock.now = NOON + 75
    shown = text(page(support, HOLDS))
    assert f"acme $0.02 1 min 15 s 13 min 45 s {process_name()} call open in-flight" in shown
    assert "acme unpriced 1 min 15 s" in shown
    assert "done" not in shown
    assert "settled done" in text(page(support, HOLDS, state="settled"))
    clock.now = NOON + 1000
    assert "1 min 40 s overdue" in text(page(support, HOLDS))


def test_selected_holds_are_released_once_and_noted(support: Client) -> None:
    set_limit("acme", "1")
    admit("acme", USD, "stuck")
    admit("other", USD, "unlimited")
    assert admit("acme") == "busy"
    data = {"action": "release", "_selected_action": ["stuck"]}
    response = support.post(reverse(HOLDS), data, follow=True)
    assert [str(message) for message in response.context["messages"]] == ["1 released."]
    assert admit("acme") == "admitted"
    assert history() == [(CHANGE, "Released: $1.00 held for tenant “acme”.")]
    assert "Released: $1.00" in page(support, "admin:token_limit_hold_history", "stuck")
    assert "person 0 acme Hold of $1.00 released" in text(page(support, "admin:token_limit_page", "history"))
    response = support.post(reverse(HOLDS) + "?state=released", data, follow=True)
    assert "1 were closed already." in [str(message) for message in response.context["messages"]]
    assert len(history()) == 1


def test_holds_are_otherwise_read_only_and_releasing_needs_permission(support: Client) -> None:
    set_limit("acme", "1")
    admit("acme", USD, "stuck")
    for client in (support, person("view_hold")):
        assert "stuck" in page(client, "admin:token_limit_hold_change", "stuck")
        assert client.post(reverse("admin:token_limit_hold_change", args=["stuck"]), {"amount": "0"}).status_code == 403
        assert client.get(reverse("admin:token_limit_hold_add")).status_code == 403
        assert client.post(reverse("admin:token_limit_hold_delete", args=["stuck"]), {"post": "yes"}).status_code == 403
    person("view_hold").post(reverse(HOLDS), {"action": "release", "_selected_action": ["stuck"]})
    assert Hold.objects.get().state == "open"
    assert history() == []


# -- events ---------------------------------------------------------------------------------------


def test_events_are_listed_newest_first_with_cost_and_marks(support: Client) -> None:
    spend("acme", 0.0125, at=NOON - 60)
    spend("acme", None, model="mystery-1", error="RateLimitError 429")
    spend("acme", 0.000000015, at=NOON - 120, tags={"estimated": True})
    shown = text(page(support, EVENTS))
    first, second, third = (shown.index(part) for part in ("mystery-1", "$0.0125", "$0.000000015"))
    assert first < second < third
    assert "1,200 in 30 out unpriced RateLimitError 429" in shown
    assert "$0.000000015 estimated" in shown


def test_a_correction_shows_what_it_corrects_and_the_rows_of_a_call_lead_to_each_other(
    support: Client, clock: Clock
) -> None:
    set_limit("acme", "5")
    admit("acme", USD, "late")
    clock.now = NOON + 1000
    assert get_store().expire(clock.now) == 1
    spend("acme", 0.25, "late")
    shown = text(page(support, EVENTS))
    assert "correction of late/expired" in shown and "-$1.00" in shown
    assert [kind in text(page(support, EVENTS, kind="correction")) for kind in ("of late/expired", "$0.25")] == [
        True,
        False,
    ]
    correction = LedgerEntry.objects.get(kind="correction")
    detail = page(support, "admin:token_limit_ledgerentry_change", correction.pk)
    assert "expiry $1.00" in text(detail) and "call $0.25" in text(detail)
    for link in re.findall(r'href="(/admin/token_limit/ledgerentry/\d+/change/)"', detail):
        assert support.get(link).status_code == 200


def test_events_are_found_by_tenant_event_id_or_request_id(support: Client, clock: Clock) -> None:
    set_limit("acme", "5")
    spend("acme", 1, "one", request_id="req-1")
    spend("acme", 1, "two", request_id="req-2")
    spend("beta", 1, "three", request_id="req-3")
    Tenant.objects.filter(id="beta").update(name="Beta Ltd")
    found = {
        term: sorted(entry.event_id for entry in support.get(reverse(EVENTS), {"q": term}).context["cl"].result_list)
        for term in ("acme", "Beta Ltd", "two", "req-3", "nobody")
    }
    assert found == {"acme": ["one", "two"], "Beta Ltd": ["three"], "two": ["two"], "req-3": ["three"], "nobody": []}


def test_filters_of_events(support: Client) -> None:
    spend("acme", 1, "now")
    spend("acme", 1, "yesterday", at=NOON - DAY)
    spend("acme", 1, "early", at=NOON - 13 * DAY, model="gpt-4o")
    spend("acme", 1, "old", at=NOON - 60 * DAY, provider="anthropic", model="claude")
    spend("acme", None, "unpriced")
    spend("acme", 0, "failed", error="InternalServerError 500")
    spend("acme", 1, "guess", tags={"estimated": True})
    recent = {"failed", "guess", "now", "unpriced"}
    expected = {
        (): recent | {"yesterday"},
        (("when", "today"),): recent,
        (("when", "yesterday"),): {"yesterday"},
        (("when", "month"),): recent | {"yesterday", "early"},
        (("when", "2026-11-02"),): {"early"},
        (("when", "any"), ("provider", "anthropic")): {"old"},
        (("when", "any"), ("model", "gpt-4o")): {"early"},
        (("mark", "unpriced"),): {"unpriced"},
        (("mark", "failed"),): {"failed"},
        (("mark", "estimated"),): {"guess"},
    }
    found = {
        query: {entry.event_id for entry in support.get(reverse(EVENTS), dict(query)).context["cl"].result_list}
        for query in expected
    }
    assert found == expected
    assert support.get(reverse(EVENTS), {"when": "soon"}).status_code == 302  # to the same page, saying so
    kept = page(support, EVENTS, kind="call", when="2026-11-02")
    assert '<input type="hidden" name="kind" value="call">' in kept and 'value="2026-11-02"' in kept


def test_nobody_changes_the_event_log() -> None:
    spend("acme", 1, "one")
    root = Client()
    root.force_login(User.objects.create_superuser("root"))
    event = LedgerEntry.objects.get()
    assert root.get(reverse("admin:token_limit_ledgerentry_add")).status_code == 403
    assert (
        root.post(reverse("admin:token_limit_ledgerentry_change", args=[event.pk]), {"cost_nano": 0}).status_code == 403
    )
    assert (
        root.post(reverse("admin:token_limit_ledgerentry_delete", args=[event.pk]), {"post": "yes"}).status_code == 403
    )
    root.post(reverse(EVENTS), {"action": "delete_selected", "_selected_action": [event.pk], "post": "yes"})
    assert LedgerEntry.objects.get().cost_nano == USD


def test_an_events_details_are_readable_and_harmless(support: Client) -> None:
    spend("acme", 1, "one", tags={"note": "</pre><script>alert(1)</script>", "größe": 3}, audio_input_tokens=4)
    shown = page(support, "admin:token_limit_ledgerentry_change", LedgerEntry.objects.get().pk)
    assert "&quot;audio_input_tokens&quot;: 4,\n" in shown and "größe" in shown
    assert "<script>alert" not in shown
    assert "1.000000000" in text(shown)


# -- every page -----------------------------------------------------------------------------------


def test_names_are_escaped_everywhere(support: Client, clock: Clock) -> None:
    evil = "<script>alert('x')</script>"
    limit_id = post_limit(support, tenant_id=evil, limit_usd="5") and Limit.objects.get().pk
    admit(evil, USD, "<b>call")
    spend(evil, 1, "<b>event", model="<b>model", error="<b>error", user="<b>user")
    Tenant.objects.update(name=f"{evil} name")
    pages = [
        *(page(support, name) for name in (LIMITS, TENANTS, HOLDS, EVENTS)),
        page(support, "admin:token_limit_limit_change", limit_id),
        page(support, "admin:token_limit_limit_delete", limit_id),
        page(support, "admin:token_limit_limit_history", limit_id),
        page(support, "admin:token_limit_ledgerentry_change", LedgerEntry.objects.get().pk),
        page(support, "admin:token_limit_limit_add", tenant_id=evil),
        page(support, EVENTS, q=evil),
    ]
    assert [shown for shown in pages if "<script>alert" in shown or "<b>" in shown] == []
    assert all("&lt;script&gt;alert" in shown for shown in pages)


def test_pages_bring_no_inline_style_and_no_inline_script(support: Client) -> None:
    limit_id = set_limit("acme", "5")
    admit("acme", USD, "stuck")
    spend("acme", 1)
    for shown in (
        *(page(support, name) for name in (LIMITS, TENANTS, HOLDS, EVENTS)),
        page(support, "admin:token_limit_limit_change", limit_id),
    ):
        content = shown.partition('id="content"')[2].partition('id="footer"')[0]
        assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>|\sstyle=|\son\w+=|<style", content)


@pytest.fixture
def thousand() -> None:
    ids = [f"tenant-{number:04}" for number in range(1000)]
    Tenant.objects.bulk_create(Tenant(id=tenant, name=f"Name {tenant}", first_seen=NOON) for tenant in ids)
    Limit.objects.bulk_create(
        Limit(tenant_id=tenant, frequency=frequency, amount=USD, effective_from=0)
        for tenant in ids
        for frequency in ("per_month", "per_day")
    )
    month = {
        "window_start": datetime(2026, 11, 1, tzinfo=UTC).timestamp(),
        "window_end": datetime(2026, 12, 1, tzinfo=UTC).timestamp(),
    }
    Counter.objects.bulk_create(
        Counter(tenant_id=limit.tenant_id, limit_id=limit.pk, settled=USD // 2, **month)
        for limit in Limit.objects.filter(frequency="per_month")
    )
    Hold.objects.bulk_create(
        Hold(call_id=f"call-{tenant}", tenant_id=tenant, amount=5, created_at=NOON, expires_at=NOON + 900)
        for tenant in ids
    )
    LedgerEntry.objects.bulk_create(
        LedgerEntry(tenant_id=tenant, event_id=f"event-{tenant}", timestamp=NOON, stream=False, cost_nano=5)
        for tenant in ids
    )
    Rollup.objects.bulk_create(
        Rollup(tenant_id=tenant, day=NOON // DAY, provider="openai", model="m", calls=1, cost_nano=5) for tenant in ids
    )


@pytest.mark.usefixtures("thousand")
def test_a_page_takes_a_few_queries_at_a_thousand_tenants(support: Client) -> None:
    for name, most in ((LIMITS, 5), (TENANTS, 4), (HOLDS, 3), (EVENTS, 7)):
        for query in ({}, {"p": "3"}, {"q": "tenant-0500"}):
            with CaptureQueriesContext(connections["token_limit"]) as queries:
                response = support.get(reverse(name), query)
            assert response.context["cl"].result_list
            assert len(queries) <= most, "\n".join(query["sql"] for query in queries)


@pytest.mark.usefixtures("thousand")
def test_the_event_log_is_never_counted_beyond_the_end_of_its_list(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from token_limit_django.admin.events import BoundedPaginator

    monkeypatch.setattr(BoundedPaginator, "most", 120)
    with CaptureQueriesContext(connections["token_limit"]) as queries:
        shown = page(support, EVENTS, p="3")
    assert "The list ends at 120 events." in text(shown)
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert len(counts) == 1 and "LIMIT 120" in counts[0]
