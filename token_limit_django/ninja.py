"""django-ninja: refusals are answered with 402 in debug mode, too.

Its handler of last resort lets exceptions through to Django, but answers them with a traceback if DEBUG is set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import wrapt

from token_limit_core.errors import refusal_in


def install() -> None:
    """Hook django-ninja when it is imported."""
    wrapt.register_post_import_hook(_hook, "ninja.errors")


def _hook(module: Any) -> None:
    if hasattr(module, "_default_exception"):
        wrapt.wrap_function_wrapper(module, "_default_exception", _let_refusals_through)


def _let_refusals_through(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    error: BaseException = kwargs["exc"] if "exc" in kwargs else args[1]
    if refusal_in(error) is not None:
        raise error  # for the middleware
    return wrapped(*args, **kwargs)
