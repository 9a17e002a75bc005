"""Paired comparison: subjects take turns in every round, and each is compared with the base of its own round."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Added(NamedTuple):
    """CPU microseconds added per operation: the median of paired differences with its 95 % interval."""

    total: float
    added: float
    low: float
    high: float


def compare(
    subjects: dict[str, Callable[[], Any]],
    workload: Callable[[int], None],
    operations: int,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Added]:
    """Measure every subject in many short turns, which lets neighbours' load hit all alike; the first is the base.

    With `clock=time.perf_counter` the figures are not CPU time but what the caller waits.
    """
    times: dict[str, list[float]] = {name: [] for name in subjects}
    warm_up = max(2, operations // 3)  # the interpreter re-learns after each change of a class
    gc.freeze()
    gc.disable()
    for turn in range(rounds + 1):
        for name in random.sample(list(subjects), len(subjects)):
            with subjects[name]():
                workload(warm_up)
                start = clock()
                workload(operations)
                spent = (clock() - start) / operations * 1e6
            if turn > 0:
                times[name].append(spent)
        if turn % 10 == 0:
            gc.collect()
    gc.enable()
    base = times[next(iter(subjects))]
    return {name: _summary(values, base) for name, values in times.items()}


def _summary(values: list[float], base: list[float]) -> Added:
    differences = [value - other for value, other in zip(values, base, strict=True)]
    medians = sorted(statistics.median(random.choices(differences, k=len(differences))) for _ in range(2000))
    return Added(statistics.median(values), statistics.median(differences), medians[50], medians[1949])
