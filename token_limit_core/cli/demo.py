"""`token-limit demo`: a limit at work in a terminal. No key, no network, no cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..config import MeterConfig
from ..errors import LimitExceededException
from ..meter import Meter
from ..testing import FakeProvider
from ..wording import dollars, exact_usd

if TYPE_CHECKING:
    import openai

MODEL = "gpt-4o"
MOST_CALLS = 100


def play(say: Callable[[str], Any]) -> None:
    """Let one customer run into its limit while another goes on; tell of it line by line.

    Raises `ImportError` where the OpenAI SDK is not installed.
    """
    import openai

    with (
        FakeProvider() as provider,
        openai.OpenAI(api_key="demo", base_url=provider.base_url) as client,
        Meter(MeterConfig(store="memory://", hosts={provider.host: "openai"})) as meter,
    ):
        meter.patch("openai")
        _play(meter, client, say)
        say(f"The provider got {len(provider.requests)} requests: what is refused is never sent.")


def _play(meter: Meter, client: openai.OpenAI, say: Callable[[str], Any]) -> None:
    for tenant, amount in (("acme", "0.001"), ("globex", "5")):
        say(f"{tenant} may spend {exact_usd(meter.set_limit(tenant, amount).amount)} a month.")
    answered = 0
    while (refused := _ask(meter, client, "acme")) is None and answered < MOST_CALLS:
        answered += 1
        say(f"acme    call {answered}: answered, {_spent(meter, 'acme')}")
    say(f"acme    call {answered + 1}: {type(refused).__name__}: {refused}")
    _ask(meter, client, "globex")
    say(f"globex  call 1: answered, {_spent(meter, 'globex')}")
    meter.set_limit("acme", "0.01")
    _ask(meter, client, "acme")
    say(f"acme    has paid for more and is answered again: {_spent(meter, 'acme')}")


def _ask(meter: Meter, client: openai.OpenAI, tenant: str) -> LimitExceededException | None:
    """Make a call for a tenant; give the refusal, if it was refused."""
    with meter.for_tenant(tenant):
        try:
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "What does a spend limit do?"}]
            )
        except LimitExceededException as refused:
            return refused
    return None


def _spent(meter: Meter, tenant: str) -> str:
    (status,) = meter.usage(tenant)
    return f"{dollars(status.settled)} of {exact_usd(status.limit.amount)} spent"
