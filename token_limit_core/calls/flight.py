"""Flight: a call between its admission and its settle."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..events import LLMEvent
from ..hosts import UNKNOWN
from ..money import to_nano, to_usd
from ..pricing import ASSUMED, REPORTED
from ..runtime.ids import new_id
from ..stores.records import call_of
from .estimates import TOGETHER, Costs, add_shares
from .markup import charge_of

if TYPE_CHECKING:
    from .. import scope as scopes
    from ..limits import Decision
    from ..pricing import Price
    from ..stores.records import Call, Charges
    from .engine import Engine
    from .estimates import Habit
    from .markup import Markup
    from .request import Request

BY_HOST = frozenset({UNKNOWN, "azure"})
"""Providers at which one name of a model means another one at each host."""


class Flight:
    """A call between its admission and its settle. `held` is what is held for it (nano-dollars), by `price`.

    `started` and `ended` are on the monotonic clock, around the provider's call alone. `cost_usd` is the cost that the
    headers of its answer report. `lost_attempts` were sent by the SDK, got no answer, and were repeated;
    `attempt_lost` says that the last one is lost, which counts if another follows.
    """

    __slots__ = (
        "__weakref__", "_open", "answer", "attempt_lost", "call_id", "cost_usd", "covered", "done", "ended", "engine",
        "estimate", "habit", "held", "lost_attempts", "overrun", "price", "request", "scope", "started", "started_at",
        "tags", "tenant_id", "unresolved",
    )  # fmt: skip

    def __init__(self, engine: Engine, request: Request, scope: scopes.Scope | None, tenant_id: str) -> None:
        self.engine: Engine = engine
        self.request: Request = request
        self.scope: scopes.Scope | None = scope
        self.tenant_id: str = tenant_id
        self.unresolved: bool = scope is not None and scope.unresolved
        """Whether it is not known yet who pays; `tenant_id` is who does if that stays so."""

        self.call_id: str = new_id()
        clock = engine.config.clock
        self.started_at: float = clock()
        self.started: float = time.perf_counter()
        self.habit: Habit = self._habit_of(request)
        self.estimate: tuple[int, int] = self._estimate()
        self.covered: int = self.estimate[1]
        """Output tokens that are held for."""

        self.overrun: Decision | None = None
        """How the limit that a stream has used up while it ran refuses calls."""

        self.price: Price | None = None
        self.held: int | None = None
        self.tags: dict[str, Any] = {}
        self.answer: Any = None
        self.cost_usd: Decimal | None = None
        self.lost_attempts: int = 0
        self.attempt_lost: bool = False
        self.ended: float | None = None
        self._open = True
        self.done: bool = False
        """Whether it is settled, or nothing is left to settle; `landed` is true from the beginning of the settle on."""

        if threading.current_thread().daemon:
            engine.in_daemon_threads.add(self)

    def start_again(self) -> None:
        """Begin anew, after a wait: with the time and what the estimate is by now."""
        self.started_at = self.engine.config.clock()
        self.estimate = self._estimate()
        self.covered = self.estimate[1]

    def _habit_of(self, request: Request) -> Habit:
        provider = request.provider
        if provider in BY_HOST:
            provider = f"{provider} at {request.host}"
        unnamed = request.batch is not None and not request.model
        return self.engine.batches[provider, self.tenant_id] if unnamed else self.engine.habits[provider, request.model]

    def _estimate(self) -> tuple[int, int]:
        request = self.request
        if request.shares:
            return add_shares([self._habit_of(share).estimate_of(share) for share in request.shares])
        return self.habit.estimate(request.size, request.max_output, request.unseen, request.batch)

    def call(self) -> Call:
        """Return what admission has to know: what the call will probably cost, and what it may cost."""
        request, config = self.request, self.engine.config
        received, generated = self.estimate
        amount = self.held = self._hold_for_shares() if request.shares else self.hold_for(received, generated)
        bound, unseen = request.max_output, request.unseen
        most_received, most = self.estimate
        if request.batch is None:
            most_received, most = self.habit.ceiling(self.estimate, bound, unseen)
        tokens, ceiling_tokens, ceiling = received + generated, most_received + most, None
        if ceiling_tokens > tokens:
            ceiling = self.hold_for(most_received, most)
        user, feature = (None, None) if self.scope is None else self.scope.attributed()
        charges = None if config.markup is None else self.charges(config.markup, None, ceiling)
        facts = (request.provider, request.model, user, feature, None, None, ceiling, ceiling_tokens, charges)
        together = TOGETHER if bound is None or unseen else 1
        return call_of((self.call_id, self.tenant_id, amount, config.hold_seconds, "call", tokens, *facts, together))

    def find_price(self) -> Price | None:
        """Find the price to hold by, of the name that the price list knows best, else an assumed one."""
        return self._price_of(self.request, self.habit)

    def _price_of(self, request: Request, habit: Habit) -> Price | None:
        prices, at = self.engine.prices, self.started_at
        if request.batch is not None and not request.model:
            return prices.fallback.price
        for name in (request.priced_as, request.model, habit.answered):
            if name is not None and (price := prices.price_for(request.provider, name, at, request.service_tier)):
                return price
        assumption = prices.assumption(request.provider, request.model, at, request.service_tier)
        return None if assumption is None else assumption.price

    def _hold_for_shares(self) -> int | None:
        """Return nano-dollars for a batch of several models: each share at the price of its own."""
        total = 0
        for share in self.request.shares:
            habit = self._habit_of(share)
            price = self._price_of(share, habit)
            if price is None:
                return None
            amount = price.of_tokens(*habit.estimate_of(share))
            total += amount if habit.costs is None else habit.costs.of(amount)
        return total

    def estimate_unreported(self, model: str | None, requests: int) -> int | None:
        """Estimate a batch that has ended, and does not say what its requests used; return nano-dollars."""
        request = self.request
        size = request.size // (request.batch or 1)
        request.model, request.size, request.batch = model or request.model, size * requests, requests
        self.habit = self._habit_of(request)
        self.estimate, self.price = self._estimate(), self.find_price()
        return self.hold_for(*self.estimate)

    def hold_for(self, received: int, generated: int) -> int | None:
        """Return nano-dollars to hold for tokens of input and output; None where there is no price to go by."""
        price, habit = self.price, self.habit
        if price is None:
            return None
        amount = price.of_tokens(received, generated)
        if not amount and not price.free and habit.costs is None and not price.is_for_tokens:
            habit.costs = Costs()  # from the second call on, this is known
            return self.engine.prices.fallback.price.of_tokens(received, generated)
        return amount if habit.costs is None else habit.costs.of(amount)

    def charges(self, markup: Markup, worst_case: int | None, ceiling: int | None) -> Charges | None:
        """Return what the tenant is billed for the estimate, the worst case and the ceiling, by the application.

        Its function is asked about the estimate; the others are in proportion to that. None where it does not say.
        """
        if self.held is None:
            return None
        request, (received, generated) = self.request, self.estimate
        user, feature = (None, None) if self.scope is None else self.scope.attributed()
        event = LLMEvent(
            self.call_id,
            self.tenant_id,
            provider=request.provider,
            model=request.model,
            endpoint=request.endpoint,
            input_tokens=received,
            output_tokens=generated,
            total_tokens=received + generated,
            timestamp=self.started_at,
            stream=request.stream,
            cost_usd=to_usd(self.held),
            service_tier=request.service_tier,
            user=user,
            feature=feature,
            tags={"estimated": True},
        )
        charge = charge_of(markup, event)
        if charge is None:
            return None
        estimated, held = to_nano(charge), self.held
        worst_charge, ceiling_charge = (
            most if most is None or not held else -(-most * estimated // held) for most in (worst_case, ceiling)
        )
        return estimated, worst_charge, ceiling_charge

    def learn_cost(self, event: LLMEvent, cost: int | None, received: int) -> None:
        """Learn what a call cost if its tokens and the price it was held by did not say so; `received` is all input."""
        price, habit = self.price, self.habit
        if price is None or cost is None or self.held is None:
            return
        assumed = price.source == ASSUMED
        if (cost <= self.held and habit.costs is None and not assumed) or event.price_source == ASSUMED:
            return
        if assumed and event.price_source != REPORTED:
            habit.answered = event.model  # its price is listed
            return
        amount = price.of_tokens(received, event.output_tokens)
        if habit.costs is None:
            if cost <= amount and not assumed:
                return
            habit.costs = Costs()
        habit.costs.learn(cost, amount)

    def learn_batch(self, event: LLMEvent, cost: int, received: int) -> None:
        """Learn from a batch that has ended what the tenant's next one will use."""
        request, habit = self.request, self.habit
        habit.learn(request.size, received, -(-event.output_tokens // (request.batch or 1)))
        if habit.costs is None:
            habit.costs = Costs()
        habit.costs.learn(cost, self.engine.prices.fallback.price.of_tokens(received, event.output_tokens))

    @property
    def landed(self) -> bool:
        """True once somebody has claimed the settle."""
        return not hasattr(self, "_open")

    def claim(self) -> bool:
        """Return True to exactly one caller; taking a slot's value away is atomic, and safe inside a finaliser."""
        try:
            del self._open
        except AttributeError:
            return False
        self.ended = time.perf_counter()
        return True
