"""The URLs of a remote backend."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from ..runtime.faults import ConfigurationError


class Endpoints(NamedTuple):
    """The URLs of a backend."""

    ingest: str
    thresholds: str
    check: str
    usage: str
    plans: str
    report: str
    manage: str


def endpoints(url: str, thresholds_url: str | None = None, check_url: str | None = None) -> Endpoints:
    """Return the URLs of a backend. Those that are not given are derived from the ingest URL.

    `https://host/v1/events` gives `https://host/v1/thresholds`. Raises `ConfigurationError` for any but http(s) URLs.
    """
    _check_url(url, "url")
    found = Endpoints(
        url,
        urljoin(url, "thresholds") if thresholds_url is None else thresholds_url,
        urljoin(url, "check-tenant-limit") if check_url is None else check_url,
        *(urljoin(url, name) for name in ("usage", "plans", "report", "manage")),
    )
    _check_url(found.thresholds, "thresholds_url")
    _check_url(found.check, "check_url")
    return found


def shown(url: str) -> str:
    """Return a URL without its password and query, which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _check_url(url: str, name: str) -> None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it parses it
        usable = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        usable = False
    if not usable or not (url.isascii() and url.isprintable()) or " " in url:
        raise ConfigurationError(  # the value may contain a password
            f"{name}: invalid value; expected an http(s) URL, for example https://limits.example.com/events"
        )
