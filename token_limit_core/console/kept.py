"""Figures of large stores, which take seconds to add up: the store keeps them, one process adds up newer ones.

Whoever looks sees the figures that are there, with their time, and waits for nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..runtime.background import BackgroundThread
from ..runtime.faults import internal_errors
from ..stores.contract import Store
from ..stores.queries import TenantQuery
from ..stores.records import KeptFigures

LARGE = 10_000
"""Tenants from which on figures are kept; those of a smaller store are added up for each view."""

FRESH = 300.0
"""Seconds after which the next view starts a new calculation, also after one that failed."""

CLAIM = 600.0
"""Seconds after which a process that adds up figures is taken to be dead."""

Work = Callable[[Store, float], str]


def kept(store: Store, name: str, now: float, work: Work) -> KeptFigures | None:
    """Return the figures that are kept, and start to add up newer ones if they are old. Raises `StoreError`.

    The body is empty while the first ones are added up. None: the store is small, and keeps none.
    """
    found = store.figures(name)
    if found is None:
        if store.tenants(TenantQuery(size=1), now).total < LARGE:
            return None
        found = KeptFigures(name)
    if not is_fresh(found, now) and found.claimed_until <= now and store.claim_figures(name, now, now + CLAIM):
        BackgroundThread(partial(_renew, store, name, now, work), "token-limit-overview").start()
    return found


def is_fresh(found: KeptFigures, now: float) -> bool:
    """Return whether nothing newer is needed."""
    return 0 <= now - found.at < FRESH


def _renew(store: Store, name: str, now: float, work: Work) -> None:
    with internal_errors("adding up the figures of the overview"):
        try:
            store.keep_figures(KeptFigures(name, work(store, now), now))
        except Exception as error:
            found = store.figures(name)
            if found is not None:
                failure = f"{type(error).__name__}: {error}"[:255]
                store.keep_figures(found._replace(claimed_until=now + FRESH, failure=failure))
            raise
