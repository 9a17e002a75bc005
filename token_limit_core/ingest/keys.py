"""API keys: shown once when created, stored as hashes, restricted to tenants and permissions."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ..runtime.faults import ConfigurationError
from ..stores.records import CHECK, DEFAULT_PERMISSIONS, INGEST, PERMISSIONS, SET_LIMIT, ApiKey
from ..windows import parse_choice

__all__ = [
    "CHECK",
    "DEFAULT_PERMISSIONS",
    "INGEST",
    "PERMISSIONS",
    "SET_LIMIT",
    "ApiKey",
    "NewKey",
    "digest_of",
    "make_key",
    "new_public_id",
    "proves",
    "public_id_of",
    "token_in",
]

_PUBLIC_ID = re.compile(r"[0-9a-f]{12}")
_TOKEN = re.compile(r"tl_([0-9a-f]{12})_[\w-]{43}")
_BEARER = re.compile(r"bearer\s+(\S+)", re.IGNORECASE)


class NewKey(NamedTuple):
    """A new key, with the only copy of its token."""

    token: str
    key: ApiKey


def make_key(
    account: str,
    tenants: Collection[str],
    *,
    name: str = "",
    permissions: Collection[str] = DEFAULT_PERMISSIONS,
    now: float,
    public_id: str = "",
) -> NewKey:
    """Create a key; the caller stores `key` and shows `token` once.

    A form passes a `public_id` from `new_public_id`, so that submitting it twice stores one key. An invalid
    `public_id` is replaced by a new one.

    Raises `ConfigurationError` for an invalid account or name, and for a key without a tenant or permission.
    """
    if not account or len(account) > 255:
        raise ConfigurationError("account: invalid length; expected 1 to 255 characters")
    if len(name) > 255:
        raise ConfigurationError("name: invalid length; expected at most 255 characters")
    confined = tuple(dict.fromkeys(tenant for tenant in tenants if tenant.strip()))
    if not confined:
        raise ConfigurationError(
            "tenants: none given; expected tenant ids, for example 'acme', a prefix such as 'eu-*', or '*' for all"
        )
    if any(len(tenant) > 255 or "\0" in tenant for tenant in confined):
        raise ConfigurationError("tenants: invalid tenant id; expected 1 to 255 characters without NUL")
    chosen = tuple(p for p in PERMISSIONS if p in {parse_choice(p, PERMISSIONS, "permissions") for p in permissions})
    if not chosen:
        raise ConfigurationError(f"permissions: none given; expected one or more of {', '.join(PERMISSIONS)}")
    if not _PUBLIC_ID.fullmatch(public_id):
        public_id = new_public_id()
    token = f"tl_{public_id}_{secrets.token_urlsafe(32)}"
    return NewKey(token, ApiKey(public_id, digest_of(token), account, name, confined, chosen, now))


def new_public_id() -> str:
    """Create the public part of a token, by which its key is found."""
    return secrets.token_hex(6)


def digest_of(token: str) -> str:
    """Hash a token. A token has 256 random bits, so a fast hash without salt is safe."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_in(headers: Mapping[str, str]) -> str | None:
    """Read the token from `Authorization: Bearer ...` or `X-API-Key`; the published client writes `Bearer` in both."""
    for name in ("authorization", "x-api-key"):
        value = headers.get(name, "").strip()
        bearer = _BEARER.fullmatch(value)
        if bearer is not None:
            return bearer[1]
        if value and name == "x-api-key":
            return value
    return None


def public_id_of(token: str) -> str | None:
    """Return the public part of a token; None for a text in another format."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else match[1]


def proves(token: str, key: ApiKey | None) -> bool:
    """Return whether a token matches a key that is not revoked; takes the same time if there is no key."""
    expected = _NO_DIGEST if key is None else key.digest
    same = hmac.compare_digest(digest_of(token), expected)
    return same and key is not None and key.revoked_at is None


_NO_DIGEST = "0" * 64
