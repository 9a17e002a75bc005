"""What a failed call may have cost, and how its error is named without its message."""

from __future__ import annotations

import asyncio
import re
from typing import Any

NEVER_SENT = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError"}
    | {"ConnectionRefusedError", "gaierror", "ClientConnectorError", "ConnectionTimeoutError"}
    | {"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError"}  # botocore's
)
MAYBE_SENT = frozenset(
    {"TransportError", "APIConnectionError", "TimeoutError", "ConnectionError"}
    | {"ClientConnectionError", "ClientPayloadError", "Timeout"}  # aiohttp's, and requests'
    | {"HTTPClientError"}  # botocore's
)


def may_be_billed(error: BaseException) -> bool:
    """Tell whether a call without an answer may have reached the provider, by the classes of its error's causes."""
    names: set[str] = set()
    link: BaseException | None = error
    while link is not None:
        if http_status(link) is not None:
            return False
        names.update(cls.__name__ for cls in type(link).__mro__)
        link = link.__cause__
    if names & NEVER_SENT:
        return False
    return bool(names & MAYBE_SENT) or isinstance(error, STOPS)


STOPS = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""What ends a call from outside."""

TRANSPORT_METHODS = frozenset({"handle_request", "handle_async_request"})
TRANSPORTS = frozenset({("aiohttp.client", "_request"), ("requests.adapters", "send")})
"""Where a call is in the hands of an HTTP library: httpx's transports of any module, and functions of others."""

CONNECTING = ("httpcore", "aiohttp.connector", "urllib3.util")
EXCHANGING = ("_send_request", "_receive")
"""Modules in which a connection is waited for, and the functions there that use it already (httpcore's)."""


def was_stopped_unsent(error: BaseException) -> bool:
    """Return whether a call over HTTP was stopped from outside before any of it was sent.

    The stack of the error shows where the call was: above its transport, or waiting for a connection.
    """
    if not isinstance(error, STOPS):
        return False
    in_transport = connecting = False
    trace = error.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        module, function = str(frame.f_globals.get("__name__")), frame.f_code.co_name
        if function.startswith(EXCHANGING) and module.startswith(CONNECTING):
            return False
        in_transport = in_transport or function in TRANSPORT_METHODS or (module, function) in TRANSPORTS
        connecting = connecting or module.startswith(CONNECTING)
    return connecting or not in_transport


_CODE = re.compile(r"[\w.:-]{1,64}")


def describe_error(error: BaseException) -> str:
    """Name an error by class, HTTP status and provider code; never its message, which may echo input or keys."""
    parts = [type(error).__name__]
    status = http_status(error)
    named = (getattr(error, name, None) for name in ("code", "status", "type"))  # OpenAI's, Google's, Anthropic's
    code = next((name for name in named if isinstance(name, str)), None)
    if isinstance(status, int):
        parts.append(str(status))
    if code is not None and _CODE.fullmatch(code):
        parts.append(code)
    return " ".join(parts)


def http_status(error: BaseException) -> Any:
    """Return the HTTP status of an SDK's error: `status_code`, or Google's `code` beside a `status` in words.

    botocore keeps it with the answer.
    """
    status = getattr(error, "status_code", None)
    if status is None and hasattr(error, "status"):
        return getattr(error, "code", None)
    answer = getattr(error, "response", None) if status is None else None
    about = answer.get("ResponseMetadata") if isinstance(answer, dict) else None
    return about.get("HTTPStatusCode") if isinstance(about, dict) else status
