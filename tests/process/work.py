"""What the tasks of every queue do, in worker processes configured by the environment."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import openai

from token_limit_core import LimitExceededException, Meter, MeterConfig
from token_limit_core.meter import engine_of

PROVIDER = os.environ["TASKS_PROVIDER"]
PREFIX = os.environ["TASKS_PREFIX"]
REDIS = os.environ["TASKS_REDIS"]
MESSAGES: Any = [{"role": "user", "content": "What does a limit do?"}]

meter = Meter(
    MeterConfig(
        **json.loads(os.environ["TASKS_METER"]),
        hosts={PROVIDER.partition("//")[2].partition("/")[0]: "openai"},
        raise_on_error=True,
    )
).patch_all()
client = openai.OpenAI(api_key="test", base_url=PROVIDER, max_retries=0)


def ask() -> str:
    """Make a call; return who is in force."""
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    return str(meter.current_tenant_id)


def wrapped() -> str:
    """Make a call; raise an error of the task's own when it is refused."""
    try:
        return ask()
    except LimitExceededException as error:
        raise RuntimeError("the task could not be done") from error


async def aask() -> str:
    """Make a call from an event loop."""
    async with openai.AsyncOpenAI(api_key="test", base_url=PROVIDER, max_retries=0) as own:
        await own.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    return str(meter.current_tenant_id)


def leave_behind() -> None:
    """Make a call and set a tenant that must not outlive the task."""
    ask()
    meter.set_tenant("left behind")


def abandon() -> None:
    """Drop a stream that nobody has read to its end, when the thread that settles it is busy for a while."""
    stream = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
    next(iter(stream))
    engine_of(meter).settler.put(lambda: time.sleep(0.5))
    del stream
