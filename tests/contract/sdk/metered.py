"""Running calls of an SDK under a Meter, and looking at what the caller got and at what was billed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pydantic
import pytest
from genai_prices import Usage, calc_price

from tests.contract.sdk.uses import Endpoint, Use
from tests.contract.sdk.wire import Stall, Wire
from tests.waiting import PATIENCE
from token_limit_core import LLMEvent, Meter, MeterConfig
from token_limit_core.money import to_usd

TENANT = "acme"


@dataclass
class Run:
    """What a caller got: everything it saw, and the exception that ended it."""

    seen: list[Any] = field(default_factory=list)
    error: BaseException | None = None

    def comparable(self) -> list[Any]:
        """Give it in a form that two runs can be compared by."""
        shown = [_shown(item) for item in self.seen]
        error = self.error
        if error is not None:
            status = getattr(error, "status_code", None)
            shown.append((type(error), str(error), status, type(error.__cause__), type(error.__context__)))
        return shown


def _shown(item: Any) -> Any:
    if not isinstance(item, pydantic.BaseModel):
        return item
    return type(item), _without_null_usage(item.model_dump(warnings=False, exclude_unset=True))


def _without_null_usage(value: Any) -> Any:
    """Forget `usage: null`, which chunks carry once usage was asked for."""
    if isinstance(value, dict):
        return {k: _without_null_usage(v) for k, v in value.items() if not (k == "usage" and v is None)}
    return [_without_null_usage(v) for v in value] if isinstance(value, list) else value


def _without_frames(error: BaseException) -> BaseException:
    """Let go of what the frames of an error and of those behind it keep alive."""
    link: BaseException | None = error
    seen: set[BaseException] = set()  # Mistral's chains are circles
    while link is not None and link not in seen:
        seen.add(link)
        link.__traceback__ = None
        link = link.__context__ if link.__cause__ is None else link.__cause__
    return error


def run(use: Use, client: Any, endpoint: Endpoint) -> Run:
    """Run a use to its end, and let the collector find what it dropped."""
    result = Run()

    async def main() -> None:
        try:
            await use(client, endpoint, result.seen)
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:
            result.error = _without_frames(error)
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    return result


class Metered:
    """A Meter on a memory store with a generous limit, so that every call has a hold."""

    def __init__(self, patch: str = "openai", **config: Any) -> None:
        self.patch = patch
        self.events: list[LLMEvent] = []
        self.meter = Meter(MeterConfig(**{"store": "memory://", "on_event": self.events.append, **config}))
        self.meter.set_limit(TENANT, 1000)

    def run(self, use: Use, client: Any, endpoint: Endpoint) -> Run:
        """Run a use as the tenant's, under the patch, until everything is settled."""
        self.meter.patch(self.patch)
        with self.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
            result = run(use, client, endpoint)
        assert self.meter.flush(PATIENCE)
        return result

    def run_beside(
        self, use: Use, make: Callable[..., Any], wires: Callable[[], Wire], endpoint: Any
    ) -> tuple[Run, Wire]:
        """Run a use without the patch, and then under it: the caller gets the same, and bodies are closed alike."""
        before, wired = wires(), wires()
        untouched = run(use, make(before), endpoint)
        result = self.run(use, make(wired), endpoint)
        assert result.comparable() == untouched.comparable()
        assert [body.closed for body in wired.bodies] == [body.closed for body in before.bodies]
        return result, wired

    def cancel(self, use: Use, client: Any, endpoint: Endpoint, stall: Stall) -> None:
        """Run a use as the tenant's in a task that is cancelled where its answer stalls."""

        async def main() -> None:
            calling: Coroutine[Any, Any, None] = use(client, endpoint, [])  # type: ignore[assignment]
            task = asyncio.create_task(calling)
            await asyncio.wait_for(stall.reached.wait(), PATIENCE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        self.meter.patch(self.patch)
        with self.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
            asyncio.run(main())
        assert self.meter.flush(PATIENCE)

    def event(self, waiting: int = 0) -> LLMEvent:
        """Return the one event of a use."""
        (event,) = self.settled(1, waiting)
        return event

    def settled(self, calls: int, waiting: int = 0) -> list[LLMEvent]:
        """Return the events of a use, with which the ledger must agree.

        Nothing may still be held but for work in the background that is `waiting` to be asked for.
        """
        assert len(self.events) == calls
        holds = self.meter.store.holds()
        assert len(holds) == waiting
        (status,) = self.meter.usage(TENANT)
        assert status.held == sum(hold.held for hold in holds)
        spend = self.meter.store.spend(TENANT, 0, self.meter.config.clock() + 1)
        assert spend.calls == calls
        assert status.settled == spend.cost_nano
        costs = [event.cost_usd for event in self.events]
        assert spend.unpriced == costs.count(None)
        assert to_usd(spend.cost_nano) == sum(cost for cost in costs if cost is not None)
        for event in self.events:
            assert (event.tenant_id, event.session_id, event.user, event.tags["plan"]) == (TENANT, "s1", "ann", "gold")
        return self.events


def price(model: str, provider: str = "openai", context: dict[str, str] | None = None, /, **counts: int) -> Decimal:
    """Ask the price list itself; rounded to nano-dollars, half-even."""
    exact = calc_price(Usage(**counts), model, provider_id=provider, price_context=context).total_price
    return exact.quantize(Decimal("1e-9"), ROUND_HALF_EVEN)
