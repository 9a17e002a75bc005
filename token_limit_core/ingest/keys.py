"""API keys: made here, shown once, stored as hashes; each is confined to tenants and permissions."""

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
    """A key just made, with the only copy of its token."""

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
    """Make a key; the caller stores `key` and shows `token` once.

    A form that was given its `public_id` before (`new_public_id`) makes the same key however often it is sent, so that
    the store takes it once. What is no such id is replaced.

    Raises `ConfigurationError` for a key that nobody could use, or that is confined to nothing.
    """
    if not account or len(account) > 255:
        raise ConfigurationError("account: give a name of 1 to 255 characters")
    if len(name) > 255:
        raise ConfigurationError("name: at most 255 characters")
    confined = tuple(dict.fromkeys(tenant for tenant in tenants if tenant.strip()))
    if not confined:
        raise ConfigurationError("tenants: name a tenant, a beginning such as 'eu-*', or '*' for all of them")
    if any(len(tenant) > 255 or "\0" in tenant for tenant in confined):
        raise ConfigurationError("tenants: a tenant has 1 to 255 characters")
    chosen = tuple(p for p in PERMISSIONS if p in {parse_choice(p, PERMISSIONS, "permissions") for p in permissions})
    if not chosen:
        raise ConfigurationError(f"permissions: choose from {', '.join(PERMISSIONS)}")
    if not _PUBLIC_ID.fullmatch(public_id):
        public_id = new_public_id()
    token = f"tl_{public_id}_{secrets.token_urlsafe(32)}"
    return NewKey(token, ApiKey(public_id, digest_of(token), account, name, confined, chosen, now))


def new_public_id() -> str:
    """Make the part of a token that will find its key."""
    return secrets.token_hex(6)


def digest_of(token: str) -> str:
    """Hash a token; with 256 random bits in it a plain hash cannot be searched."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_in(headers: Mapping[str, str]) -> str | None:
    """Find the token: `Authorization: Bearer ...`, or `X-API-Key`, where the published client writes `Bearer` too."""
    for name in ("authorization", "x-api-key"):
        value = headers.get(name, "").strip()
        bearer = _BEARER.fullmatch(value)
        if bearer is not None:
            return bearer[1]
        if value and name == "x-api-key":
            return value
    return None


def public_id_of(token: str) -> str | None:
    """Return the part of a token that finds its key; None for what can be no token of ours."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else match[1]


def proves(token: str, key: ApiKey | None) -> bool:
    """Compare in constant time, also where there is no such key, so that timing tells nothing."""
    expected = _NO_DIGEST if key is None else key.digest
    same = hmac.compare_digest(digest_of(token), expected)
    return same and key is not None and key.revoked_at is None


_NO_DIGEST = "0" * 64
