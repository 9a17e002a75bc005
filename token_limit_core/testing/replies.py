"""The replies of a fake model, and token counts. Both depend only on the request, so they are deterministic."""

from __future__ import annotations

import base64
import json
import random
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

SENTENCES = (
    "Sure, here is a short answer that should get you going.",
    "The short version is yes, as long as the two figures are compared over the same period.",
    "There are three steps: collect the numbers, check them against last month, and write down what changed.",
    "It depends on the size of the team, but most people start small and grow from there.",
    "Good question! The first option is simpler, the second one is easier to change later.",
)
_PIECE = re.compile(r"\s?\S{1,5}|\s")
MESSAGE_OVERHEAD = 4
IMAGE_TOKENS = 85


@dataclass(frozen=True, slots=True)
class Counts:
    """Token counts of one answer; `cached` is part of the prompt, `reasoning` of the completion."""

    prompt_tokens: int
    completion_tokens: int
    cached: int = 0
    reasoning: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


def pieces(text: str) -> list[str]:
    """Cut a text into tokens: about four characters each, joined they give the text."""
    return _PIECE.findall(text)


def tokens_in(value: Any) -> int:
    """Count the tokens of a prompt part: text, token ids, or nested content."""
    if isinstance(value, str):
        return len(pieces(value))
    if isinstance(value, list):
        return sum(1 if isinstance(item, int) else tokens_in(item) for item in value)
    if isinstance(value, dict):
        if "image" in str(value.get("type", "")):
            return IMAGE_TOKENS
        return sum(tokens_in(value[key]) for key in ("text", "content", "name", "arguments", "output") if key in value)
    return 0


def prompt_tokens(body: dict[str, Any]) -> int:
    """Count the prompt of any request: messages, input or prompt, with instructions and tools."""
    source = next((body[key] for key in ("messages", "input", "prompt") if key in body), "")
    messages = [item for item in source if isinstance(item, dict)] if isinstance(source, list) else []
    overhead = MESSAGE_OVERHEAD * len(messages) + 3 * bool(messages)
    extras = tokens_in(body.get("instructions")) + sum(
        len(pieces(json.dumps(tool))) for tool in body.get("tools") or ()
    )
    return max(1, tokens_in(source) + overhead + extras)


def reply_to(body: dict[str, Any]) -> str:
    """Generate a reply: JSON if the request asks for it, else a sentence chosen by the request's content."""
    schema = wanted_schema(body)
    if schema is not None:
        return json.dumps(fitting(schema, schema))
    source = next((body[key] for key in ("messages", "input", "prompt") if key in body), "")
    return SENTENCES[zlib.crc32(json.dumps(source, sort_keys=True).encode()) % len(SENTENCES)]


def wanted_schema(body: dict[str, Any]) -> dict[str, Any] | None:
    """Find the JSON schema a chat or a responses request asks its answer to fit; None when it asks for text."""
    wanted = body.get("response_format") or (body.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    if wanted.get("type") != "json_schema":
        return None
    found: dict[str, Any] = wanted.get("json_schema", wanted).get("schema", {})
    return found


def fitting(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """Make the simplest value that fits a schema of objects, arrays, unions, references and scalars."""
    if "$ref" in schema:
        target: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return fitting(target, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return fitting(schema[union][0], root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: fitting(part, root) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [fitting(schema.get("items", {}), root) for _ in range(max(1, schema.get("minItems", 1)))]
    scalars = {"integer": 1, "number": 1.5, "boolean": True, "null": None}
    return scalars.get(kind, "text")


def inputs_of(value: Any) -> list[Any]:
    """Split the input of an embedding or a completion into its items: texts, or lists of token ids."""
    if isinstance(value, list) and not (value and all(isinstance(item, int) for item in value)):
        return value
    return [value]


def embedding(item: Any, dimensions: int, encoding: str) -> str | list[float]:
    """Return the vector of an item, always the same: base64 of float32, or a list of floats."""
    source = random.Random(json.dumps(item))
    vector = [source.uniform(-1, 1) / dimensions**0.5 for _ in range(dimensions)]
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
    return vector
