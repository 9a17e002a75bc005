"""Measure what the suite adds, and write the table into this folder's README.

Usage: python benchmarks/run.py [--rounds N]
"""

from __future__ import annotations

import argparse
import platform
import time
from importlib.metadata import version
from pathlib import Path

import asgi
import backends
import flask_requests
import ingest
import middleware
import sdk
from stats import Added, compare

HERE = Path(__file__).resolve().parent
MARK = "<!-- results -->"


def main() -> None:
    """Run everything and rewrite the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=150)
    rounds = parser.parse_args().rounds
    lines = [_versions(), "", "### Added CPU microseconds per call (a stream has 100 chunks)", ""]
    subjects = sdk.subjects()
    results = {name: compare(subjects, work, calls, rounds) for name, (work, calls) in sdk.WORKLOADS.items()}
    with sdk.without_the_sdk():
        alone = compare(subjects, sdk.funnel, 200, rounds)
    results = {"sync, SDK stubbed out": alone, **results}
    lines += _table(results)
    lines += ["", "### Added CPU microseconds per Django request (WSGI handler, trivial view)", ""]
    lines += _table({"WSGI": compare(middleware.subjects(), middleware.requests, 100, rounds)})
    lines += ["", "### Added CPU microseconds per Flask request (WSGI app, trivial view)", ""]
    lines += _table({"WSGI": compare(flask_requests.subjects(), flask_requests.requests, 100, rounds)})
    lines += ["", "### Added CPU microseconds per Starlette request (ASGI application, trivial endpoint)", ""]
    lines += _table({"ASGI": compare(asgi.subjects(), asgi.requests, 300, rounds)})
    lines += ["", "### Added CPU microseconds per Django request (ASGI handler, trivial async view)", ""]
    lines += _table({"ASGI": compare(asgi.django_subjects(), asgi.requests, 100, rounds)})
    lines += ["", "### Added microseconds of waiting per call (wall time) with a remote backend", ""]
    waited = compare(backends.subjects(), sdk.sync_plain, 20, min(rounds, 40), time.perf_counter)
    lines += _table({"sync": waited})
    lines += ["", "### Events a second through the ingest endpoint, without HTTP", "", *ingest.table(seconds=2.0)]
    report = "\n".join(lines)
    print(report)
    readme = HERE / "README.md"
    head = readme.read_text().split(MARK)[0]
    readme.write_text(f"{head}{MARK}\n{report}\n")


def _table(results: dict[str, dict[str, Added]]) -> list[str]:
    workloads = list(results)
    rows = [f"| subject | {' | '.join(workloads)} |", "|---" * (len(workloads) + 1) + "|"]
    for subject in next(iter(results.values())):
        cells = [_cell(results[workload][subject], subject) for workload in workloads]
        rows.append(f"| {subject} | {' | '.join(cells)} |")
    return rows


def _cell(added: Added, subject: str) -> str:
    if subject in ("unpatched", "no middleware"):
        return f"{added.total:.1f} in all"
    return f"{added.added:+.1f} [{added.low:.1f}, {added.high:.1f}]"


def _versions() -> str:
    packages = ("openai", "django", "flask", "flask-limiter", "wrapt", "sqlalchemy")
    return f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in packages) + "."


if __name__ == "__main__":
    main()
