"""Two kinds of error that are never mixed: faults of ours, and answers meant for the application."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.contract.sdk.wire import httpx
from tests.unit.acme import Client
from token_limit_core import (
    ConfigurationError,
    Decision,
    LimitExceededException,
    LimitExhausted,
    LLMEvent,
    Meter,
    MeterConfig,
    NoTenant,
    StoreError,
    TenantBusy,
    TokenLimitError,
)
from token_limit_core.calls.failures import describe_error
from token_limit_core.errors import refusal, refusal_in
from token_limit_core.runtime.faults import internal_errors

EXHAUSTED = LimitExhausted(Decision("exhausted", "a", Decimal(5), Decimal(5)))


def test_a_fault_of_ours_is_swallowed_and_logged_in_production(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with caplog.at_level(logging.ERROR, "token_limit"), internal_errors("counting sheep"):
        raise ZeroDivisionError
    assert "failed while counting sheep; the application goes on" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_fault_of_ours_is_raised_under_test() -> None:
    with pytest.raises(ZeroDivisionError), internal_errors("counting sheep"):
        raise ZeroDivisionError


def test_a_fault_is_logged_with_its_causes_but_not_with_what_the_host_was_handling(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    try:
        raise ValueError("the provider says: no such model as SECRET")
    except ValueError:
        with internal_errors("counting sheep"):
            try:
                [][1]
            except IndexError as error:
                raise StoreError("the flock is away") from error
    assert "StoreError: the flock is away" in caplog.text
    assert "IndexError: list index out of range" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_fault_after_a_failed_call_does_not_tell_its_message(
    acme: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: LLMEvent) -> None:
        raise ZeroDivisionError

    with Meter(MeterConfig(store="memory://", patches=["acme"], on_event=fail)).patch_all() as meter:
        monkeypatch.delenv("PYTEST_CURRENT_TEST")
        with meter.for_tenant("a"), pytest.raises(ValueError, match="SECRET"):
            Client(fault=ValueError("the provider says: no such model as SECRET")).generate("hi")
    assert "ZeroDivisionError" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_process_is_never_swallowed(stop: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with pytest.raises(stop), internal_errors("counting sheep"):
        raise stop


def test_a_refusal_is_raised_in_production_too(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    meter.set_limit("a", 0)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with meter.for_tenant("a"), pytest.raises(LimitExhausted):
        Client().generate("hi")


def test_a_fault_in_pricing_lets_the_call_pass(
    meter: Meter, events: list[LLMEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError

    meter.set_limit("a", 0)
    monkeypatch.setattr("token_limit_core.pricing.book.PriceBook.price_for", broken)
    with meter.for_tenant("a"):
        with pytest.raises(ZeroDivisionError):
            Client().generate("hi")
        monkeypatch.delenv("PYTEST_CURRENT_TEST")
        assert Client().generate("hi")["tokens_in"] == 100


def test_every_error_of_ours_has_one_base() -> None:
    for kind in (ConfigurationError, StoreError, LimitExceededException):
        assert issubclass(kind, TokenLimitError)
    assert issubclass(ConfigurationError, ValueError)


def test_a_refusal_says_what_its_decision_says() -> None:
    assert str(EXHAUSTED) == EXHAUSTED.decision.explain()
    assert "meter.for_tenant" in str(NoTenant(Decision("no_tenant")))
    assert isinstance(refusal(Decision("busy")), TenantBusy)


# -- finding a refusal that a framework wrapped -----------------------------------------------------


def chained(*, cause: BaseException | None = None, context: BaseException | None = None) -> RuntimeError:
    error = RuntimeError("wrapped")
    error.__cause__, error.__context__ = cause, context
    return error


@pytest.mark.parametrize(
    "error",
    [
        EXHAUSTED,
        chained(cause=EXHAUSTED),
        chained(context=EXHAUSTED),
        chained(cause=chained(context=chained(cause=EXHAUSTED))),
        ExceptionGroup("tasks", [ValueError(), chained(cause=EXHAUSTED)]),
        BaseExceptionGroup("tasks", [KeyboardInterrupt(), ExceptionGroup("inner", [EXHAUSTED])]),
        chained(cause=ExceptionGroup("tasks", [EXHAUSTED])),
    ],
    ids=range(7),
)
def test_a_refusal_is_found_in_what_wraps_it(error: BaseException) -> None:
    assert refusal_in(error) is EXHAUSTED


def test_no_refusal_is_found_where_there_is_none() -> None:
    loop = chained()
    loop.__context__ = chained(cause=loop)
    assert refusal_in(None) is None
    assert refusal_in(ValueError()) is None
    assert refusal_in(loop) is None


# -- what is stored of an error ---------------------------------------------------------------------

REQUEST = httpx.Request("POST", "https://api.openai.com/v1/chat/completions")


def status_error(status: int, code: Any) -> openai.APIStatusError:
    body = {"message": "secret prompt", "code": code}
    return openai.BadRequestError("secret prompt", response=httpx.Response(status, request=REQUEST), body=body)


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (ValueError("secret"), "ValueError"),
        (status_error(400, "context_length_exceeded"), "BadRequestError 400 context_length_exceeded"),
        (status_error(400, None), "BadRequestError 400"),
        (status_error(400, "this is the secret prompt"), "BadRequestError 400"),
        (status_error(400, "x" * 65), "BadRequestError 400"),
        (status_error(400, 17), "BadRequestError 400 17"),
        (openai.APIConnectionError(message="secret", request=REQUEST), "APIConnectionError"),
    ],
)
def test_an_error_is_described_without_its_message(error: BaseException, described: str) -> None:
    assert describe_error(error) == described
