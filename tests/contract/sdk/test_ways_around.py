"""Ways around a reached limit that are bounded: long outputs after short ones, many at once, background work.

The others: no price and aliases (`test_unpriced.py`), a store that is away, hangs or drops packets
(`test_store_away.py`, `test_outage.py`), batches (`test_batch_holds.py`), failing resolvers and bare threads
(`unit/test_scope.py`, `unit/test_threads.py`), SDKs that nobody hooks (`test_checks.py` of Django), and many processes
at once (`process/test_matrix.py`).

All callers of a round meet twice: each has been admitted or refused before any answer is given.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.contract.sdk import wire
from tests.contract.sdk.metered import TENANT
from tests.contract.sdk.uses import MESSAGES
from tests.contract.sdk.wire import MODEL, Answer, Wire, as_json
from tests.ledgers import Factory, django_sqlite, sql_sqlite
from tests.support import postgres_schema
from tests.waiting import PATIENCE
from token_limit_core import LimitExceededException, LimitExhausted, LimitUnverifiable, Meter, MeterConfig, TenantBusy
from token_limit_core.money import to_usd
from token_limit_core.pricing.price_list import listed_price
from token_limit_core.stores.records import LEASE
from token_limit_core.testing import Clock

INPUT, SHORT, LONG = 10, 10, 500
"""Tokens of each call: the estimate is made of short answers, and then all are 50 times as long."""

WORTH = 20
"""Long calls that the limit pays for."""

_price = listed_price("openai", MODEL, 0)
assert _price is not None
A_CALL = _price.of_tokens(INPUT, LONG)


class Provider:
    """Generates as much as it may, and adds up what it bills."""

    def __init__(self) -> None:
        self.length = SHORT
        self.billed = 0
        self.wire = Wire(self.answer)
        self.pause: Callable[[], Any] | None = None

    def answer(self, sent: dict[str, Any]) -> Answer:
        assert _price is not None
        bound = sent.get("max_completion_tokens", sent.get("max_tokens", self.length))
        choices = sent.get("n", 1)
        made = min(self.length, bound) * choices
        self.billed += _price.of_tokens(INPUT, made)
        usage = {"prompt_tokens": INPUT, "completion_tokens": made, "total_tokens": INPUT + made}
        choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
        answer = as_json(
            {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice], "usage": usage}
        )
        answer.pause = self.pause
        return answer


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        kinds: dict[str, Callable[[], str]] = {
            "memory": lambda: "memory://",
            "sqlite": lambda: f"sqlite:///{tmp_path}/ledger.db",
            "postgresql": lambda: stack.enter_context(postgres_schema()),
        }
        yield kinds[request.param]()


def opened(url: str, provider: Provider, mode: str, **config: Any) -> Meter:
    """Make a Meter that knows short answers, with a limit worth some long ones."""
    meter = Meter(MeterConfig(store=url, **config)).patch("openai")
    with meter.for_tenant("teacher"):
        for _ in range(30):
            provider.wire.client().chat.completions.create(model=MODEL, messages=MESSAGES)
    provider.length, provider.billed = LONG, 0
    meter.set_limit(TENANT, f"{A_CALL * WORTH / 10**9:.9f}", mode=mode)
    return meter


def in_threads(meter: Meter, provider: Provider, arguments: list[dict[str, Any]], number: int = 64) -> int:
    """Make a round of calls in threads; return how many were admitted."""
    meeting = threading.Barrier(number)
    client = provider.wire.client()
    provider.pause = lambda: meeting.wait(PATIENCE)

    def work(caller: int) -> bool:
        try:
            with meter.for_tenant(TENANT):
                asked = arguments[caller % len(arguments)]
                client.chat.completions.create(model=MODEL, messages=MESSAGES, **asked)
        except LimitExceededException:
            meeting.wait(PATIENCE)
            return False
        return True

    with ThreadPoolExecutor(number) as pool:
        return sum(pool.map(work, range(number)))


def in_tasks(meter: Meter, provider: Provider, arguments: list[dict[str, Any]], number: int = 256) -> int:
    """Make a round of calls in tasks."""

    async def main() -> int:
        meeting = asyncio.Barrier(number)
        provider.pause = meeting.wait
        async with provider.wire.async_client() as client:

            async def work(caller: int) -> bool:
                try:
                    with meter.for_tenant(TENANT):
                        asked = arguments[caller % len(arguments)]
                        await client.chat.completions.create(model=MODEL, messages=MESSAGES, **asked)
                except LimitExceededException:
                    await meeting.wait()
                    return False
                return True

            return sum(await asyncio.gather(*map(work, range(number))))

    return asyncio.run(main())


ROUNDS: dict[str, Callable[..., int]] = {"64 threads": in_threads, "256 tasks": in_tasks}


@pytest.mark.parametrize("round_of", ROUNDS)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([{"max_tokens": LONG}], id="bounded"),
        pytest.param([{}, {"max_tokens": 16_000}, {"max_completion_tokens": LONG, "n": 2}, {}], id="of all kinds"),
    ],
)
def test_a_strict_limit_is_never_exceeded(round_of: str, arguments: list[dict[str, Any]], url: str) -> None:
    provider = Provider()
    with opened(url, provider, "strict") as meter:
        admitted = [ROUNDS[round_of](meter, provider, arguments) for _ in range(3)]
        (status,) = meter.usage(TENANT)
    assert admitted[0] > 0
    assert provider.billed == status.settled <= status.ceiling == A_CALL * WORTH
    assert status.held == 0
    if arguments == [{"max_tokens": LONG}]:
        assert status.settled + A_CALL * 2 > status.ceiling, "what is left does not pay for a worst case"


@pytest.mark.parametrize("round_of", ROUNDS)
def test_long_outputs_after_short_ones_exceed_an_enforced_limit_by_one_call(round_of: str, url: str) -> None:
    provider = Provider()
    with opened(url, provider, "enforce") as meter:
        while ROUNDS[round_of](meter, provider, [{"max_tokens": LONG}]):
            pass
        (status,) = meter.usage(TENANT)
    assert provider.billed == status.settled
    assert status.ceiling <= status.settled <= status.ceiling + A_CALL


@pytest.mark.parametrize("mode", ["enforce", "strict"])
def test_estimates_fifty_times_too_low_double_an_enforced_limit_at_most_and_exceed_no_strict_one(
    mode: str, url: str
) -> None:
    """No caller gives `max_tokens`, and 64 are in flight at once. The first round bills 145 % in enforce."""
    provider = Provider()
    with opened(url, provider, mode) as meter:
        admitted = [in_threads(meter, provider, [{}]) for _ in range(3)]
        (status,) = meter.usage(TENANT)
    assert admitted[0] > 0
    assert (provider.billed, status.held) == (status.settled, 0)
    if mode == "strict":
        assert status.settled <= status.ceiling
    else:
        assert status.ceiling <= status.settled <= 2 * status.ceiling
        assert admitted[1:] == [0, 0]


def test_what_is_left_beside_a_lease_is_doubled_at_most_by_calls_without_a_bound(tmp_path: Path) -> None:
    """The lease is taken while answers are short and much is left; others spend that, and answers become long."""
    provider, left = Provider(), A_CALL * WORTH
    url, lease = f"sqlite:///{tmp_path}/ledger.db", {"lease_seconds": 60.0, "clock": Clock()}  # which stands still
    with opened(url, provider, "enforce", **lease) as meter:
        meter.set_limit(TENANT, to_usd(600 * A_CALL))
        provider.length = SHORT
        with meter.for_tenant(TENANT):
            for _ in range(12):
                provider.wire.client().chat.completions.create(model=MODEL, messages=MESSAGES)
        assert [hold.origin for hold in meter.store.holds()] == [LEASE]
        (status,) = meter.usage(TENANT)
        meter.adjust(TENANT, usd=to_usd(status.ceiling - status.settled - left), reason="what others have spent")
        provider.length, provider.billed = LONG, 0
        assert 0 < in_threads(meter, provider, [{}]) < 64
        assert provider.billed <= 2 * left
        assert meter.flush(PATIENCE)
        assert meter.store.holds() == []
        assert meter.usage(TENANT)[0].settled == status.ceiling - left + provider.billed


def test_a_call_alone_is_admitted_while_anything_is_left() -> None:
    provider = Provider()
    with opened("memory://", provider, "enforce") as meter, meter.for_tenant(TENANT):
        client = provider.wire.client()
        for _ in range(WORTH):
            client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=16_000)
        with pytest.raises(LimitExhausted):
            client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=16_000)


# -- a full disk ------------------------------------------------------------------------------------


@pytest.mark.parametrize("open_", [sql_sqlite, django_sqlite], ids=lambda open_: open_.__name__)
def test_a_limit_of_0_on_sqlite_lets_none_of_128_threads_through(
    open_: Factory, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    provider = Provider()
    with open_(request, tmp_path) as opened, Meter(MeterConfig(store=opened.store, store_timeout=PATIENCE)) as meter:
        meter.patch("openai").set_limit(TENANT, 0)
        client = provider.wire.client()

        def work(caller: int) -> int:
            refused = 0
            for _ in range(4):
                with pytest.raises(LimitExhausted), meter.for_tenant(TENANT):
                    client.chat.completions.create(model=MODEL, messages=MESSAGES)
                refused += 1
            return refused

        with ThreadPoolExecutor(128) as pool:
            assert sum(pool.map(work, range(128))) == 512
    assert provider.billed == 0
    assert provider.wire.sent == []


@pytest.fixture
def full_disk() -> Iterator[Callable[[], None]]:
    """Give what lets no SQLite file grow from now on."""
    full = False

    def on_begin(connection: Any, record: object, proxy: object = None) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0] if full else 1_000_000
        connection.execute(f"PRAGMA max_page_count={pages}")

    def fill() -> None:
        nonlocal full
        full = True

    event.listen(Engine, "connect", on_begin)
    yield fill
    event.remove(Engine, "connect", on_begin)


def test_a_full_disk_lets_calls_through_up_to_the_allowance(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    """60 of 60 calls went out over a limit that 20 had used up."""
    provider, url, allowed = Provider(), f"sqlite:///{tmp_path}/ledger.db", 5
    opened(url, provider, "enforce").close()
    full_disk()
    refused = 0
    with Meter(MeterConfig(store=url, outage_allowance_usd=f"{A_CALL * allowed / 10**9:.9f}")).patch("openai") as meter:
        client = provider.wire.client()
        for _ in range(60):
            try:
                with meter.for_tenant(TENANT):
                    client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=LONG)
            except (LimitUnverifiable, LimitExhausted):
                refused += 1
    assert refused == 60 - provider.billed // A_CALL
    assert provider.billed <= A_CALL * (WORTH + allowed)


# -- work in the background -------------------------------------------------------------------------

BACKGROUND: dict[str, Any] = {"model": MODEL, "input": "?", "background": True, "max_output_tokens": 16_000}


numbers = itertools.count(1)


def queued(sent: dict[str, Any]) -> Answer:
    return as_json(wire._response("queued") | {"id": f"resp_{next(numbers)}", "background": True})


@pytest.mark.parametrize("mode", ["enforce", "strict"])
def test_calls_in_the_background_hold_until_they_are_asked_for(mode: str, url: str) -> None:
    wired = Wire(queued)
    with Meter(MeterConfig(store=url)).patch("openai") as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, "0.25", mode=mode)
        client = wired.client()
        made = 0
        with pytest.raises(TenantBusy):
            for made in range(200):
                client.responses.create(**BACKGROUND)
        assert _price is not None
        assert made * _price.of_tokens(0, 16_000) <= 0.25 * 10**9 + _price.of_tokens(INPUT, 16_000)
        assert len(meter.store.holds(TENANT)) == made


def test_a_response_that_is_asked_for_gives_its_hold_back(url: str) -> None:
    with Meter(MeterConfig(store=url)).patch("openai") as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, "0.25")
        first, second = (Wire(queued).client().responses.create(**BACKGROUND) for _ in range(2))
        assert len(meter.store.holds(TENANT)) == 2
        asked_for("completed", first.id)
        assert len(meter.store.holds(TENANT)) == 1
        asked_for("failed", second.id)
        assert meter.store.holds(TENANT) == []
        (status,) = meter.usage(TENANT)
        assert status.settled == meter.store.spend(TENANT, 0, meter.config.clock() + 1).cost_nano > 0


def asked_for(status: str, its_id: str) -> None:
    answer = as_json(wire._response(status) | {"background": True, "id": its_id})
    Wire(lambda sent: answer).client().responses.retrieve(its_id)
