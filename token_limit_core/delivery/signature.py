"""Signatures of webhooks: `X-Token-Limit-Signature: t=<unix seconds>,v1=<HMAC-SHA256 of "t.body" in hex>`."""

from __future__ import annotations

import hashlib
import hmac
import time

HEADER = "X-Token-Limit-Signature"
TOLERANCE_SECONDS = 300


def sign(body: bytes, secret: str, at: float) -> str:
    """Return the header of a body that is sent at a time (unix seconds)."""
    sent = str(int(at))
    return f"t={sent},v1={_digest(sent, body, secret)}"


def verify_signature(
    body: bytes,
    header: str | None,
    secret: str,
    *,
    tolerance: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> bool:
    """Return whether a webhook is genuine: `body` as it was received, `header` of `X-Token-Limit-Signature`.

    A signature that is more than `tolerance` seconds away from `now` (unix seconds; None is the clock's) is refused, so
    that nobody sends a recorded request again.
    """
    parts = dict(part.strip().partition("=")[::2] for part in (header or "").split(","))
    sent, given = parts.get("t", ""), parts.get("v1", "")
    if not (sent.isascii() and sent.isdecimal() and given.isascii()):
        return False
    if abs((time.time() if now is None else now) - int(sent[:15])) > tolerance:
        return False
    return hmac.compare_digest(given, _digest(sent, body, secret))


def _digest(sent: str, body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), f"{sent}.".encode() + body, hashlib.sha256).hexdigest()
