"""What a call will probably cost: learned from the last calls of its model, before that from stated guesses.

An estimate is an upper bound of most calls, not an average, since a hold that is too small lets a limit be passed.
It is replaced by what was really used when the call settles.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .request import Request

FIRST_OUTPUT = 256
"""Output tokens assumed for a model without a call so far."""

MILLION = 10**6

FIRST_RATE = MILLION // 4
"""Input tokens of a million characters, assumed for a model without a call so far."""

SHORT = 256
"""Characters that a shorter request counts as: its tokens are mostly those around the text, so its rate is no guide."""

ATTACHMENT = 4000
"""Characters an inlined image or file counts as, whatever the length of its base64 text."""

IMAGE, STORED = 1_600, 10_000
"""Tokens guessed for an image behind a URL, and for what the provider has stored: a file, an earlier answer."""

UNSEEN = {
    "image_url": IMAGE,
    "url": IMAGE,
    **dict.fromkeys(("file_id", "file_url", "file_uri", "fileUri", "video_url", "s3Location"), STORED),
    **dict.fromkeys(("previous_response_id", "previous_interaction_id", "conversation"), STORED),
    **dict.fromkeys(("cached_content", "cachedContent", "vector_store_ids"), STORED),
}
"""Keys of a request that name input which is not in it, and the tokens guessed for each."""

_NAMES = frozenset(UNSEEN)
_NO_TEXTS = frozenset({"conversation", "s3Location", "vector_store_ids"})
"""Those whose values may be something else than a text."""

INLINED = frozenset({"mimeType", "mime_type", "format"})
"""What stands beside the `data` of an inlined file, at Google and with OpenAI's audio; Anthropic says `base64`."""

TOKEN_ID = 4
"""Characters a number counts as: prompts and inputs may be given as token ids."""

_WEIGHTLESS: set[type] = {float}
"""Types whose values count nothing, such as the marks of Anthropic's SDK for arguments that were left out."""

MAX_WEIGHTLESS = 64

MAX_PARTS = 1_000_000
"""Parts of a request that are looked at: what refers to itself has no end."""

DOUBT = 32
"""How many times its estimate a call may take near the end of a limit, where the request does not bound it."""

TOGETHER = 4
"""Calls without a bound that are let in at once however little is left."""

WINDOW = 64
PERCENT = 95
FEW = 20
"""An upper bound is of the last `WINDOW` values: the percentile, or the largest as long as there are but a few."""

MAX_MODELS = 1024


