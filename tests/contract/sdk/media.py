"""OpenAI's transcripts, speech and pictures: what they are called with, what is answered, what each is billed as."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.contract.sdk import uses, wire
from tests.contract.sdk.uses import Endpoint, Use, each, entered, value
from tests.contract.sdk.wire import Answer
from token_limit_core.patches.audio import TOKENS_PER_CHARACTER

AUDIO = b"RIFF" + b"\0" * 40_000
PICTURE = b"\x89PNG" + b"\0" * 5_000
SAID = "Say that this costs money."
BINARY = b"\xff\xfb" * 500

TRANSCRIPT_USAGE = {
    "type": "tokens",
    "input_tokens": 140,
    "output_tokens": 21,
    "total_tokens": 161,
    "input_token_details": {"audio_tokens": 130, "text_tokens": 10},
}
IMAGE_USAGE = {
    "input_tokens": 350,
    "output_tokens": 1056,
    "total_tokens": 1406,
    "input_tokens_details": {"text_tokens": 50, "image_tokens": 300},
}


class Recording(io.BytesIO):
    """A file that is uploaded."""

    name = "speech.wav"


def transcript(sent: dict[str, Any]) -> Answer:
    """Answer a transcript of a model that is billed by tokens."""
    if sent.get("stream") not in (True, "true"):
        return wire.as_json({"text": SAID, "usage": TRANSCRIPT_USAGE})
    deltas = [{"type": "transcript.text.delta", "delta": word} for word in SAID.split()]
    return wire.as_events([*deltas, {"type": "transcript.text.done", "text": SAID, "usage": TRANSCRIPT_USAGE}])


def timed(sent: dict[str, Any]) -> Answer:
    """Answer a transcript of a model that is billed by the second."""
    return wire.as_json({"text": SAID, "language": "english", "duration": 12.5, "segments": [], "task": "transcribe"})


def seconds(sent: dict[str, Any]) -> Answer:
    """Answer a transcript whose usage is its duration."""
    return wire.as_json({"text": SAID, "usage": {"type": "duration", "seconds": 13}})


def untimed(sent: dict[str, Any]) -> Answer:
    """Answer a transcript without anything to bill it by."""
    return wire.as_json({"text": SAID})


def bare(sent: dict[str, Any]) -> Answer:
    """Answer a transcript that is only text."""
    return Answer(200, [SAID.encode()], "text/plain; charset=utf-8")


def speech(sent: dict[str, Any]) -> Answer:
    """Answer speech, or its events."""
    if sent.get("stream_format") != "sse":
        return Answer(200, [BINARY[at : at + 100] for at in range(0, len(BINARY), 100)], "audio/mpeg")
    usage = {"input_tokens": 8, "output_tokens": 90, "total_tokens": 98}
    return wire.as_events(
        [{"type": "speech.audio.delta", "audio": "AA=="}, {"type": "speech.audio.done", "usage": usage}]
    )


def pictures(sent: dict[str, Any]) -> Answer:
    """Answer pictures, maybe one by one."""
    if not sent.get("stream"):
        data = [{"b64_json": "AA=="}] * int(sent.get("n", 1))
        return wire.as_json({"created": 1, "data": data, "usage": IMAGE_USAGE})
    kind = "image_edit" if "image" in sent or sent.get("stream") == "true" else "image_generation"
    head = {
        "b64_json": "AA==",
        "created_at": 1,
        "background": "auto",
        "output_format": "png",
        "quality": "low",
        "size": "auto",
    }
    partial = {**head, "type": f"{kind}.partial_image", "partial_image_index": 0}
    return wire.as_events([partial, {**head, "type": f"{kind}.completed", "usage": IMAGE_USAGE}], end=b"")


def old_pictures(sent: dict[str, Any]) -> Answer:
    """Answer pictures of a model that tells no usage."""
    return wire.as_json(
        {"created": 1, "data": [{"url": "https://example.com/1.png"}, {"url": "https://example.com/2.png"}]}
    )


UNTIMED = ("duration_unavailable", "estimated", "price_assumed")
UNPRICED = ("unpriced", "price_assumed")
"""The tags of what is billed by an assumption."""


@dataclass(frozen=True)
class Case:
    """A surface: how it is called, what the event must say, and what it costs (None: it has no price)."""

    endpoint: Endpoint
    event: dict[str, Any]
    cost: Decimal | None
    tags: tuple[str, ...] = ()
    streams: bool = False
    names: dict[str, Any] = field(default_factory=dict)


def heard(name: str, model: str, script: wire.Script, **arguments: Any) -> Endpoint:
    """Make a transcript's endpoint."""
    file = ("speech.wav", AUDIO)
    return Endpoint(f"audio.{name}", script, {"model": model, "file": file, **arguments}, answered=model)


