"""`manage.py token_limit_doctor` is `manage.py token_limit doctor`."""

from __future__ import annotations

from . import token_limit


class Command(token_limit.Command):
    """Runs `token_limit doctor`."""

    help: str = token_limit.GROUP.commands["doctor"].help or ""
    first: tuple[str, ...] = ("doctor",)
