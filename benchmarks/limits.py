"""What one admitted and settled call costs by the number of its limits, on a store of any size.

Usage: python benchmarks/limits.py URL [--tenants N] [--calls N] [--big N] [--rounds N]

`URL` is an SQLAlchemy URL of an empty database, which is filled first (`seeding.py`), or of one that an earlier run has
filled. CPU is that of this process, to which SQLite belongs; what a server does is only in the time waited.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

from seeding import NOW, Size, fill
from token_limit_core import LLMEvent
from token_limit_core.limits import Limit
from token_limit_core.stores import Store
from token_limit_core.stores.records import Call

COUNTS = (1, 3, 10)
LIMITS = [
    (frequency, only)
    for only in ("", "model=m1")
    for frequency in ("per_month", "per_day", "per_week", "per_year", "total")
]
CALLS = 20
numbers = itertools.count(time.time_ns())


def prepare(store: Store, count: int) -> str:
    """Make a tenant with so many limits on its calls, which are never reached."""
    tenant = f"limits-{count}"
    for frequency, only in LIMITS[:count]:
        store.set_limit(Limit(tenant, 10**18, frequency, filter=only), NOW)
    return tenant


def call(store: Store, tenant: str) -> None:
    """Admit and settle one call."""
    call_id = f"limits-{next(numbers)}"
    assert store.admit(Call(call_id, tenant, 122_400, provider="openai", model="m1"), NOW).admitted
    event = LLMEvent(call_id, tenant, provider="openai", model="m1", input_tokens=412, total_tokens=412, timestamp=NOW)
    store.settle(call_id, event, 112_200, NOW)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    for name, default in Size()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    store = fill(given.url, Size(given.tenants, given.calls, given.big))
    tenants = {count: prepare(store, count) for count in COUNTS}
    cpu: dict[int, list[float]] = {count: [] for count in COUNTS}
    waited: dict[int, list[float]] = {count: [] for count in COUNTS}
    for turn in range(given.rounds + 1):
        for count, tenant in tenants.items():
            started, used = time.perf_counter(), time.process_time()
            for _ in range(CALLS):
                call(store, tenant)
            if turn:
                cpu[count].append((time.process_time() - used) / CALLS * 1e6)
                waited[count].append((time.perf_counter() - started) / CALLS * 1e6)
    print("| limits | CPU microseconds | microseconds waited |\n|---|---|---|")
    for count in COUNTS:
        print(f"| {count} | {statistics.median(cpu[count]):,.0f} | {statistics.median(waited[count]):,.0f} |")
    store.close()


if __name__ == "__main__":
    main()