class UpperBound:
    """A value that most of the last ones do not exceed; a lost update between threads only costs accuracy."""

    __slots__ = ("_count", "_values", "value")

    def __init__(self, first: int) -> None:
        self.value: int = first
        self._count = 0
        self._values: list[int] = []

    @property
    def seen(self) -> bool:
        """Whether there was a value so far."""
        return self._count > 0

    def add(self, value: int) -> None:
        """Take a value in; the bound is computed anew when it was exceeded, and now and then."""
        count, values = self._count, self._values
        self._count = count + 1
        if count < WINDOW:
            values.append(value)
        else:
            values[count % WINDOW] = value
        if value > self.value or count < FEW or not count % 8:
            self.value = max(values) if count < FEW else sorted(values)[len(values) * PERCENT // 100]


class Costs:
    """What calls cost where that is not the price of their tokens: in millionths of it, or for a call without any."""

    __slots__ = ("call", "share")

    def __init__(self) -> None:
        self.share: UpperBound = UpperBound(MILLION)
        self.call: UpperBound = UpperBound(0)

    def of(self, amount: int) -> int:
        """Return nano-dollars for a call whose tokens have this price."""
        return max(-(-amount * self.share.value // MILLION), self.call.value)

    def learn(self, cost: int, amount: int) -> None:
        """Learn that a call whose tokens have the price `amount` has cost `cost`."""
        if amount:
            self.share.add(-(-cost * MILLION // amount))
        else:
            self.call.add(cost)


class Habit:
    """What the calls of one model have been like, in whole numbers.

    `rate` is input tokens of a million characters, `unseen` what unseen inputs were in millionths of the guess for
    them, `output` is output tokens. `answered` is the model that answers where the price list has no other name for
    it, `costs` what calls cost where the price list does not say.
    """

    __slots__ = ("answered", "costs", "output", "rate", "unseen")

    def __init__(self) -> None:
        self.answered: str | None = None
        self.costs: Costs | None = None
        self.rate: UpperBound = UpperBound(FIRST_RATE)
        self.unseen: UpperBound = UpperBound(MILLION)
        self.output: UpperBound = UpperBound(FIRST_OUTPUT)

    def estimate(
        self, size: int, max_output: int | None, unseen: int = 0, requests: int | None = None
    ) -> tuple[int, int]:
        """Return the input and output tokens expected of `size` characters and `unseen` guessed tokens of input.

        The output is at most `max_output` tokens. `requests` are those of a batch.
        """
        if size < SHORT and self.rate.seen:
            size = SHORT
        received = size * self.rate.value // MILLION + 1
        if unseen:
            received += unseen * self.unseen.value // MILLION
        generated = self.output.value * (1 if requests is None else requests) + 1
        if max_output is not None and max_output < generated:
            generated = max(max_output, 0)  # as a client may have asked for less than nothing
        return received, generated

    def estimate_of(self, share: Request) -> tuple[int, int]:
        """Return the input and output tokens expected of a share of a batch."""
        return self.estimate(share.size, share.max_output, share.unseen, share.batch)

    def ceiling(self, estimate: tuple[int, int], max_output: int | None, unseen: int) -> tuple[int, int]:
        """Return the input and output tokens that a call may take: its bound, else many times what is only guessed."""
        received, generated = estimate
        if unseen:
            received += (DOUBT - 1) * unseen * self.unseen.value // MILLION
        return received, DOUBT * generated if max_output is None else max(max_output, generated)

    def learn(self, size: int, received: int, output: int, unseen: int = 0) -> None:
        """Learn from a finished call.

        One that used nothing, such as an answer out of a cache or work that was only queued, says nothing of the next.
        """
        if not received:
            return
        if size < SHORT:
            size = SHORT
        if unseen:
            known = size * self.rate.value // MILLION
            self.unseen.add(max(received - known, 0) * MILLION // unseen)
        else:
            self.rate.add(received * MILLION // size)
        self.output.add(output)


class Habits(dict[tuple[str, str], Habit]):
    """The habits by provider and model."""

    def __missing__(self, key: tuple[str, str]) -> Habit:
        if len(self) >= MAX_MODELS:  # an application may let people type model names
            self.clear()
        habit = self[key] = Habit()
        return habit


def add_shares(estimates: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Add up the input and output tokens that are expected of the shares of a batch."""
    received, generated = zip(*estimates, strict=True)
    return sum(received), sum(generated)


def size_of(value: Any) -> int:
    """Count the characters of a JSON-like value; iterators are left alone, as looking would use them up."""
    return measure(value)[0]


def measure(value: Any) -> tuple[int, int]:
    """Return the characters of a JSON-like value, and the tokens guessed for the inputs that it only names."""
    total = unseen = 0
    parts = [value]
    for part in parts:  # they grow on the way: one frame for the whole of it
        kind = type(part)
        if kind is str:
            size = len(part)
            total += size if size < ATTACHMENT or not part.startswith("data:") else ATTACHMENT
            continue
        if kind is dict and "data" not in part:
            if not _NAMES.isdisjoint(part):
                unseen += _guess(part)
            parts += part.values()
        elif kind is list:
            parts += part
        elif kind is int:
            total += TOKEN_ID
        elif part is not None and kind not in _WEIGHTLESS:
            total += _size_of_other(part, parts)
        if len(parts) > MAX_PARTS:
            del parts[MAX_PARTS:]
    return total, unseen


def _guess(part: dict[str, Any]) -> int:
    """Guess the tokens of what a part of a request names: by URLs and ids, not by data in the request itself."""
    tokens = 0
    for name in _NAMES & part.keys():
        value = part[name]
        if isinstance(value, str):
            named = bool(value) and not value.startswith("data:") and (name != "url" or part.get("type", name) == name)
        else:
            named = name in _NO_TEXTS and bool(value)
        tokens += UNSEEN[name] if named else 0
    return tokens


def _size_of_other(part: Any, parts: list[Any]) -> int:
    """Count what is neither text nor a plain container, or put what is in it with the `parts` still to be counted."""
    if isinstance(part, str):
        return ATTACHMENT if part.startswith("data:") else len(part)
    if isinstance(part, dict):
        if "data" in part and (part.get("type") == "base64" or not INLINED.isdisjoint(part)):
            return ATTACHMENT
        parts += part.values()
    elif isinstance(part, (list, tuple)):
        parts += part
    elif hasattr(part, "__pydantic_fields_set__"):  # an earlier answer, sent back as it came
        parts += vars(part).values()
    elif isinstance(part, int):
        return TOKEN_ID
    elif len(_WEIGHTLESS) < MAX_WEIGHTLESS:
        _WEIGHTLESS.add(type(part))
    return 0
