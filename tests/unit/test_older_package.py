"""Names and habits of the older package that code written for it relies on (SPEC 1.1)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextvars import copy_context
from datetime import date
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import token_limit_core
from tests.unit.acme import Client
from token_limit_core import ConfigurationError, LLMEvent, Meter, MeterConfig
from token_limit_core.patches import PATCH_REGISTRY
from token_limit_core.patches._base import BasePatch
from token_limit_core.windows import PER_DAY, PER_MONTH


@pytest.fixture
def meter() -> Iterator[Meter]:
    with Meter(MeterConfig(store="memory://")) as made:
        yield made


def test_set_tenant_none_clears_the_tenant(meter: Meter) -> None:
    def work() -> None:
        meter.set_tenant("acme")
        assert meter.current_tenant_id == "acme"
        meter.set_tenant(None)
        assert meter.current_tenant_id is None

    copy_context().run(work)


def test_for_tenant_none_clears_the_tenant_for_its_block(meter: Meter) -> None:
    with meter.for_tenant("acme"):
        with meter.for_tenant(None):
            assert meter.current_tenant_id is None
        assert meter.current_tenant_id == "acme"


def test_the_queue_is_flushed_through_its_private_name(tmp_path: Path) -> None:
    with Meter(MeterConfig(store=f"sqlite:///{tmp_path}/ledger.db")) as meter:
        assert meter._queue.flush_now() is True
        assert meter._queue.flush_now(1.0) is True


def keyword_only(response: Any, args: Any, kwargs: Any, *, error: BaseException | None = None) -> dict[str, Any]:
    return {} if error is not None else {"provider": "openai", "input_tokens": 7, "output_tokens": 3}


def positional(response: Any, args: Any, kwargs: Any, error: BaseException | None) -> dict[str, Any]:
    return keyword_only(response, args, kwargs, error=error)


class Callable_:
    def __call__(self, response: Any, args: Any, kwargs: Any, *, error: BaseException | None) -> dict[str, Any]:
        return keyword_only(response, args, kwargs, error=error)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("extractor", [keyword_only, positional, Callable_()], ids=["keyword", "position", "object"])
async def test_a_patch_of_the_old_path_keeps_its_counts_however_its_extractor_takes_errors(
    is_async: bool, extractor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OldPatch(BasePatch):
        name = "old"

        def _install(self) -> None:
            self._swap(Client, "generate", self._make_sync_wrapper(Client.generate, extractor))
            self._swap(Client, "agenerate", self._make_async_wrapper(Client.agenerate, extractor))

    monkeypatch.setitem(PATCH_REGISTRY, "old", OldPatch)
    events: list[LLMEvent] = []
    with Meter(MeterConfig(store="memory://", on_event=events.append)) as meter:
        meter.patch("old")
        for client in (Client(), Client(fault=LookupError())):
            try:
                if is_async:
                    await client.agenerate("hello")
                else:
                    client.generate("hello")
            except LookupError:
                pass
    assert [(event.input_tokens, event.output_tokens, event.error) for event in events] == [
        (7, 3, None),
        (0, 0, "LookupError"),
    ]


def test_an_event_has_an_id_a_time_and_counts_by_itself() -> None:
    before = time.time()
    event, other = LLMEvent(), LLMEvent()
    assert uuid.UUID(event.event_id) != uuid.UUID(other.event_id)
    assert before <= event.timestamp <= time.time()
    assert (event.input_tokens, event.output_tokens, event.total_tokens, event.tags) == (0, 0, 0, {})


def test_counts_of_a_manual_call_may_be_left_out(meter: Meter) -> None:
    event = meter.track_manually(provider="openai", model="gpt-4o-mini", tenant_id="acme")
    assert (event.input_tokens, event.output_tokens, event.tenant_id) == (0, 0, "acme")


@pytest.mark.parametrize("begins", [date(2999, 1, 31), "2999-01-31"])
def test_the_third_argument_of_set_limit_may_be_the_date(meter: Meter, begins: Any) -> None:
    monthly = meter.set_limit("acme", 5, begins)
    daily = meter.set_limit("acme", 5, begins, "per_day")  # type: ignore[arg-type]
    by_name = meter.set_limit("other", 5, effective_date=begins)
    assert (monthly.frequency, daily.frequency) == (PER_MONTH, PER_DAY)
    assert monthly.effective_from == daily.effective_from == by_name.effective_from > 0


def test_a_wrong_frequency_is_still_an_error(meter: Meter) -> None:
    with pytest.raises(ConfigurationError, match="^frequency: "):
        meter.set_limit("acme", 5, "per_fortnight")


def test_a_key_alone_is_an_error_that_says_what_to_give() -> None:
    with pytest.raises(ConfigurationError, match=r"^api_key: .*`url`.*`store`") as wrong:
        MeterConfig(api_key="tl_secret")
    assert "tl_secret" not in str(wrong.value)
    assert MeterConfig(api_key="tl_secret", store="memory://").url is None


def test_names_of_the_package_root() -> None:
    from token_limit_core import PER_DAY as DAY
    from token_limit_core import PER_MONTH as MONTH
    from token_limit_core import LimitExceededException, __version__

    assert (DAY, MONTH) == ("per_day", "per_month")
    assert issubclass(LimitExceededException, Exception)
    assert __version__ == version("token-limit-suite")
    with pytest.raises(AttributeError):
        token_limit_core.no_such_name  # noqa: B018


def test_a_limit_may_be_a_float(meter: Meter) -> None:
    assert meter.set_limit("acme", 0.1).limit_usd == Decimal("0.1")
