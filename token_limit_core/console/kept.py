"""The figures of large stores, which take seconds to add up: they are kept, and worked out anew in the background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from ..runtime.background import BackgroundThread
from ..runtime.faults import internal_errors
from ..stores.contract import Store

LARGE = 10_000
"""Tenants from which on figures are kept; those of a smaller store are worked out each time."""

FRESH = 60.0
"""Seconds after which figures are worked out again when somebody looks, who is shown those that are there."""

OLD = 3600.0
"""Seconds after which nobody is shown figures any more: whoever looks waits for new ones."""

T = TypeVar("T")


@dataclass
class Found(Generic[T]):
    """Figures, their time, and when they were last worked out anew (unix seconds)."""

    figures: T
    at: float
    renewed: float

    def is_fresh(self, now: float) -> bool:
        """Return whether nothing newer is being worked out."""
        return now - self.at < FRESH


class Kept(Generic[T]):
    """The latest figures of each store that is large; `tenants_of` tells their number of tenants."""

    def __init__(self, work: Callable[[Store, float], T], tenants_of: Callable[[T], int]) -> None:
        self._work = work
        self._tenants_of = tenants_of
        self._found: WeakKeyDictionary[Store, Found[T]] = WeakKeyDictionary()

    def of(self, store: Store, now: float) -> Found[T]:
        """Return the figures of a store, which may be some time old. Raises `StoreError`."""
        found = self._found.get(store)
        if found is None or not 0 <= now - found.at < OLD:
            return self._renewed(store, now)
        if now - found.renewed >= FRESH:
            found.renewed = now
            BackgroundThread(partial(self._renew, store, now), "token-limit-overview").start()
        return found

    def _renew(self, store: Store, now: float) -> None:
        with internal_errors("adding up the figures of the overview"):
            self._renewed(store, now)

    def _renewed(self, store: Store, now: float) -> Found[T]:
        found = Found(self._work(store, now), now, now)
        if self._tenants_of(found.figures) >= LARGE:
            self._found[store] = found
        else:
            self._found.pop(store, None)
        return found
