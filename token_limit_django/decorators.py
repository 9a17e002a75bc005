"""Decorators for views."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from token_limit_core.runtime.views import View, before_view

from .meter import get_meter


@overload
def check_limit(view: View) -> View: ...
@overload
def check_limit() -> Callable[[View], View]: ...
def check_limit(view: View | None = None) -> View | Callable[[View], View]:
    """Refuse a request before its view runs, if a limit of its tenant is reached: `@check_limit` or `@check_limit()`.

    For views that catch every exception, so that the refusal of a call would never reach the middleware. The view may
    be synchronous or asynchronous; put the decorator below those that sign the user in, such as `@api_view`.
    """
    if view is None:
        return check_limit
    return before_view(view, lambda: get_meter().check_limit(), lambda: get_meter().async_check_limit())
