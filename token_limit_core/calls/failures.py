"""What a failed call may have cost, and how its error is named without its message."""

from __future__ import annotations

import asyncio
import re
from typing import Any

NEVER_SENT = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError"}
    | {"ConnectionRefusedError", "gaierror", "ClientConnectorError"}
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
    return bool(names & MAYBE_SENT) or isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, SystemExit))


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
