"""The rules of a fake provider: faults and answers, each for a number of requests."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

ERRORS = {
    400: ("invalid_request_error", "invalid_value", "Invalid value in the request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Country not supported."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", "server_error", "The server had an error while processing your request."),
    503: ("server_error", "service_unavailable", "The engine is currently overloaded, please try again later."),
}
"""Type, code and message of an error body by HTTP status, as OpenAI sends them."""

MALFORMED = "malformed"
DROP = "drop"
NO_USAGE = "none"


def error_body(status: int, code: str | None = None, message: str | None = None, param: str | None = None) -> Any:
    """Make an error body in OpenAI's shape."""
    kind, usual_code, usual_message = ERRORS.get(status, ERRORS[500 if status >= 500 else 400])
    return {"error": {"message": message or usual_message, "type": kind, "param": param, "code": code or usual_code}}


class Pause(threading.Event):
    """An answer stops here until the test calls `set()`; `reached` is set when it does."""

    def __init__(self, after_chunks: int) -> None:
        super().__init__()
        self.after_chunks = after_chunks
        self.reached: threading.Event = threading.Event()

    def hold(self) -> None:
        """Signal that the answer has reached this point, and wait."""
        self.reached.set()
        self.wait()


@dataclass(frozen=True, slots=True)
class Failure:
    """An HTTP error in place of an answer."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Break:
    """A stream ends early: with an error event, or with the connection."""

    after_chunks: int
    error: bool


@dataclass(slots=True)
class _Rule:
    value: Any
    times: int | None


class Script:
    """The rules in force, by aspect; each applies to the next `times` requests, or to all while `times` is None."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: dict[str, list[_Rule]] = {}

    def add(self, aspect: str, value: Any, times: int | None) -> None:
        """Queue a rule behind the counted ones of its aspect; it replaces one without a count."""
        with self._lock:
            counted = [rule for rule in self._rules.get(aspect, ()) if rule.times is not None]
            self._rules[aspect] = [*counted, _Rule(value, times)]

    def take(self, aspect: str) -> Any:
        """Return the rule for this request and count it; None if there is no rule."""
        with self._lock:
            rules = self._rules.get(aspect)
            if not rules:
                return None
            rule = rules[0]
            if rule.times is not None:
                rule.times -= 1
                if rule.times <= 0:
                    del rules[0]
            return rule.value

    def clear(self) -> None:
        """Remove every rule."""
        with self._lock:
            self._rules.clear()
