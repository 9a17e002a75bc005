"""How a refusal gets out of code that catches every `Exception` on the way, to try again or to raise something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..errors import refusal_in
from ..runtime.faults import TokenLimitError


class Passing(BaseException):
    """Carries a refusal up to the end of the block that lets it pass."""

    def __init__(self, refusal: TokenLimitError) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class _Passage:
    """A block that lets refusals pass. Tasks and threads that it starts see it, also when it has ended."""

    open = True


_passage: ContextVar[_Passage | None] = ContextVar("token_limit_passage", default=None)


def _is_open() -> bool:
    passage = _passage.get()
    return passage is not None and passage.open


def raised(refusal: TokenLimitError) -> BaseException:
    """Return what is to be raised for a refusal."""
    return Passing(refusal) if _is_open() else refusal


@contextmanager
def passing() -> Iterator[None]:
    """Let a refusal leave the block as itself, whatever the code inside does with exceptions."""
    if _is_open():
        yield
        return
    passage = _Passage()
    token = _passage.set(passage)
    try:
        yield
    except Passing as carrier:
        raise carrier.refusal from None
    except Exception as error:
        refusal = refusal_in(error)  # out of a thread that does not see this block
        if refusal is None or refusal is error:
            raise
        raise refusal from error
    finally:
        passage.open = False
        _passage.reset(token)
