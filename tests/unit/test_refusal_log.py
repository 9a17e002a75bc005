"""A refusal in the log of a server or an application is one line at INFO; every other record stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from token_limit_core import Decision, LimitExhausted
from token_limit_core.refusal_log import SERVERS, calm_application, calm_servers

APPLICATION = "tests.an_application"


@pytest.fixture(autouse=True)
def _calm() -> None:
    calm_servers()
    calm_servers()
    calm_application(APPLICATION)


def refused() -> None:
    raise LimitExhausted(Decision("exhausted"))


def wrapped() -> None:
    try:
        refused()
    except LimitExhausted as error:
        raise RuntimeError("no answer") from error


def grouped() -> None:
    raise ExceptionGroup("some failed", [ValueError(), LimitExhausted(Decision("exhausted"))])


@pytest.mark.parametrize("fault", [refused, wrapped, grouped])
@pytest.mark.parametrize("name", [*SERVERS, APPLICATION])
def test_a_refusal_is_one_line(caplog: pytest.LogCaptureFixture, name: str, fault: Callable[[], None]) -> None:
    caplog.set_level(logging.INFO)
    try:
        fault()
    except Exception:
        logging.getLogger(name).exception("Exception in %s application", "ASGI", extra={"color_message": "red"})
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert record.getMessage() == "a call was refused: The spend limit is used up."
    assert not hasattr(record, "color_message")


@pytest.mark.parametrize("name", [*SERVERS, APPLICATION])
def test_another_fault_stays_one(caplog: pytest.LogCaptureFixture, name: str) -> None:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        logging.getLogger(name).exception("Exception in %s application", "ASGI")
    logging.getLogger(name).error("no exception at all")
    assert [(record.levelname, bool(record.exc_info)) for record in caplog.records] == [
        ("ERROR", True),
        ("ERROR", False),
    ]


def test_what_a_server_writes_as_text_counts_and_what_an_application_writes_is_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    try:
        refused()
    except LimitExhausted:
        logging.getLogger("werkzeug").error("Error on request:\nTraceback ...")
        logging.getLogger(APPLICATION).error("alice has no credit left")
    messages = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert messages == [
        ("INFO", "a call was refused: The spend limit is used up."),
        ("ERROR", "alice has no credit left"),
    ]
