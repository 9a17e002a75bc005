"""Run by a Python that has the published `token-limit` client and none of ours: `published_client.py SETTINGS`.

It knows only that package's public names and module constants, and says what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import openai
from token_limit import LimitExceededException, Meter, MeterConfig
from token_limit import meter as meter_module
from token_limit.transport import http_client

MESSAGES: Any = [{"role": "user", "content": "hello"}]


def main(settings: dict[str, str]) -> dict[str, Any]:
    """Make calls before and after a limit of nothing, sync and async."""
    for module in (meter_module, http_client):
        module.CHECK_LIMIT_URL = f"{settings['base']}/check-tenant-limit"
        module.SET_LIMIT_URL = f"{settings['base']}/thresholds"
    errors: list[str] = []
    meter = Meter(
        MeterConfig(
            api_key=settings["token"],
            url=f"{settings['base']}/events",
            flush_interval=0.1,
            limit_check_cache_ttl=0.0,
            on_flush_error=lambda error: errors.append(repr(error)),
        )
    )
    with meter:
        meter.patch("openai")
        saw: dict[str, Any] = {"sync": _sync(meter, settings), "async": asyncio.run(_async(meter, settings))}
    return {**saw, "errors": errors}


def _sync(meter: Meter, settings: dict[str, str]) -> list[str]:
    client = openai.OpenAI(api_key="x", base_url=settings["provider"])
    saw = []
    with meter.for_tenant("acme"):
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        saw.append("answered")
        meter.check_limit()
        meter.set_limit("acme", 0.0)
        for call in (meter.check_limit, lambda: client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)):
            try:
                call()
            except LimitExceededException:
                saw.append("refused")
    return saw


async def _async(meter: Meter, settings: dict[str, str]) -> list[str]:
    client = openai.AsyncOpenAI(api_key="x", base_url=settings["provider"])
    saw = []
    with meter.for_tenant("globex"):
        await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        saw.append("answered")
        await meter.async_check_limit()
        meter.set_limit("globex", 0.0)
        for call in (
            meter.async_check_limit,
            lambda: client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES),
        ):
            try:
                await call()
            except LimitExceededException:
                saw.append("refused")
    await client.close()
    return saw


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
