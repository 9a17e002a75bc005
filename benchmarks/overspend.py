"""How far 64 calls at once exceed a limit: check-then-record beside the modes of a limit. Prints a table.

In each round all callers decide before any answer is given. A run ends with a round in which every caller is refused.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx2
import openai

from token_limit_core import LimitExceededException, Meter, MeterConfig
from token_limit_core.pricing import listed_price

MODEL = "gpt-4o-mini"
CALLERS, WORTH = 64, 20
INPUT, SHORT, LONG = 10, 10, 500
MESSAGES: Any = [{"role": "user", "content": "Why do limits have holds?"}]
TENANT = "acme"

price = listed_price("openai", MODEL, time.time())
assert price is not None
A_CALL = price.of_tokens(INPUT, LONG)
LIMIT = WORTH * A_CALL


class Case(NamedTuple):
    """What the callers ask for, and what the model's calls were like before."""

    name: str
    before: int
    arguments: dict[str, Any]


CASES = (
    Case("as long as those before", LONG, {"max_tokens": LONG}),
    Case("50 times as long, `max_tokens` given", SHORT, {"max_tokens": LONG}),
    Case("50 times as long, `max_tokens=16000`", SHORT, {"max_tokens": 16_000}),
    Case("50 times as long, without `max_tokens`", SHORT, {}),
    Case("the same, streamed", SHORT, {"stream": True}),
)


class Provider(httpx2.BaseTransport):
    """Generates as much as it may, and adds up what it bills."""

    def __init__(self) -> None:
        self.length = SHORT
        self.billed = 0
        self.lock = threading.Lock()
        self.meeting: threading.Barrier | None = None

    def bill(self, made: int) -> None:
        """Add tokens of output, and a call's input."""
        assert price is not None
        with self.lock:
            self.billed += price.of_tokens(INPUT, made)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer when all callers of the round have decided."""
        sent = json.loads(request.content)
        if self.meeting is not None:
            self.meeting.wait()
        made = min(self.length, sent.get("max_completion_tokens", sent.get("max_tokens", self.length)))
        if sent.get("stream"):
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, headers=headers, stream=Events(self, made))
        self.bill(made)
        message = {"role": "assistant", "content": "x"}
        return httpx2.Response(200, json={**HEAD, "choices": [{"index": 0, "message": message}], "usage": _usage(made)})


class Events(httpx2.SyncByteStream):
    """A stream of one token a millisecond; what is left when it is closed is not billed."""

    def __init__(self, provider: Provider, length: int) -> None:
        self.provider, self.length, self.made = provider, length, 0

    def __iter__(self) -> Iterator[bytes]:
        chunk = {**HEAD, "choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": None}]}
        for _ in range(self.length):
            time.sleep(0.001)
            self.made += 1
            yield f"data: {json.dumps(chunk)}\n\n".encode()
        yield f"data: {json.dumps({**HEAD, 'choices': [], 'usage': _usage(self.length)})}\n\n".encode()
        yield b"data: [DONE]\n\n"

    def close(self) -> None:
        """Bill what was generated."""
        self.provider.bill(self.made)


HEAD = {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL}


def _usage(made: int) -> dict[str, int]:
    return {"prompt_tokens": INPUT, "completion_tokens": made, "total_tokens": INPUT + made}


def rounds(provider: Provider, attempt: Callable[[], None]) -> float:
    """Repeat rounds until every caller is refused; return what was billed in percent of the limit."""
    provider.length, provider.billed = LONG, 0
    meeting = provider.meeting = threading.Barrier(CALLERS)

    def work(_: int) -> bool:
        try:
            attempt()
        except LimitExceededException as error:
            if not getattr(error, "sent", False):
                meeting.wait()
            return False
        return True

    with ThreadPoolExecutor(CALLERS) as pool:
        while any(pool.map(work, range(CALLERS))):
            pass
    return 100 * provider.billed / LIMIT


def metered(case: Case, mode: str, on_overrun: Any = "finish") -> float:
    """Run a case under a limit of the suite."""
    provider = Provider()
    client = openai.OpenAI(api_key="x", max_retries=0, http_client=httpx2.Client(transport=provider))
    with Meter(MeterConfig(store="memory://", on_overrun=on_overrun)).patch("openai") as meter:
        with meter.for_tenant("teacher"):
            provider.length = case.before
            for _ in range(30):
                client.chat.completions.create(model=MODEL, messages=MESSAGES)
        meter.set_limit(TENANT, f"{LIMIT / 10**9:.9f}", mode=mode)

        def attempt() -> None:
            with meter.for_tenant(TENANT):
                answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, **case.arguments)
                try:
                    for _ in answer if case.arguments.get("stream") else ():
                        pass
                except LimitExceededException as error:
                    error.sent = True  # type: ignore[attr-defined]
                    raise

        return rounds(provider, attempt)


def checked_first(case: Case) -> float:
    """Run a case under a limit that is checked before a call, and adds up costs after it."""
    provider = Provider()
    client = openai.OpenAI(api_key="x", max_retries=0, http_client=httpx2.Client(transport=provider))

    def attempt() -> None:
        if provider.billed >= LIMIT:
            raise LimitExceededException
        answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, **case.arguments)
        for _ in answer if case.arguments.get("stream") else ():
            pass

    return rounds(provider, attempt)


def main() -> None:
    """Print what was billed, in percent of the limit."""
    heads = ("check-then-record", "`enforce`", '`enforce`, `on_overrun="cut"`', "`strict`")
    print(f"| {CALLERS} calls at once, a limit worth {WORTH} | {' | '.join(heads)} |")
    print("|---|---|---|---|---|")
    for case in CASES:
        cut = metered(case, "enforce", "cut")
        billed = (checked_first(case), metered(case, "enforce"), cut, metered(case, "strict"))
        print(f"| {case.name} | {' | '.join(f'{percent:.0f} %' for percent in billed)} |", flush=True)


if __name__ == "__main__":
    main()
