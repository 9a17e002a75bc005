"""The command `fake-provider`: an OpenAI-compatible provider on loopback, for a first try without a key."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..hosts import FAKE_PORT

BANNER = """\
A fake provider answers at {url}. Nothing leaves this machine, and nothing costs anything.

Point the SDK of OpenAI at it, in the environment of your application:
  OPENAI_BASE_URL={url} OPENAI_API_KEY=fake
or in the code:
  openai.OpenAI(base_url="{url}", api_key="fake")
LangChain and pydantic-ai take the same variables, and LiteLLM takes OPENAI_API_BASE in place of the first.
It speaks the protocol of OpenAI alone: chat and legacy completions, responses, embeddings.

{priced}
Stop with Ctrl+C.
"""


@click.command("fake-provider")
@click.option("--port", type=click.IntRange(0, 65535), default=FAKE_PORT, show_default=True, help="0 is any free port.")
def fake_provider(port: int) -> None:
    """Serve a fake provider that answers like OpenAI, until Ctrl+C or SIGTERM."""
    from ..testing import FakeProvider

    try:
        provider = FakeProvider(port)
    except OSError as error:
        raise click.ClickException(
            f"--port: {port} cannot be used ({error.strerror}); stop what listens there, or give another port, "
            f"for example --port {port + 1}"
        ) from error
    known = provider.host == f"127.0.0.1:{FAKE_PORT}"
    setting = f"The setting hosts={{'{provider.host}': 'openai'}} makes its calls priced as OpenAI's."
    priced = "Its calls are priced as OpenAI's." if known else setting
    with provider, _ended_by_signal():
        click.echo(BANNER.format(url=provider.base_url, priced=priced))
        threading.Event().wait()
    click.echo("Stopped.")


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """End a block at Ctrl+C or SIGTERM."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)
