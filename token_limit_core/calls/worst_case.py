"""The most that a call can cost, for strict limits: input by the bytes of the request, output by its bound.

A token of text is at least one byte. What the request only names (a file's id, an earlier answer), and what is no text
(images, sound), is at most the model's context window. A call whose own tools run at the provider has no bound.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from ..limits import Decision
from ..money import to_nano
from ..pricing import ASSUMED
from .estimates import MAX_PARTS, UNSEEN

if TYPE_CHECKING:
    from ..pricing import Price
    from .estimates import Costs
    from .flight import Flight

FRAME, TOOLS = 256, 2_000
"""Tokens that a provider adds to a call, and to one with tools: Anthropic's instructions for tools take up to 800."""

A_PART = 8
"""Bytes for each part of a request: the quotes and brackets around it, which become roles and marks."""

MOST_OUTPUT = 1_000_000
"""Tokens that a model whose context window is not known can generate."""

NOT_IN_TOKENS = (
    "audio.", "images.", "generate_images", "containers.", "threads.", "conversations",
    "agents.", "ocr", "rerank", "parse", "classify", "summarize",
)  # fmt: skip
"""Beginnings of endpoints that bill something else than the tokens of one answer."""

UNBOUNDED = frozenset({"agent", "mcp_servers", "models", "plugins", "prediction", "web_search_options"})
"""Fields of a request that make a provider do more than answer it once, or by another model."""

CLIENT_TOOLS = ("function", "custom", "bash_", "text_editor_", "computer_", "memory_")
DECLARED = frozenset({"input_schema", "parameters", "function", "functionDeclarations", "function_declarations"})
DECLARED_TO_BEDROCK = frozenset({"toolSpec", "cachePoint"})
"""How tools look that the application runs: the beginnings of their types, and fields of those without a type."""

_CACHING = frozenset({"cache_control", "cachePoint"})
_MEDIA = frozenset({"modalities", "responseModalities", "response_modalities", "inlineData", "inline_data"})
_NAMES = frozenset(UNSEEN) - {"url"} | {"input_audio", "image_url", "document", "image", "video"}


class Extent(NamedTuple):
    """How large a request is: its bytes, and whether all of it is text that is in it."""

    size: int
    text_only: bool
    caches: bool


class WorstCase(NamedTuple):
    """The most tokens of input and output (of all choices together), and what they cost at most.

    `bound` is the largest bound on the output of one choice that the model accepts.
    """

    received: int
    generated: int
    choices: int
    bound: int
    extent: Extent
    price: Price | None
    costs: Costs | None

    def amount(self, generated: int) -> int | None:
        """Return nano-dollars for the input and this much output, rounded up; None where no price is sure."""
        price = self.price
        if price is None or price.source == ASSUMED or not (price.is_for_tokens or price.free):
            return None
        amount = price.at_most(self.received, generated, caches=self.extent.caches, text_only=self.extent.text_only)
        return amount if self.costs is None else max(amount, self.costs.of(amount))

    def bought_by(self, decision: Decision, amount: int | None) -> int:
        """Return the tokens of output, for each choice, that are left of the limit which a call does not fit.

        `amount` (nano-dollars) is what the call costs at most; the decision says what the tenant would be billed.
        """
        if decision.limit is None or decision.spent is None or not decision.needed:
            return 0
        if decision.unit != "usd":
            left = int(decision.limit - decision.spent) - self.received
            return min(self.bound, max(0, left) // self.choices)
        balance = to_nano(Decimal(decision.limit)) - to_nano(Decimal(decision.spent))
        balance = balance * (amount or 0) // to_nano(Decimal(decision.needed))
        most = range(min(self.bound, self.generated // self.choices) + 1)
        return bisect_right(most, balance, key=lambda generated: self.amount(generated * self.choices) or 0) - 1


def worst_case_of(flight: Flight) -> WorstCase | None:
    """Return the most that a call can use; None where nothing bounds it."""
    request = flight.request
    body = request.body
    if (
        body is None
        or request.batch is not None
        or request.endpoint.startswith(NOT_IN_TOKENS)
        or "-search-" in request.model
        or _goes_on(body)
    ):
        return None
    size = flight.engine.prices.size_of(request.provider, request.priced_as or request.model)
    extent = extent_of(body)
    received = extent.size + FRAME + (TOOLS if body.get("tools") or body.get("toolConfig") else 0)
    if not extent.text_only or request.unseen:
        if size.window is None:
            return None
        received = max(received, size.window)
    choices = _choices(body)
    generated = request.max_output
    if generated is None:
        generated = choices * (MOST_OUTPUT if size.output is None else size.output)
    return WorstCase(received, max(generated, 0), choices, size.bound, extent, flight.price, flight.habit.costs)


def extent_of(body: Any) -> Extent:
    """Measure a JSON-like value in bytes of UTF-8, its keys included."""
    size, text_only, caches = 0, True, False
    parts = [body]
    for part in parts:  # they grow on the way
        if isinstance(part, str):
            size += A_PART + (len(part) if part.isascii() else len(part.encode("utf-8", "replace")))
            text_only = text_only and not part.startswith("data:")
        elif isinstance(part, Mapping):
            parts += part.keys()
            parts += part.values()
            text_only = text_only and not _is_media(part)
            caches = caches or not _CACHING.isdisjoint(part)
        elif isinstance(part, (list, tuple)):
            parts += part
        elif part is None or isinstance(part, (int, float)):
            size += A_PART
        elif hasattr(part, "__pydantic_fields_set__"):
            parts.append(vars(part))
        else:  # a file, an iterator: it is not looked at
            text_only = False
        if len(parts) > MAX_PARTS:
            return Extent(size, text_only=False, caches=True)
    return Extent(size, text_only, caches)


def _is_media(part: Mapping[Any, Any]) -> bool:
    return not _MEDIA.isdisjoint(part) or "data" in part or any(part.get(name) for name in _NAMES & part.keys())


def _choices(body: Mapping[str, Any]) -> int:
    """Return how many answers a call asks for."""
    config = body.get("generationConfig", body.get("generation_config"))
    told = (body.get("best_of"), body.get("n"), config.get("candidateCount") if isinstance(config, Mapping) else None)
    return max((number for number in told if isinstance(number, int)), default=1) or 1


def _goes_on(body: Mapping[str, Any]) -> bool:
    """Tell whether the provider may make several steps of one call, each of which costs."""
    if any(body.get(name) for name in UNBOUNDED):
        return True
    config = body.get("toolConfig")
    tools = body.get("tools") or (config.get("tools") if isinstance(config, Mapping) else None) or ()
    return not (isinstance(tools, Iterable) and all(map(_is_ours, tools)))


def _is_ours(tool: Any) -> bool:
    """Tell whether the application runs a tool, and not the provider."""
    if not isinstance(tool, Mapping):
        return False
    kind = tool.get("type")
    if isinstance(kind, str):
        return kind.startswith(CLIENT_TOOLS)
    return tool.keys() <= DECLARED_TO_BEDROCK or not DECLARED.isdisjoint(tool)
