"""Fixtures for every suite."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest

from tests.support import postgres_schema
from token_limit_core import patches


def pytest_configure(config: pytest.Config) -> None:
    """Give the SDKs one root certificate: each client they make reads all of them, which takes longer than a test.

    No test connects with TLS.
    """
    end = "-----END CERTIFICATE-----\n"
    folder = tempfile.TemporaryDirectory(prefix="token-limit-tests-")
    config.add_cleanup(folder.cleanup)
    roots = Path(folder.name, "roots.pem")
    roots.write_text(Path(certifi.where()).read_text().partition(end)[0] + end)
    os.environ["SSL_CERT_FILE"] = str(roots)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have counted, such as the recorded exchanges that were replayed."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(autouse=True)
def _sdks_as_they_came() -> Iterator[None]:
    """Fail a test that leaves hooks in the SDKs, and take them out: the tests after it would call through them."""
    yield
    left = patches.engines()
    for engine in left:
        patches.uninstall_all(engine)
    assert left == [], "a Meter still has hooks in the SDKs: close it at the end of the test"


@pytest.fixture(autouse=True)
def _quick_collector() -> None:
    """Let a collection look only at what the test makes: all the SDKs and frameworks are a million objects.

    What the tests before have dropped goes first; it would stay for ever.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """Give the URL of an empty PostgreSQL schema."""
    with postgres_schema() as url:
        yield url
