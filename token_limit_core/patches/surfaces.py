"""Surfaces: which calls of an SDK cost money, which are free, and what happens to calls that are not classified."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from ..calls.estimates import ATTACHMENT, measure
from ..calls.refusals import raised
from ..calls.request import Outcome, Request
from ..errors import UnguardedCall
from .reading import fields_of
from .streams import Reader

if TYPE_CHECKING:
    from ..calls.engine import Engine

logger = logging.getLogger("token_limit")

MAX_PATHS = 1024

Read = Callable[[Any], Outcome]
MakeReader = Callable[["str | None", bool], Reader]


@dataclass(frozen=True, slots=True)
class Surface:
    """One call that costs money: the end of its path (`{}` is an id), its name, its bounds and how answers are read.

    `bounds` are the body's fields that limit the output, None where no text comes out. `read` takes a parsed answer
    or a JSON document; `reader(request_id, injected)` follows a stream. `refined` calls are looked at once more by
    `StainlessPatch.refine`. The body of one that is not `kept` is not JSON, and may be large. `unseen` are the tokens
    guessed for input that the provider has stored.
    """

    path: str
    endpoint: str
    bounds: tuple[str, ...] | None
    read: Read
    reader: MakeReader
    refined: bool = False
    kept: bool = True
    unseen: int = 0


class Plan(Request):
    """A recognised call of a surface: its Meter, the caller's options, and who reads.

    An `injected` call is sent with `asking`, which is a copy of the options that asks for usage.

    `body` is what will be sent: `extra_body` wins over the method's own arguments.
    """

    __slots__ = ("asking", "engine", "injected", "kept", "options", "read", "reader")

    def __init__(self, engine: Engine, surface: Surface, options: Any, provider: str, stream: bool) -> None:
        sent = vars(options)  # a model looks for each attribute in vain before it finds it
        body, extra = sent.get("json_data"), sent.get("extra_json")
        if type(body) is not dict:
            body = fields_of(body)
        if extra is not None:
            body = {**body, **fields_of(extra)}
        self.engine = engine
        self.options = self.asking = options
        self.injected = self.later = False
        self.body: Mapping[str, Any] = body
        self.bounds = ()
        self.clamped = None
        self.endpoint, self.read, self.reader, self.kept = surface.endpoint, surface.read, surface.reader, surface.kept
        self.provider = provider
        self.model = str(body.get("model", ""))
        self.stream = stream
        self.size, unseen = measure(body)
        self.unseen = unseen + surface.unseen
        self.max_output = 0 if surface.bounds is None else max_output(body, surface.bounds)
        self.fields = self.priced_as = self.service_tier = self.batch = None
        self.shares = ()
        self.gateway, self.host = False, ""
        if "service_tier" in body and isinstance(tier := body["service_tier"], str) and tier != "auto":
            self.service_tier = tier


_registered: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()


def register(client: Any, provider: str) -> None:
    """Register a client, and every copy of it, as a client of a provider, whatever its address."""
    _registered.setdefault(client._client, {})[str(client._base_url)] = provider


def registered(client: Any) -> str | None:
    """Return the provider a client was registered for."""
    known = _registered.get(client._client)
    return None if known is None else known.get(str(client._base_url))


_ID = re.compile(r"(?<=/)(?!v\d)[^/]*\d[^/]*")


def mask(path: str) -> str:
    """Replace the ids in a path, so that a path is logged once and not once per object."""
    return _ID.sub("{id}", path)


def unguarded(engine: Engine, what: str) -> None:
    """Apply `on_unguarded` to a call that is not metered: warn once, refuse or ignore.

    Raises `UnguardedCall` under "refuse".
    """
    engine.count("unguarded")
    policy = engine.config.on_unguarded
    if policy == "refuse":
        raise raised(UnguardedCall(what))
    if policy == "warn" and engine.first_time(what):
        logger.warning(
            "%s is not metered: its cost counts against no limit; record it with meter.track_manually(...), "
            "or set on_unguarded to 'refuse' or 'ignore'",
            what,
        )


class Classified(dict[str, Surface | Literal["free"] | None]):
    """Classifies POSTs by path: a surface, free, or None for a path that is not classified."""

    def __init__(self, surfaces: tuple[Surface, ...], free: re.Pattern[str]) -> None:
        super().__init__()
        self._surfaces = surfaces
        self._free = free

    def __missing__(self, url: str) -> Surface | Literal["free"] | None:
        path = url.partition("?")[0].rstrip("/")
        found = next((surface for surface in self._surfaces if pattern_of(surface).search(path)), None)
        if len(self) >= MAX_PATHS:  # ids are in paths
            self.clear()
        kind: Surface | Literal["free"] | None = "free" if found is None and self._free.search(path) else found
        self[url] = kind
        return kind


def pattern_of(surface: Surface) -> re.Pattern[str]:
    """Compile the end of a path, in which `{}` stands for an id."""
    return re.compile(surface.path.replace("{}", "[^/]+") + "$")


BOUNDS = ("max_completion_tokens", "max_output_tokens", "max_tokens", "max_new_tokens")
"""The usual names of the bound on output, for custom providers."""


def max_output(body: Mapping[str, Any], bounds: tuple[str, ...]) -> int | None:
    """Return the most tokens the call may generate: the bound, once for each choice."""
    for name in bounds:
        if name in body and isinstance(value := body[name], int):
            choices = body.get("best_of") or body.get("n")  # legacy completions make `best_of`, and give `n` of them
            return value * choices if isinstance(choices, int) and choices > 0 else value
    return None


def size_of_files(options: Any, per_byte: float | None = None) -> int:
    """Return the size in characters of the files of a multipart body: as an inlined file, or by its bytes."""
    files = getattr(options, "files", None) or ()
    parts = [part for _, part in (files.items() if isinstance(files, Mapping) else files)]
    if per_byte is None:
        return ATTACHMENT * len(parts)
    return int(sum(_bytes_of(part[1] if isinstance(part, tuple) else part) for part in parts) * per_byte)


def _bytes_of(content: Any) -> int:
    """Return the size of a file without reading it; an unknown size counts as an inlined file."""
    if isinstance(content, (bytes, bytearray, str)):
        return len(content)
    try:
        here = content.tell()
        size = int(content.seek(0, os.SEEK_END) - here)
        content.seek(here)
    except Exception:
        return ATTACHMENT
    return size
