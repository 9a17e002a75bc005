"""Limits of every kind at a backend: set from here, held for the calls made here, and refused by name where unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.remote.backend import Backend
from tests.remote.receiver import Receiver
from tests.waiting import PATIENCE
from token_limit_core import ConfigurationError, LimitExceededException, Meter, MeterConfig, StoreError
from token_limit_core.calls.flow import depart, land
from token_limit_core.calls.request import Outcome, Request
from token_limit_core.delivery.transport import TooOld
from token_limit_core.errors import LimitChanged
from token_limit_core.ingest.endpoints import Ingest
from token_limit_core.ingest.keys import PERMISSIONS, make_key
from token_limit_core.ingest.manage import OPERATIONS
from token_limit_core.meter import engine_of
from token_limit_core.stores.plans import Plan
from token_limit_core.testing.clock import Clock
from token_limit_core.usage import Usage

MILLION = Outcome(usage=Usage(input_tokens=1_000_000, output_tokens=0))
CENTS = Decimal("0.15")
"""What a million input tokens of gpt-4o-mini cost."""

Service = Callable[..., Meter]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backend(clock: Clock) -> Iterator[Meter]:
    with Meter(MeterConfig(store="memory://", clock=clock, patches=[], default_plan="free")) as backend:
        yield backend


@pytest.fixture
def receiver(backend: Meter) -> Iterator[Receiver]:
    with Receiver(backend.store, Ingest.of(backend)) as receiver:
        yield receiver


@pytest.fixture
def service(receiver: Receiver, clock: Clock) -> Iterator[Service]:
    made: list[Meter] = []

    def make(**settings: Any) -> Meter:
        given = {"url": receiver.url, "api_key": receiver.token, "clock": clock, "limit_check_cache_ttl": 3600}
        made.append(Meter(MeterConfig(patches=[], **{**given, **settings})))
        return made[-1]

    yield make
    for meter in made:
        meter.close()


def call(meter: Meter, tenant_id: str = "acme", user: str | None = None, model: str = "gpt-4o-mini") -> None:
    request = Request("openai", model, "chat.completions", size=4)
    attributes = {} if user is None else {"user": user}
    with meter.for_tenant(tenant_id or None, **attributes):
        land(depart(engine_of(meter), request), MILLION)


def refusal(meter: Meter, *given: Any, **more: Any) -> str:
    """Return the kind of refusal of a call."""
    with pytest.raises(LimitExceededException) as refused:
        call(meter, *given, **more)
    return refused.value.decision.kind


KEYWORDS: list[dict[str, Any]] = [
    {"amount": 5000, "unit": "tokens", "frequency": "per_week", "timezone": "Europe/Berlin", "anchor": "2027-01-06"},
    {"amount": 100, "unit": "requests", "frequency": "per_minute", "mode": "observe", "name": "Burst"},
    {"amount": "9.999999999", "frequency": "per_month", "anchor": 31, "basis": "cost", "mode": "strict"},
    {"amount": 1, "user": "*", "model": "gpt-4*"},
    {"amount": 1, "user": "bob & co", "provider": "openai", "feature": "ch*"},
    {"amount": 7, "frequency": "total", "effective_date": "2027-06-01T12:00"},
]


@pytest.mark.parametrize("keywords", KEYWORDS, ids=str)
@pytest.mark.parametrize("tenant_id", ["acme", "", "*"])
def test_every_field_of_a_limit_arrives(
    backend: Meter, service: Service, tenant_id: str, keywords: dict[str, Any]
) -> None:
    meter = service()
    saved = meter.set_limit(tenant_id, by="ann", **keywords)
    [there] = backend.store.limits(tenant_id)
    assert (saved, meter.store.limits(tenant_id)) == (there, [there])
    with Meter(MeterConfig(store="memory://", clock=backend.config.clock, patches=[])) as local:
        here = local.set_limit(tenant_id, **keywords)
    assert (here.identity, here.measure, here.amount, here.mode, here.name, here.effective_from) == (
        there.identity, there.measure, there.amount, there.mode, there.name, there.effective_from,
    )  # fmt: skip
    assert backend.store.history(tenant_id)[0].actor.endswith(": ann")
    filter = {name: keywords[name] for name in ("user", "model", "provider", "feature") if name in keywords}
    assert meter.remove_limit(tenant_id, keywords.get("frequency"), **filter) == 1
    assert backend.store.limits(tenant_id) == []


def test_removing_a_limit_with_a_filter_leaves_the_others(backend: Meter, service: Service) -> None:
    for user in (None, "*", "bob"):
        backend.set_limit("acme", 5, user=user)
    assert service().remove_limit("acme", "per_month", user="bob") == 1
    assert [limit.filter for limit in backend.limits("acme")] == ["", "user=*"]


def test_each_user_has_an_own_counter_here_too(backend: Meter, service: Service) -> None:
    meter = service()
    meter.set_limit("acme", 2 * CENTS, user="*")
    for user in ("alice", "bob", "alice"):
        call(meter, user=user)
    assert refusal(meter, user="alice") == "exhausted"
    call(meter, user="bob")
    assert refusal(meter, user="bob") == "exhausted"
    call(meter)  # a call of no user
    assert meter.flush(PATIENCE)
    spent = {status.subject: status.spent_usd for status in backend.usage("acme")}
    assert spent == {"alice": 2 * CENTS, "bob": 2 * CENTS}
    assert [status.spent_usd for status in meter.usage("acme", user="alice")] == [2 * CENTS]
    fresh = service()  # another process
    assert refusal(fresh, user="alice") == "exhausted"
    call(fresh, user="carol")


def test_spend_is_counted_once_for_each_user_over_deliveries_and_new_answers(
    backend: Meter, service: Service, clock: Clock
) -> None:
    meter = service(limit_check_cache_ttl=5)
    meter.set_limit("acme", 4 * CENTS)
    meter.set_limit("acme", 3 * CENTS, user="*")
    for user in ("alice", "bob"):
        call(meter, user=user)
        assert meter.flush(PATIENCE)
        clock.advance(3)  # the answers of the two are of different age
    for user in ("alice", "bob"):
        states = {status.subject: status.spent_usd for status in meter.usage("acme", user=user)}
        assert states == {"": 2 * CENTS, user: CENTS}
    call(meter, user="alice")
    call(meter, user="alice")
    assert refusal(meter, user="bob") == "exhausted"  # by the limit on all


@pytest.mark.parametrize(
    ("keywords", "passes"),
    [
        ({"amount": CENTS, "model": "gpt-4o*"}, {"model": "gpt-4.1-mini"}),
        ({"amount": 1_000_000, "unit": "tokens", "user": "alice"}, {"user": "bob"}),
        ({"amount": 1, "unit": "requests", "frequency": "per_day", "provider": "openai", "user": "alice"}, {}),
    ],
    ids=str,
)
def test_a_limit_stops_the_calls_that_it_is_for(
    service: Service, keywords: dict[str, Any], passes: dict[str, Any]
) -> None:
    meter = service()
    meter.set_limit("acme", **keywords)
    call(meter, user="alice")
    assert refusal(meter, user="alice") == "exhausted"
    call(meter, **passes)


def test_limits_on_all_tenants_and_on_nobody_hold(service: Service) -> None:
    meter = service()
    meter.set_limit("", CENTS)
    call(meter, "")
    assert refusal(meter, "") == "exhausted"
    meter.set_limit("*", 2 * CENTS)
    call(meter, "acme")
    assert meter.flush(PATIENCE)
    assert refusal(service(), "globex") == "exhausted"


def test_a_key_of_one_tenant_learns_of_all_tenants_only_that_they_have_spent_it(
    backend: Meter, service: Service
) -> None:
    token, key = make_key("south", ["acme"], permissions=PERMISSIONS, now=backend.config.clock())
    backend.store.add_api_key(key)
    backend.set_limit("*", CENTS)
    meter = service(api_key=token)
    call(meter)
    assert meter.flush(PATIENCE)
    assert meter.usage("acme") == []
    fresh = service(api_key=token)
    with pytest.raises(LimitExceededException) as refused:
        call(fresh)
    assert (refused.value.decision.kind, refused.value.decision.spent) == ("exhausted", None)
    assert [row.key for row in fresh.report("model", tenant_id="acme")] == ["gpt-4o-mini"]
    for change in (
        lambda: fresh.set_limit("*", 5),
        lambda: fresh.suspend("globex"),
        lambda: fresh.set_plan("pro", []),
        lambda: fresh.rename_tenant("acme", "acme-2"),
        lambda: fresh.merge_tenants("acme", "globex"),
        lambda: fresh.erase_tenant("acme"),
        lambda: fresh.report("model"),
        lambda: fresh.report("model", tenant_id="globex"),
    ):
        with pytest.raises(StoreError, match="403"):
            change()


def test_plans_top_ups_and_corrections_hold_at_the_next_call(backend: Meter, service: Service) -> None:
    meter = service()
    meter.set_plan("pro", [{"amount": CENTS}, {"amount": 50, "unit": "requests", "user": "*"}], markup=0, by="ann")
    assert [(plan.name, len(plan.limits)) for plan in meter.store.plans()] == [("pro", 2)]
    assert meter.assign_plan("acme", "pro")
    assert not meter.assign_plan("acme", "pro")
    call(meter)
    assert refusal(meter) == "exhausted"
    assert meter.top_up("acme", CENTS).ceiling == 300_000_000
    call(meter)
    assert refusal(meter) == "exhausted"
    assert meter.adjust("acme", -CENTS, reason="goodwill", by="ann").tags == {"reason": "goodwill"}
    call(meter)
    meter.set_plan("pro", [{"amount": 5}])
    call(meter)
    assert meter.set_markup("acme", 20) is True
    assert [limit.plan for limit in meter.limits("acme")] == ["pro"]
    assert meter.assign_plan("acme", None)
    assert meter.store.remove_plan("pro", 0.0)
    assert meter.preview("acme", 0, since="2027-01-01").refused == meter.preview("acme", 0, since="2027-01-01").calls
    actors = {change.actor.partition(": ")[2] for change in backend.store.history()}
    assert actors == {"", "ann"}


def test_a_suspended_tenant_is_refused_until_it_is_resumed(backend: Meter, service: Service) -> None:
    meter = service()
    assert meter.suspend("acme", reason="unpaid")
    assert refusal(meter) == "suspended"
    assert meter.resume("acme")
    assert not meter.resume("acme")
    call(meter)
    assert meter.name_tenant("acme", "Acme Ltd")
    known = backend.store.tenant("acme")
    assert known is not None and known.name == "Acme Ltd"


def test_tenants_are_renamed_merged_and_erased_at_the_backend(backend: Meter, service: Service) -> None:
    meter = service()
    for tenant_id in ("acme", "globex"):
        call(meter, tenant_id, user="ann")
    assert meter.flush(PATIENCE)
    meter.rename_tenant("acme", "acme-2", by="ann")
    meter.merge_tenants("globex", "acme-2", by="ann")
    assert [row.cost_usd for row in meter.report(tenant_id="acme-2")] == [2 * CENTS]
    by_user = meter.report("user")
    assert by_user == backend.report("user")
    assert [(row.key, row.calls) for row in by_user] == [("ann", 2)]
    assert meter.erase_tenant("acme-2", anonymise=True, by="ann") == 2
    assert (backend.store.tenant("acme-2"), meter.report(tenant_id="acme-2")) == (None, [])
    assert [row.calls for row in meter.report("model")] == [2]
    with pytest.raises(ConfigurationError, match="tenant_id: unknown tenant 'acme'"):
        meter.rename_tenant("acme", "acme-3")


def test_amounts_of_an_erased_tenant_do_not_become_those_of_another(backend: Meter, service: Service) -> None:
    meter = service()
    for tenant_id in ("acme", "globex"):
        call(meter, tenant_id)
    assert meter.flush(PATIENCE)
    with pytest.raises(ConfigurationError, match="anonymous_id: invalid value 'globex'; expected an id that no tenant"):
        meter.store.erase_tenant("acme", 0.0, anonymous_id="globex")


def test_a_new_tenant_is_on_the_default_plan_of_the_backend(backend: Meter, service: Service) -> None:
    backend.set_plan("free", [{"amount": CENTS}])
    meter = service()
    call(meter, "new")
    assert refusal(meter, "new") == "exhausted"


def test_a_plan_is_not_overwritten_from_two_sides(backend: Meter, service: Service) -> None:
    meter = service()
    backend.set_plan("pro", [{"amount": 5}])
    [read] = meter.store.plans()
    backend.set_plan("pro", [{"amount": 6}], by="ann")
    with pytest.raises(LimitChanged):
        meter.store.set_plan("pro", read.limits, 0.0, "20", expected=read)
    with pytest.raises(LimitChanged):
        meter.store.set_plan("pro", [], 0.0, expected=Plan("pro"))
    [now] = meter.store.plans()
    assert [limit.limit_usd for limit in meter.store.set_plan("pro", [], 0.0, expected=now).limits] == []


WHAT = {
    "set_limit": lambda meter: meter.set_limit("acme", 5, user="*"),
    "limit on a minute": lambda meter: meter.set_limit("acme", 5, "per_minute"),
    "limit in tokens": lambda meter: meter.set_limit("acme", 5, unit="tokens"),
    "observed limit": lambda meter: meter.set_limit("acme", 5, mode="observe"),
    "limit on all": lambda meter: meter.set_limit("*", 5),
    "remove_limit": lambda meter: meter.remove_limit("acme", user="*"),
    "set_plan": lambda meter: meter.set_plan("pro", [{"amount": 5}]),
    "plans": lambda meter: meter.store.plans(),
    "assign_plan": lambda meter: meter.assign_plan("acme", "pro"),
    "suspend": lambda meter: meter.suspend("acme"),
    "resume": lambda meter: meter.resume("acme"),
    "top_up": lambda meter: meter.top_up("acme", 5),
    "adjust": lambda meter: meter.adjust("acme", 5),
    "rename_tenant": lambda meter: meter.rename_tenant("acme", "acme-2"),
    "merge_tenants": lambda meter: meter.merge_tenants("acme", "globex"),
    "erase_tenant": lambda meter: meter.erase_tenant("acme"),
    "report": lambda meter: meter.report("model"),
    "set_markup": lambda meter: meter.set_markup("acme", 5),
}


@pytest.mark.parametrize("what", WHAT)
def test_an_older_backend_is_told_apart_and_loses_no_field(what: str) -> None:
    with Backend() as old, Meter(MeterConfig(url=old.url, api_key="k1", patches=[])) as meter:
        with pytest.raises(TooOld, match=r"backend http://.*/v1/events does not know '\w+': it is older than this rel"):
            WHAT[what](meter)
        assert old.thresholds == []


def test_an_older_backend_still_takes_what_it_knows() -> None:
    with Backend() as old, Meter(MeterConfig(url=old.url, api_key="k1", patches=[])) as meter:
        meter.set_limit("acme", 5, "per_day", effective_date="2030-01-01")
        assert old.thresholds == [
            {"tenant_id": "acme", "limit_usd": 5, "frequency": "per_day", "effective_date": "2030-01-01"}
        ]
        assert [limit.limit_usd for limit in meter.limits("acme")] == [5]


def test_a_backend_that_does_not_know_a_verb_yet_is_told_apart(
    receiver: Receiver, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(OPERATIONS, "erase_tenant")  # as the release before this one
    with pytest.raises(TooOld, match="does not know 'erase_tenant': it is older than this release"):
        service().erase_tenant("acme")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"do": "set_limit", "tenant_id": "acme", "amount": 5, "burst": 3}, "'burst': unknown field of set_limit"),
    ({"do": "set_limit", "tenant_id": "acme"}, "limit_usd: missing"),
    ({"do": "explode", "tenant_id": "acme"}, "do: invalid value 'explode'"),
    ({"tenant_id": "acme"}, "do: invalid value None"),
    ({"do": "top_up", "tenant_id": "acme"}, "usd: missing; top_up needs it"),
    ({"do": "top_up", "usd": 5}, "tenant_id: missing"),
    ({"do": "adjust", "tenant_id": "acme", "usd": [0, [1, 0], 0]}, "usd: invalid value [0, [1, 0], 0]"),
    ({"do": "set_limit", "tenant_id": "acme", "amount": [0, [1], 0], "unit": "tokens"}, "amount: invalid value"),
    ({"do": "set_markup", "tenant_id": "acme", "markup": [0, [1], 0]}, "markup: invalid value"),
    ({"do": "assign_plan", "tenant_id": "acme"}, "plan: missing"),
    ({"do": "assign_plan", "tenant_id": "acme", "plan": "gold"}, "plan: unknown plan 'gold'"),
    ({"do": "set_plan", "plan": "pro", "limits": [{"amount": 5, "burst": 3}]}, "limits[0].burst: unknown"),
    ({"do": "set_plan", "plan": "pro", "limits": [], "expected": {"limits": 3}}, "expected: invalid value"),
]


@pytest.mark.parametrize(("body", "detail"), REFUSED, ids=str)
def test_what_a_backend_does_not_know_is_refused_by_name(
    receiver: Receiver, service: Service, body: dict[str, Any], detail: str
) -> None:
    import requests

    answer = requests.post(
        receiver.url.replace("events", "manage"),
        json=body,
        headers={"Authorization": f"Bearer {receiver.token}"},
        timeout=PATIENCE,
    )
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


def test_the_published_endpoint_refuses_an_unknown_field_by_name(receiver: Receiver, backend: Meter) -> None:
    import requests

    for method, given in (("POST", {"json": {"tenant_id": "acme", "limit_usd": 5, "per_seat": True}}),
                          ("DELETE", {"params": {"tenant_id": "acme", "per_seat": "1"}})):  # fmt: skip
        url, headers = receiver.url.replace("events", "thresholds"), {"X-API-Key": f"Bearer {receiver.token}"}
        answer = requests.request(method, url, headers=headers, timeout=PATIENCE, **given)  # type: ignore[arg-type]
        assert (answer.status_code, "'per_seat': unknown field" in answer.json()["detail"]) == (422, True)
    assert backend.store.limits("acme") == []


def test_what_the_backend_refuses_is_said_in_its_words(backend: Meter, service: Service) -> None:
    with pytest.raises(ConfigurationError, match="plan: unknown plan 'gold'; known plans are none"):
        service().assign_plan("acme", "gold")
    with pytest.raises(ConfigurationError, match="has no limit 'per_day' of this kind in force to top up"):
        service().top_up("acme", 5, "per_day")


def test_a_check_can_ask_for_one_call(receiver: Receiver, backend: Meter) -> None:
    import requests

    backend.set_limit("acme", 0, user="alice", model="gpt-4*")
    backend.set_limit("acme", 5)
    url, headers = receiver.url.replace("events", "check-tenant-limit"), {"X-API-Key": f"Bearer {receiver.token}"}
    for facts, exceeded in (({}, False), ({"user": "bob", "model": "gpt-4o"}, False),
                            ({"user": "alice", "model": "gpt-4o"}, True)):  # fmt: skip
        told = requests.get(url, {"tenant_id": "acme", **facts}, headers=headers, timeout=PATIENCE).json()
        assert (told["limit_exceeded"], len(told["limits"])) == (exceeded, 2)
