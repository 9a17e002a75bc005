"""How OpenAI's audio answers: speech is billed by the letter or by tokens, transcripts by the second or by tokens."""

from __future__ import annotations

import logging
from functools import cache, partial
from typing import Any

from ..calls.request import Outcome
from ..usage import Usage
from .chat import StreamReader, usage_of
from .costs import reported_cost
from .reading import count, fields_of, seconds, text
from .surfaces import Plan

logger: logging.Logger = logging.getLogger("token_limit")

CHARACTERS_PER_BYTE = 1 / 400
"""What a byte of audio stands for in a request's size: 10 tokens a second, at 128 kbit/s."""

TOKENS_PER_CHARACTER = 1.3
"""Audio tokens a letter is spoken in: OpenAI counts on $0.015 a minute at $12 a million, so on 1,250 tokens, and a
minute has some 950 letters. (An application's bills, 2025: about 6 for a token of text.)"""

AS_TEXT = frozenset({"text", "srt", "vtt"})
"""Formats of a transcript that report neither usage nor duration."""


def read_transcript(answer: Any) -> Outcome:
    """Read a transcript, parsed or as JSON. Plain text and an incomplete transcript report nothing."""
    if answer is None:
        return Outcome()
    row = fields_of(answer)
    usage = transcript_usage(row.get("usage"))
    duration = seconds(row.get("duration"))
    if usage is None and duration is not None:
        usage = Usage(duration_seconds=duration)
    if usage is None:
        return untimed()
    return Outcome(usage=usage, model=text(row.get("model")), cost_usd=reported_cost(fields_of(row.get("usage"))))


def untimed() -> Outcome:
    """Tell of a transcript that came without its duration: what it has cost cannot be known."""
    _warn_untimed()
    return Outcome(usage=Usage(), tags={"duration_unavailable": True})


def transcript_usage(usage: Any) -> Usage | None:
    """Read the usage of a transcript: tokens, or seconds."""
    row = fields_of(usage)
    if row.get("type") == "duration":
        return Usage(duration_seconds=seconds(row.get("seconds")))
    found = usage_of(row)
    if found is not None:
        parts = fields_of(row.get("input_token_details"))
        found.audio_input_tokens = count(parts.get("audio_tokens"))
        found.input_text_tokens = count(parts.get("text_tokens"))
    return found


class TranscriptReader(StreamReader):
    """Follows a streamed transcript, whose last event reports the usage."""

    __slots__ = ()

    def see(self, event: Any) -> bool:
        """Look at an event; none is ever hidden."""
        row = fields_of(event)
        if row.get("usage") is not None:
            self.usage: Any = row["usage"]
        words = row.get("delta")
        if isinstance(words, str):
            self.chunks += 1
            self.letters += len(words)
        return False

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        outcome = super().outcome(error)
        outcome.usage = transcript_usage(self.usage)
        return outcome


class SpeechReader(TranscriptReader):
    """Follows speech as events; one that is left before its end is billed for all that was to be said."""

    __slots__ = ("spoken",)

    def __init__(self, spoken: int, request_id: str | None, injected: bool) -> None:
        super().__init__(request_id, injected)
        self.spoken: int = spoken

    def observed(self) -> int:
        """Estimate the audio tokens."""
        return self.spoken


def read_speech(answer: Any) -> Outcome:
    """Read speech of which nothing is known."""
    return Outcome()


def refine_speech(plan: Plan) -> None:
    """Count the letters of what is to be said: the model is billed by those, or by tokens.

    Tokens (gpt-4o-mini-tts) are reported only at the end of a stream of events. Other speech is billed by estimate.
    """
    letters = len(str(plan.body.get("input", "")))
    if "gpt" not in plan.model:
        plan.read = lambda answer: Outcome(usage=Usage(character_count=letters))
        return
    spoken = round(letters * TOKENS_PER_CHARACTER)
    plan.fields, plan.max_output = {"character_count": 0}, spoken
    plan.read = lambda answer: Outcome(observed_output=spoken)
    plan.reader = partial(SpeechReader, spoken)
    plan.stream = plan.stream or plan.body.get("stream_format") == "sse"


def refine_transcript(plan: Plan) -> None:
    """Check the requested format: plain text is no JSON and reports nothing."""
    if plan.body.get("response_format") in AS_TEXT:
        plan.read, plan.kept = lambda answer: untimed(), False


@cache
def _warn_untimed() -> None:
    logger.warning(
        "a transcript came without its duration, so its cost is unknown and counts against no limit; ask for "
        "response_format='verbose_json' (the events have duration_unavailable in their tags)"
    )
