"""BasePatch: installs and removes the hooks of a provider SDK."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

import wrapt

from ..calls.estimates import measure
from ..calls.flight import Flight
from ..calls.flow import adepart, aland, depart, hand_over, land
from ..calls.manual import outcome_of
from ..calls.request import Outcome, Request
from ..runtime.faults import report
from ..scope import current
from .hooks import hook
from .in_flight import in_flight
from .surfaces import BOUNDS, max_output, unguarded

if TYPE_CHECKING:
    from ..calls.engine import Engine

Extractor = Callable[[Any, tuple[Any, ...], dict[str, Any], BaseException | None], dict[str, Any]]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Recognise = Callable[[tuple[Any, ...], dict[str, Any]], Request | None]
Read = Callable[[Flight, Any, tuple[Any, ...], dict[str, Any], BaseException | None], Any]


class BasePatch:
    """Hooks one SDK. Subclass it, name it, swap methods in `_install`, and put it into `PATCH_REGISTRY`.

    One instance lives from the first Meter that patches to the last that unpatches; a hook that another library has
    wrapped in between stays in place and passes through.
    """

    name: ClassVar[str]
    provider: ClassVar[str | None] = None
    """The provider's name in the price list, if it is not the name of the patch. Holds are priced by it."""

    module: ClassVar[str | None] = None
    """The SDK's module: the patch waits for its import, and is skipped when it is not installed."""

    lazy: ClassVar[bool] = False
    """Whether `_install` only waits for modules of the SDK (`_when_imported`), and so may run before any import."""

    through: ClassVar[str | None] = None
    """The patch whose hooks this one uses; then it is only a name, which says which providers' calls are meant."""

    also: ClassVar[tuple[str, ...]] = ()
    """Patches that this one needs: it is installed with them, as the SDK makes some of its calls through theirs."""

    guards: ClassVar[tuple[str, ...]] = ()
    """What `status()` lists as guarded."""

    not_guarded: ClassVar[tuple[str, ...]] = ()
    """Paid paths that `status()` lists as not metered."""

    websockets: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """Websockets bypass the funnel: module, class (also with the prefix `Async`), and the name of its `connect`."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []
        self.names: dict[Engine, set[str]] = {}
        """The names that each Meter has patched: this patch's own, or those of providers."""
        self.whole: set[str] = {self.name}
        """The names among those that mean every call, whatever its provider."""
        self.active: bool = False
        self._swapped: list[tuple[Any, str, Any, Any]] = []

    def _install(self) -> None:
        """Swap the SDK's methods, with `_swap`."""
        raise TypeError(f"{type(self).__name__} must define _install()")

    def _swap(self, obj: Any, attr: str, wrapper: Any) -> None:
        """Replace `obj.attr` by `wrapper`, and remember the original."""
        original = obj.__dict__.get(attr, _INHERITED)
        setattr(obj, attr, wrapper)
        self._swapped.append((obj, attr, original, wrapper))

    def _when_imported(self, module: str, do: Callable[[Any], None]) -> None:
        """Call a function with a module of the SDK once it is imported. Importing it here would slow the start-up."""

        def imported(module: Any) -> None:
            if self.active:
                do(module)

        if module in sys.modules:
            do(sys.modules[module])
        else:
            wrapt.register_post_import_hook(imported, module)

    def _watch_websockets(self) -> None:
        """Apply `on_unguarded` to websockets."""
        for module, name, what in self.websockets:
            self._when_imported(module, functools.partial(self._watch_connect, name, what))

    def _watch_connect(self, name: str, what: str, module: Any) -> None:
        for cls in (getattr(module, name, None), getattr(module, f"Async{name}", None)):
            connect = getattr(cls, "__dict__", {}).get("connect")
            if connect is not None:
                self._swap(cls, "connect", hook(connect, functools.partial(self._connect, what)))

    def _connect(self, what: str, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.active:
            unguarded(self.engine(), f"the websocket {what}.connect of the {self.name} SDK")
        return wrapped(*args, **kwargs)

    def claims(self, engine: Engine, provider: str) -> bool:
        """Return whether a Meter meters a provider's calls through this patch."""
        names = self.names.get(engine)
        return names is None or provider in names or not self.whole.isdisjoint(names)

    def claimed(self) -> None:
        """Called after a Meter has patched or unpatched a name."""

    @property
    def waiting(self) -> bool:
        """Whether the SDK has not been imported yet."""
        return not self.active or (self.lazy and not self._swapped)

    def install(self) -> None:
        """Install the hooks once. If that fails, remove those that were installed."""
        if self.active:
            return
        self.active = True
        try:
            self._install()
        except BaseException:
            self.uninstall()
            raise

    def uninstall(self) -> None:
        """Restore the originals. Below another library's wrapper ours stays and becomes a pass-through."""
        self.active = False
        for obj, attr, original, wrapper in reversed(self._swapped):
            if obj.__dict__.get(attr) is not wrapper:
                continue
            if original is _INHERITED:
                delattr(obj, attr)
            else:
                setattr(obj, attr, original)
        self._swapped.clear()

    def engine(self) -> Engine:
        """Return the Engine of the current Scope, else the one that patched last."""
        scope = current()
        while scope is not None:
            if scope.engine is not None:
                engine: Engine = scope.engine
                return engine
            scope = scope.parent
        return self.engines[-1]

    def _make_sync_wrapper(self, original: Callable[..., Any], extractor: Extractor) -> Callable[..., Any]:
        """Wrap a function so that calls are admitted before and recorded after.

        `extractor(response, args, kwargs, error)` returns event fields; `response` is None when it raised.
        """
        return self._guard(original, functools.partial(self._request, original), _reader(extractor))

    def _make_async_wrapper(
        self, original: Callable[..., Awaitable[Any]], extractor: Extractor
    ) -> Callable[..., Awaitable[Any]]:
        """Do what `_make_sync_wrapper` does for a coroutine function."""
        return self._aguard(original, functools.partial(self._request, original), _reader(extractor))

    def _guard(self, original: Callable[..., Any], recognise: Recognise, read: Read) -> Callable[..., Any]:
        """Wrap a function: `recognise(args, kwargs)` gives the Request, or None for a call that is not metered.

        `read(flight, response, args, kwargs, error)` gives the Outcome, or what the caller gets in place of a response
        that is still to be read, and that lands by itself.
        """

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            request = recognise(args, kwargs) if self.active else None
            flight = None if request is None else depart(self.engine(), request)
            if flight is None:
                return original(*args, **kwargs)
            token = in_flight.set((args[0] if args else None, flight))
            try:
                if flight.request.clamped is not None:
                    args, kwargs = self._clamp(flight.request, args, kwargs)
                response = original(*args, **kwargs)
            except BaseException as error:
                land(flight, read(flight, None, args, kwargs, error))
                raise
            finally:
                in_flight.reset(token)
            outcome = read(flight, response, args, kwargs, None)
            if not isinstance(outcome, Outcome):
                return outcome
            land(flight, outcome)
            return response

        return wrapper

    def _aguard(
        self, original: Callable[..., Awaitable[Any]], recognise: Recognise, read: Read
    ) -> Callable[..., Awaitable[Any]]:
        """Do what `_guard` does for a coroutine function."""

        @functools.wraps(original)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            request = recognise(args, kwargs) if self.active else None
            flight = None if request is None else await adepart(self.engine(), request)
            if flight is None:
                return await original(*args, **kwargs)
            token = in_flight.set((args[0] if args else None, flight))
            try:
                if flight.request.clamped is not None:
                    args, kwargs = self._clamp(flight.request, args, kwargs)
                response = await original(*args, **kwargs)
            except Exception as error:
                await aland(flight, read(flight, None, args, kwargs, error))
                raise
            except BaseException as error:  # cancelled: nothing may be awaited here
                hand_over(flight, read(flight, None, args, kwargs, error))
                raise
            finally:
                in_flight.reset(token)
            outcome = read(flight, response, args, kwargs, None)
            if not isinstance(outcome, Outcome):
                return outcome
            await aland(flight, outcome)
            return response

        return wrapper

    def _clamp(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Return the arguments with the output bounded as `request.clamped` says, for requests that have `bounds`."""
        raise TypeError(f"{type(self).__name__} must define _clamp(), as it gives bounds")

    def _request(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
        endpoint = getattr(original, "__name__", self.name)
        request = Request(self.provider or self.name, str(kwargs.get("model", "")), endpoint)
        try:
            request.size, request.unseen = measure([*args, kwargs])
            request.max_output = max_output(kwargs, BOUNDS)
        except Exception:
            report("measuring a call")
        return request


_INHERITED = object()


def _positional(extractor: Callable[..., dict[str, Any]]) -> Extractor:
    """Return an extractor that takes `error` by position, from one that may only take it by keyword."""
    try:
        error = inspect.signature(extractor).parameters.get("error")
    except (TypeError, ValueError):  # a callable without a signature
        return extractor
    if error is None or error.kind is not error.KEYWORD_ONLY:
        return extractor
    return lambda response, args, kwargs, raised: extractor(response, args, kwargs, error=raised)


def _reader(extractor: Extractor) -> Read:
    """Wrap a custom extractor. Its faults are handled like our own."""
    extractor = _positional(extractor)

    def read(
        flight: Flight, response: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException | None
    ) -> Outcome:
        try:
            fields = extractor(response, args, kwargs, error)
            return outcome_of(fields, flight.request.provider, error, capture=flight.engine.config.capture_content)
        except Exception:
            report("reading a response")
            return Outcome(error=error, answered=error is None)

    return read
