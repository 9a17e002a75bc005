"""Views: functions of an application that are wrapped in the same way whether they are synchronous or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

View = TypeVar("View", bound=Callable[..., Any])


def before_view(view: View, do: Callable[[], object], ado: Callable[[], Awaitable[object]]) -> View:
    """Wrap a view so that `do` runs before it, or `ado` if it is a coroutine function."""
    if iscoroutinefunction(view):

        @wraps(view)
        async def aview(*args: Any, **kwargs: Any) -> Any:
            await ado()
            return await view(*args, **kwargs)

        return cast(View, aview)

    @wraps(view)
    def sync_view(*args: Any, **kwargs: Any) -> Any:
        do()
        return view(*args, **kwargs)

    return cast(View, sync_view)
