"""Notices in Django: signals, and e-mail to the addresses of a setting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.test import override_settings

from tests.waiting import wait_until
from token_limit_core import LimitExceededException
from token_limit_core.limits.notices import Notice
from token_limit_django.meter import get_meter
from token_limit_django.signals import call_refused, threshold_reached

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    heard: list[Any] = []

    def on_notice(sender: object, notice: Notice, **facts: Any) -> None:
        heard.append(notice.percent)

    def on_refusal(sender: object, decision: Any, request: Any, **facts: Any) -> None:
        heard.append((decision.kind, request.endpoint))

    threshold_reached.connect(on_notice)
    call_refused.connect(on_refusal)
    yield heard
    threshold_reached.disconnect(on_notice)
    call_refused.disconnect(on_refusal)


def spend(usd: int) -> None:
    get_meter().track_manually(provider="acme", model="m", tenant_id="acme", cost_usd=usd)


def test_signals_are_sent(heard: list[Any]) -> None:
    meter = get_meter()
    meter.set_limit("acme", 10)
    spend(4)
    spend(6)
    with meter.for_tenant("acme"), pytest.raises(LimitExceededException):
        meter.check_limit()
    assert heard == [50, 80, 100, ("exhausted", "check_limit")]


def test_a_receiver_that_fails_keeps_nobody_else_from_hearing(
    heard: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(sender: object, **facts: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    threshold_reached.connect(fail)
    try:
        get_meter().set_limit("acme", 10)
        spend(4)
        spend(1)
    finally:
        threshold_reached.disconnect(fail)
    assert heard == [50]
    assert "of a signal" in caplog.text


def test_notices_go_to_the_chosen_addresses() -> None:
    with override_settings(TOKEN_LIMIT={"NOTICE_EMAILS": ["billing@example.com"], "THRESHOLDS": [80]}):
        get_meter().set_limit("acme", 10)
        spend(4)
        spend(5)
        wait_until(lambda: len(mail.outbox) == 1)
    [message] = mail.outbox
    assert message.to == ["billing@example.com"]
    assert message.subject == "acme has used 80 % of a limit"
    assert "Limit: $10.00 per month" in message.body
    assert "Spent: $9.00" in message.body
