"""Store URLs: validation, and masking of passwords."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from urllib.parse import urlsplit

from ..runtime.faults import ConfigurationError

SCHEMES = {
    "memory": None,
    "sqlite": "sqlite3",
    "postgresql+psycopg": "psycopg",
    "mysql+pymysql": "pymysql",
    "redis": "redis",
    "rediss": "redis",
    "redis+cluster": "redis",
}
"""Known URL schemes and the driver module each needs."""

REDIS_SCHEMES = ("redis", "rediss", "redis+cluster")
LEDGER_SCHEMES = ("sqlite", "postgresql+psycopg", "mysql+pymysql")

_EXAMPLES = (
    "memory://, sqlite:///token_limit.db, postgresql+psycopg://user@host/db, mysql+pymysql://user@host/db or "
    "redis://host:6379/0?ledger=postgresql+psycopg://user@host/db"
)


def masked(url: str) -> str:
    """Return a store URL without its password."""
    server, ledger, rest = url.partition("ledger=")
    if rest:
        return f"{masked(server)}{ledger}{masked(rest)}"
    url = re.sub(r"://([^:/@?]*):.*@", r"://\1:***@", url)
    return re.sub(r"(?i)([?&](?:password|passwd|sslpassword)=)[^&]*", r"\1***", url)


def scheme_of(url: str) -> str:
    """Return the scheme of a store URL that can be opened.

    Raises `ConfigurationError` for what can be known without opening it: an unknown scheme, a missing driver, a URL
    that cannot be read, a file that cannot be written.
    """
    shown = masked(url)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        hint = next((f"; did you mean {known}://" for known in SCHEMES if known.startswith(f"{scheme}+")), "")
        raise ConfigurationError(f"store: {shown!r} has no known scheme{hint}; use {_EXAMPLES}")
    driver = SCHEMES[scheme]
    if driver is not None and find_spec(driver) is None:
        extra = "redis" if scheme in REDIS_SCHEMES else scheme.partition("+")[0]
        cure = f"pip install 'token-limit-suite[{extra}]'"
        raise ConfigurationError(f"store: {shown!r} needs the driver {driver!r}; {cure}")
    if scheme in REDIS_SCHEMES:
        redis_parts(url)
    elif scheme == "sqlite":
        _check_path(shown, rest)
    elif driver is not None:
        _check_host(shown, url)
    return scheme


def _check_path(shown: str, rest: str) -> None:
    path = rest.partition("?")[0]
    if not path.startswith("/") or path in ("/", "/:memory:") or path.startswith("/file:"):
        raise ConfigurationError(
            f"store: {shown!r} names no file; use sqlite:///relative.db or sqlite:////absolute/path.db, "
            "or memory:// to keep nothing"
        )
    _check_writable(shown, os.path.abspath(path[1:]))


def _check_writable(shown: str, file: str) -> None:
    """Raise `ConfigurationError` for a file that could never be written; missing folders are made on first use."""
    nearest = file
    while not os.path.exists(nearest):
        nearest = os.path.dirname(nearest)
    expected = os.path.isdir(nearest) == (nearest != file)
    if not expected or not os.access(nearest, os.W_OK):
        what = "is not writable" if expected else "is in the way"
        raise ConfigurationError(
            f"store: {shown!r} cannot be opened ({nearest} {what}); "
            "give the path of a file in a directory this process may write to"
        )


def _check_host(shown: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it parses it
        readable = parts.netloc.count("@") <= 1 and parts.path.strip("/")
    except ValueError:  # its text may quote a piece of the password
        readable = False
    if not readable:
        raise ConfigurationError(
            f"store: {shown!r} must look like {url.partition(':')[0]}://user:password@host:port/database, "
            "with special characters in the password written as %40 and the like"
        )


def redis_parts(url: str) -> tuple[str, str, str]:
    """Split the URL of a Redis store into the server's URL, the prefix of its keys and the URL of its ledger.

    The ledger comes last, and needs no quoting then. Raises `ConfigurationError` where there is none.
    """
    before, _, ledger = url.partition("ledger=")
    server, _, query = before.partition("?")
    if not ledger or not (not query or query.endswith("&")):
        raise ConfigurationError(
            f"store: {masked(url)!r} names no ledger; Redis keeps counters and holds, so give a database for the "
            "ledger, last in the URL, for example redis://host:6379/0?ledger=postgresql+psycopg://user@host/db"
        )
    if scheme_of(ledger) not in LEDGER_SCHEMES:
        raise ConfigurationError(
            f"store: invalid ledger {masked(ledger)!r}; expected the URL of a database, for example "
            "postgresql+psycopg://user@host/db or sqlite:////srv/app/ledger.db"
        )
    options = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
    prefix = options.pop("prefix", "token-limit")
    rest = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{server}?{rest}" if rest else server, prefix, ledger
