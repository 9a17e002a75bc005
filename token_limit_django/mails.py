"""Notices by e-mail, to the addresses of the setting `NOTICE_EMAILS`, off the path of the call."""

from __future__ import annotations

from functools import partial

from django.conf import settings as project
from django.core.mail import send_mail

from token_limit_core.limits.notices import Notice
from token_limit_core.runtime.background import BackgroundThread
from token_limit_core.runtime.faults import internal_errors
from token_limit_core.runtime.language import speaking
from token_limit_core.wording import exact, limit_line
from token_limit_core.wording import notice as words

from .conf import settings


def mail(notice: Notice) -> None:
    """Send a notice to the chosen addresses, in a thread of its own: a mail server may take its time."""
    addresses = settings.NOTICE_EMAILS
    if addresses:
        BackgroundThread(partial(_send, notice, addresses), "token-limit-mail").start()


def _send(notice: Notice, addresses: list[str]) -> None:
    with speaking(project.LANGUAGE_CODE):
        subject, text = _words(notice)
    with internal_errors("sending a notice by e-mail"):
        send_mail(subject, text, None, addresses)


def _words(notice: Notice) -> tuple[str, str]:
    status, limit = notice.status, notice.limit
    line = limit_line(status.ceiling, limit.unit, limit.frequency, limit.filter)
    spent, recovered = exact(status.settled, limit.unit), notice.kind == "recovered"
    return words(notice.tenant_id, notice.percent, recovered, line, spent, notice.resets_at, limit.timezone)
