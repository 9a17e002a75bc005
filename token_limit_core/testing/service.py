"""How a fake provider answers a request: endpoint, fault, chunks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from .answers import Answer, Json, answer_to
from .completions import (
    chat_body,
    chat_events,
    completion_body,
    completion_error,
    completion_events,
    embedding_body,
)
from .faults import DROP, MALFORMED, NO_USAGE, Break, Failure, Pause, Script, error_body
from .responses import response_body, response_error, response_events
from .server import Exchange

MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small")
CUT_SHORT = b'{"id": "chatcmpl-'


class Surface(NamedTuple):
    """An endpoint: its required parameter, and the encoders of its answers and of an error in a stream."""

    needs: str
    body: Callable[[Answer], Json]
    events: Callable[[Answer], Iterator[bytes]] | None = None
    error: Callable[[int], bytes] = completion_error


SURFACES = {
    "/chat/completions": Surface("messages", chat_body, chat_events),
    "/completions": Surface("prompt", completion_body, completion_events),
    "/responses": Surface("input", response_body, response_events, response_error),
    "/embeddings": Surface("input", embedding_body),
}
"""By the end of the path, longest first, so that paths of Azure and DeepSeek match too."""


def serve(exchange: Exchange, script: Script) -> None:
    """Answer one request by the rules in force."""
    surface = next((surface for suffix, surface in SURFACES.items() if exchange.route.endswith(suffix)), None)
    if exchange.command == "GET" and exchange.route.endswith("/models"):
        data = [{"id": name, "object": "model", "created": 1715367049, "owned_by": "system"} for name in MODELS]
        exchange.send_json(200, {"object": "list", "data": data})
    elif surface is None or exchange.command == "GET":
        exchange.send_json(404, error_body(404, "unknown_url", f"Unknown request URL: {exchange.route}."))
    elif not isinstance(exchange.body, dict) or surface.needs not in exchange.body:
        message = f"Missing required parameter: '{surface.needs}'."
        exchange.send_json(400, error_body(400, "missing_required_parameter", message, surface.needs))
    else:
        _answer(exchange, surface, exchange.body, script)


def _answer(exchange: Exchange, surface: Surface, body: Json, script: Script) -> None:
    fault = script.take("fault")
    if fault is None and "stream_options" in body:
        fault = script.take("stream_options")
    if isinstance(fault, Failure):
        exchange.send_json(fault.status, fault.body, fault.headers)
    elif fault == DROP:
        exchange.hang_up()
    elif body.get("stream") and surface.events is not None:
        whole = surface.events(_compose(exchange, body, script))
        events = iter([b"data: " + CUT_SHORT + b"\n\n"]) if fault == MALFORMED else whole
        _stream(exchange, surface, events, script)
    else:
        answer = _compose(exchange, body, script)
        _Pacing(exchange, script).wait(0)
        exchange.send_body(200, CUT_SHORT if fault == MALFORMED else json.dumps(surface.body(answer)).encode())


def _compose(exchange: Exchange, body: Json, script: Script) -> Answer:
    deployment = exchange.route.rpartition("/deployments/")[2].partition("/")[0]
    answer = answer_to(body, body.get("model") or deployment, script.take("text"))
    counts = script.take("usage")
    if counts == NO_USAGE:
        answer.counts = None
    elif counts is not None and answer.counts is not None:
        answer.counts = replace(answer.counts, **counts)
    return answer


class _Pacing:
    """The pace of an answer, and where it pauses."""

    def __init__(self, exchange: Exchange, script: Script) -> None:
        self._stopped = exchange.server.stopped
        self._seconds: float = script.take("pace") or 0.0
        self._pause: Pause | None = script.take("pause")

    def wait(self, number: int) -> None:
        """Wait before the chunk of this number."""
        if self._pause is not None and number == self._pause.after_chunks:
            self._pause.hold()
        if self._seconds:
            self._stopped.wait(self._seconds)


def _stream(exchange: Exchange, surface: Surface, events: Iterator[bytes], script: Script) -> None:
    pacing = _Pacing(exchange, script)
    broken: Break | None = script.take("break")
    exchange.start_stream()
    for number, data in enumerate(chain(events, [b""])):
        pacing.wait(number)
        if broken is not None and number == broken.after_chunks:
            if broken.error:
                exchange.send_chunk(surface.error(number))
                exchange.send_chunk(b"")
            else:
                exchange.hang_up()
            return
        exchange.send_chunk(data)
