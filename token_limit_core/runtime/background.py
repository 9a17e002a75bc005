"""The library's own threads: they work for all tenants, so they never run in the Scope of one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class BackgroundThread(threading.Thread):
    """A daemon thread that no Scope follows."""

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)


class BackgroundPool(ThreadPoolExecutor):
    """A thread pool that no Scope follows."""
