"""Which URLs are safe to link to from a page: those of the settings, and the way back to where a person came from."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .faults import ConfigurationError

_UNSAFE_IN_URL = re.compile(r"[\x00-\x20\x7f]")


def check_support_url(url: str) -> str:
    """Return the URL if it is safe to link to; it may also be an address such as `mailto:help@example.com`."""
    if isinstance(url, str) and url.startswith("mailto:") and "@" in url and not _UNSAFE_IN_URL.search(url):
        return url
    return check_upgrade_url(url, "support_url")


def check_upgrade_url(url: str, name: str = "upgrade_url") -> str:
    """Return the URL if it is safe to link to: http(s), or relative to the site.

    Raises `ConfigurationError` for anything else, such as `javascript:`.
    """
    try:
        parts = urlsplit(url)
    except (ValueError, TypeError, AttributeError):
        parts = None
    relative = parts is not None and not parts.scheme
    absolute = parts is not None and parts.scheme in ("http", "https") and parts.netloc
    if not url or not isinstance(url, str) or _UNSAFE_IN_URL.search(url) or not (relative or absolute):
        raise ConfigurationError(
            f"{name}: invalid value {url!r}; expected an http(s) URL or a path, for example '/billing/'"
        )
    return url


def way_back(url: str | None) -> str | None:
    """Return the path of the page that the person came from; the host is left out, so that it leads nowhere else."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    safe = path.startswith("/") and path[:2] not in ("//", "/\\") and not _UNSAFE_IN_URL.search(path)
    return path if safe else None
