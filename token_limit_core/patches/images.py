"""How OpenAI's images answer: tokens by modality, or only pictures to count."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ..calls.request import Outcome
from ..usage import Part, Usage
from .chat import StreamReader, usage_of
from .costs import reported_cost
from .reading import count, fields_of, text


def read_images(answer: Any) -> Outcome:
    """Read images that were generated, edited or varied. Older models report no usage."""
    row = fields_of(answer)
    data, reported = row.get("data"), fields_of(row.get("usage"))
    usage = image_usage(reported, len(data) if isinstance(data, list) else None) if answer is not None else None
    outcome = Outcome(usage=usage, model=text(row.get("model")), cost_usd=reported_cost(reported))
    drafted = fields_of(row.get("svg_usage"))
    if drafted:  # a text model wrote it, beside what the picture has cost
        written = usage_of(drafted) or Usage()
        written.reasoning_tokens = count(drafted.get("reasoning_tokens"))
        outcome.parts = (Part(text(drafted.get("model")), written),)
    return outcome


def image_usage(usage: Any, images: int | None) -> Usage:
    """Read the usage of pictures: of the images API, or of the image tool of the Responses API.

    Where the output is not split it is pictures alone.
    """
    row = fields_of(usage)
    spent, made = fields_of(row.get("input_tokens_details")), fields_of(row.get("output_tokens_details"))
    cached = fields_of(row.get("cached_tokens_details")) or fields_of(spent.get("cached_tokens_details"))
    generated = count(row.get("output_tokens"))
    drawn = count(made.get("image_tokens"))
    return Usage(
        input_tokens=count(row.get("input_tokens")),
        output_tokens=generated,
        total_tokens=count(row.get("total_tokens")),
        cached_tokens=_first(row.get("cached_tokens"), spent.get("cached_tokens")),
        input_text_tokens=count(spent.get("text_tokens")),
        input_image_tokens=count(spent.get("image_tokens")),
        cached_input_text_tokens=_first(cached.get("cached_text_tokens"), cached.get("text_tokens")),
        cached_input_image_tokens=_first(cached.get("cached_image_tokens"), cached.get("image_tokens")),
        output_image_tokens=generated if drawn is None else drawn,
        image_count=images,
    )


def _first(*values: Any) -> int | None:
    return next((found for value in values if (found := count(value)) is not None), None)


PICTURE, DRAFT = 1056, 100
"""Tokens of a square picture of medium quality, and of each partial one on the way to it (OpenAI's image guide)."""


class ImageReader(StreamReader):
    """Follows streamed images. Each complete image reports its usage.

    One that is left after a partial picture is billed as if it had come: the last of them is nearly the whole.
    """

    __slots__ = ("costs", "done", "drafts")

    def __init__(self, request_id: str | None, injected: bool) -> None:
        super().__init__(request_id, injected)
        self.done: list[Usage] = []
        self.costs: list[Decimal | None] = []
        self.drafts = 0

    def see(self, event: Any) -> bool:
        """Look at an event; none is ever hidden."""
        row = fields_of(event)
        kind = str(row.get("type"))
        if kind.endswith(".completed"):
            self.done.append(image_usage(row.get("usage"), 1))
            self.costs.append(reported_cost(fields_of(row.get("usage"))))
        elif kind.endswith(".partial_image"):
            self.drafts += 1
        return False

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        outcome = super().outcome(error)
        if self.done:
            outcome.usage = _sum(self.done)
            costs = [cost for cost in self.costs if cost is not None]
            outcome.cost_usd = sum(costs, Decimal(0)) if len(costs) == len(self.costs) else None
        elif self.drafts:
            made = PICTURE + DRAFT * self.drafts
            outcome.usage, outcome.estimated = Usage(output_tokens=made, output_image_tokens=made), True
        return outcome


def _sum(usages: list[Usage]) -> Usage:
    total = usages[0]
    for usage in usages[1:]:
        for name, more in vars(usage).items():
            there = getattr(total, name)
            if type(more) is int:
                setattr(total, name, more if there is None else there + more)
    return total
