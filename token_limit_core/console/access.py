"""Access: who may enter, and whether a form was sent from one of our own pages."""

from __future__ import annotations

import hmac
import logging
import secrets
from base64 import urlsafe_b64encode
from urllib.parse import urlsplit

from ..runtime.faults import ConfigurationError
from .web import Request

logger: logging.Logger = logging.getLogger("token_limit")

COOKIE = "token_limit_console"
FIELD = "csrf"
UNNAMED = "console"
"""The name in the history when `authorize` returns True instead of a name."""

HOW_TO_OPEN = (
    "the console is closed: every page answers 403 until it is given authorize=, a callable that takes the request and "
    "returns the name of the person who may enter (or True), and None for everybody else; see docs/console.md"
)


def actor_of(answer: object) -> str | None:
    """Return the name of the person from the answer of `authorize`: a name, or True. Anything else denies access."""
    if answer is True:
        return UNNAMED
    if isinstance(answer, str) and answer:
        return answer
    if answer is not None and answer is not False and answer != "":
        logger.error("authorize returned %s; return the person's name or True to let them in", type(answer).__name__)
    return None


class Csrf:
    """Double-submit tokens: a random cookie, and its HMAC with the person's name in each form.

    Raises `ConfigurationError` without a secret.
    """

    def __init__(self, secret: str | bytes) -> None:
        key = secret.encode() if isinstance(secret, str) else secret
        if len(key) < 16:
            raise ConfigurationError("secret: give at least 16 random characters, the same in every process")
        self._key = hmac.digest(key, b"token-limit console forms", "sha256")

    def nonce(self, request: Request) -> tuple[str, bool]:
        """Return the cookie half of the token, and whether it is new."""
        found = request.cookie(COOKIE)
        return (found, False) if 16 <= len(found) <= 64 else (secrets.token_urlsafe(18), True)

    def token(self, nonce: str, actor: str) -> str:
        """Return the form half of the token."""
        return urlsafe_b64encode(hmac.digest(self._key, f"{nonce}\0{actor}".encode(), "sha256")).decode()

    def accepts(self, request: Request, actor: str) -> bool:
        """Return whether a posted form came from one of our pages, sent to the same person and browser."""
        nonce, missing = self.nonce(request)
        given = request.form.get(FIELD, "")
        genuine = hmac.compare_digest(self.token(nonce, actor).encode(), given.encode("utf-8", "replace"))
        return _same_site(request) and not missing and genuine

    def cookie(self, request: Request, nonce: str) -> str:
        """Return the `Set-Cookie` header of a new nonce."""
        secure = "; Secure" if request.secure else ""
        return f"{COOKIE}={nonce}; Path={request.root or '/'}; HttpOnly; SameSite=Lax{secure}"


def _same_site(request: Request) -> bool:
    """Check the origin that the browser sends. Old browsers send none; for them the token is the check."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:
        return False
