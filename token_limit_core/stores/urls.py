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
}
"""Known URL schemes and the driver module each needs."""

_EXAMPLES = "memory://, sqlite:///token_limit.db, postgresql+psycopg://user@host/db or mysql+pymysql://user@host/db"


def masked(url: str) -> str:
    """Return a store URL without its password."""
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
        extra = f"pip install 'token-limit-suite[{scheme.partition('+')[0]}]'"
        raise ConfigurationError(f"store: {shown!r} needs the driver {driver!r}; {extra}")
    if scheme == "sqlite":
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