def drawn(name: str, model: str, script: wire.Script, **arguments: Any) -> Endpoint:
    """Make an endpoint of pictures."""
    given = {"model": model, "prompt": "A red kite", **arguments}
    return Endpoint(f"images.{name}", script, given, answered=model, method=name, at="images")


TOKENS = {
    "input_tokens": 140,
    "output_tokens": 21,
    "total_tokens": 161,
    "audio_input_tokens": 130,
    "input_text_tokens": 10,
}
TOKENS_COST = Decimal("0.000001") * (10 * Decimal("2.5") + 130 * 6 + 21 * 10)
IMAGES = {
    "input_tokens": 350,
    "output_tokens": 1056,
    "total_tokens": 1406,
    "input_text_tokens": 50,
    "input_image_tokens": 300,
    "output_image_tokens": 1056,
    "image_count": 1,
}
IMAGES_COST = Decimal("0.000001") * (50 * 5 + 300 * 10 + 1056 * 40)
HOUR = Decimal("0.36") / 3600

CASES = {
    "transcript by tokens": Case(
        heard("transcriptions", "gpt-4o-transcribe", transcript), TOKENS, TOKENS_COST, streams=True
    ),
    "transcript by the second": Case(
        heard("transcriptions", "whisper-1", timed, response_format="verbose_json"),
        {"duration_seconds": 12.5, "input_tokens": 0, "output_tokens": 0},
        HOUR * Decimal("12.5"),
    ),
    "transcript that tells its seconds": Case(
        heard("transcriptions", "whisper-1", seconds), {"duration_seconds": 13}, HOUR * 13
    ),
    "transcript without a duration": Case(
        heard("transcriptions", "whisper-1", untimed), {"duration_seconds": None}, None, UNTIMED
    ),
    "transcript as text": Case(
        heard("transcriptions", "whisper-1", bare, response_format="text"),
        {"duration_seconds": None},
        None,
        UNTIMED,
    ),
    "translation": Case(
        heard("translations", "whisper-1", timed, response_format="verbose_json"),
        {"duration_seconds": 12.5},
        HOUR * Decimal("12.5"),
    ),
    "pictures": Case(drawn("generate", "gpt-image-1", pictures), IMAGES, IMAGES_COST, streams=True),
    "several pictures": Case(
        drawn("generate", "gpt-image-1", pictures, n=3), {**IMAGES, "image_count": 3}, IMAGES_COST
    ),
    "an edit": Case(
        drawn("edit", "gpt-image-1", pictures, image=("a.png", PICTURE)), IMAGES, IMAGES_COST, streams=True
    ),
    "pictures without usage": Case(
        drawn("generate", "dall-e-2", old_pictures, n=2), {"image_count": 2, "output_tokens": 0}, None, UNPRICED
    ),
    "variations": Case(
        Endpoint(
            "images.create_variation", old_pictures, {"model": "dall-e-2", "image": ("a.png", PICTURE)},
            answered="dall-e-2", method="create_variation", at="images",
        ),
        {"image_count": 2},
        None,
        UNPRICED,
    ),
}  # fmt: skip

SPEECH = {
    "by the letter": Case(
        Endpoint("audio.speech", speech, {"model": "tts-1", "input": SAID, "voice": "alloy"}, answered="tts-1"),
        {"character_count": len(SAID), "input_tokens": 0},
        Decimal("0.000015") * len(SAID),
    ),
    "by tokens": Case(
        Endpoint(
            "audio.speech", speech, {"model": "gpt-4o-mini-tts", "input": SAID, "voice": "alloy"},
            answered="gpt-4o-mini-tts",
        ),
        {"character_count": 0, "output_tokens": round(len(SAID) * TOKENS_PER_CHARACTER)},
        None,
        ("estimated",),
    ),
}  # fmt: skip


# -- the ways to call for speech, whose answer is no model -------------------------------------------


async def spoken(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    answer = await value(endpoint.create(client))
    seen += [type(answer), answer.content]


async def spoken_raw(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    response = await value(endpoint.create(client, "with_raw_response"))
    seen += [type(response), response.content, response.parse().content]


async def spoken_stream(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response")) as response:
        seen.append(b"".join([data async for data in each(response.iter_bytes(64))]))


async def spoken_broken_off(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response")) as response:
        seen.append(await uses.first(response.iter_bytes(64)))


SPEAKING: tuple[Use, ...] = (spoken, spoken_raw, spoken_stream)
