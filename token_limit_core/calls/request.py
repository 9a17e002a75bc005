"""What flow and patches exchange: the Request before a call, the Outcome after it, the Settlement to record."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from ..events import LLMEvent
from ..usage import Part, Usage


@dataclass(slots=True)
class Request:
    """What a patch recognises of a call before it is sent. `size` is in characters, `max_output` in tokens.

    A `later` one costs nothing itself: it asks what an earlier call, such as a batch, has cost. `fields` are event
    fields that only the request tells. `priced_as` is the price list's name for what was asked for, where that says
    more than the model that answers (Bedrock's regional and global profiles differ in price). The `host` of a `gateway`
    call is not a provider's own; its answer may report the cost in a header. `unseen` are the tokens guessed for input
    that the request only names, such as a file's id.

    `batch` is how many requests a batch has: what these use is told later. `shares` are its requests by model, where it
    has several.

    `body` is what will be sent; it is looked at only for strict limits. `bounds` are its fields that bound the output,
    the newest first, empty where the patch cannot set one. `clamped` is the bound, for each choice, to be set in it.
    """

    provider: str
    model: str
    endpoint: str
    stream: bool = False
    size: int = 0
    max_output: int | None = None
    service_tier: str | None = None
    later: bool = False
    fields: dict[str, Any] | None = None
    priced_as: str | None = None
    unseen: int = 0
    gateway: bool = False
    host: str = ""
    body: Any = None
    bounds: tuple[str, ...] = ()
    clamped: int | None = None
    batch: int | None = None
    shares: tuple[Request, ...] = ()


@dataclass(slots=True)
class Outcome:
    """How a call ended. `usage` None means the provider did not say; `observed_output` is what was seen, in tokens.

    `answered` tells that a successful status came back, after which the provider bills whatever follows. Of an `unsent`
    call nothing reached the provider.
    `cost_usd` is the cost that the answer reports. `extracted` says that a custom extractor gave the `fields`: nothing
    else is known. `event_id` is the event's where what was used may be told more than once, such as by polling: it
    counts once.
    `estimated` says that a part of the usage is ours; `parts` are counted on top of it. `billed` is what makes the cost
    where the provider bills less than it counts. `kept_as` is the id of the event that will tell what work in the
    background has cost: its hold waits for that. `freed` is the id of such an event that will never come. `unreported`
    is how many requests of a batch were answered, of which it does not say what they used.
    """

    usage: Usage | None = None
    model: str | None = None
    request_id: str | None = None
    error: BaseException | None = None
    answered: bool = True
    unsent: bool = False
    observed_output: int = 0
    service_tier: str | None = None
    tags: dict[str, Any] | None = None
    fields: dict[str, Any] | None = None
    event_id: str | None = None
    estimated: bool = False
    parts: tuple[Part, ...] = ()
    billed: Usage | None = None
    cost_usd: Decimal | None = None
    extracted: bool = False
    kept_as: str | None = None
    freed: str | None = None
    unreported: int | None = None


Settlement: TypeAlias = tuple[str, LLMEvent, int | None, str | None]
"""What the store records of a call: the hold to close, the event, its cost in nano-dollars, a hold to release.

A plain tuple, because making a named tuple takes five times as long.
"""
