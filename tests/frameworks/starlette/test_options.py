"""Options that cannot work are found when the application starts, and its end loses nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.testclient import TestClient

from tests.frameworks.llm import async_client
from tests.frameworks.llm import request as question
from tests.servers import free_port
from token_limit_core import ConfigurationError, Meter
from token_limit_core.patches import state
from token_limit_core.testing import FakeProvider
from token_limit_starlette import TokenLimitMiddleware, get_meter, lifespan

from . import site
from .conftest import Events, Signed
from .site import metered

BAD: list[tuple[dict[str, Any], str]] = [
    ({"stroe": "memory://"}, "stroe: unknown option of TokenLimitMiddleware"),
    ({"store": "nonsense"}, "no known scheme"),
    ({"store": 7}, "store: invalid value"),
    ({"store": ""}, "store: invalid value; expected a store URL"),
    ({"hosts": ["127.0.0.1"]}, "hosts: "),
    ({"hosts": {"127.0.0.1": 7}}, "hosts: "),
    ({"patches": "openai"}, r"for example \['openai'\]"),
    ({"patches": ["opnai"]}, "'opnai' is not known"),
    ({"patches": [7]}, "patches: "),
    ({"default_limit_usd": -1}, "default_limit_usd: invalid value -1"),
    ({"default_limit_usd": "NaN"}, "default_limit_usd: invalid value 'NaN'; expected US dollars"),
    ({"default_limit_usd": "lots"}, "'lots'"),
    ({"default_limit_usd": 10**10}, "default_limit_usd: invalid value 10000000000"),
    ({"on_no_tenant": "refuze"}, "on_no_tenant"),
    ({"on_event": "print"}, "on_event: invalid value 'print'; expected a callable"),
    ({"debug": "yes"}, "debug: invalid value 'yes'; expected True or False"),
    ({"capture_content": "no"}, "capture_content: invalid value 'no'"),
    ({"limit_check_cache_ttl": "5"}, "limit_check_cache_ttl: invalid value '5'; expected seconds"),
    ({"max_batch_size": 2.5}, "max_batch_size: invalid value 2.5"),
    ({"clock": 5}, "clock: invalid value 5"),
    ({"peek_streams": "no"}, "peek_streams: invalid value 'no'"),
    ({"render_swallowed_refusals": "no"}, "render_swallowed_refusals: invalid value 'no'"),
    ({"propagate_threads": "no"}, "propagate_threads: invalid value 'no'"),
    ({"max_queue_size": "many"}, "max_queue_size: invalid value 'many'"),
    ({"hold_seconds": float("nan")}, "hold_seconds"),
    ({"resolver": "project.tenant_of"}, "resolver: invalid value 'project.tenant_of'; expected a callable"),
    ({"user_tenant_attributes": "organization"}, "user_tenant_attributes: invalid value 'organization'"),
    ({"upgrade_url": "javascript:alert(1)"}, "upgrade_url"),
    ({"upgrade_url": 7}, "upgrade_url: invalid value 7"),
    ({"upgrade_response": 402}, "upgrade_response: invalid value 402; expected a callable"),
    ({"upgrade_page": "upgrade.html"}, "upgrade_page: invalid value 'upgrade.html'; expected a callable"),
    ({"meter": "memory://"}, "meter: invalid value 'memory://'; expected a Meter"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_an_option_that_cannot_work_is_named_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TokenLimitMiddleware(site.starlette_app(), **options)
    app = Starlette()
    app.add_middleware(TokenLimitMiddleware, **options)
    with pytest.raises(ConfigurationError, match=message):
        app.build_middleware_stack()


@pytest.mark.parametrize(("options", "message"), BAD[:3])
def test_an_option_that_cannot_work_stops_the_application_at_its_start(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message), TestClient(metered(**options)):
        raise AssertionError("the application started")
    with pytest.raises(ConfigurationError, match=message):  # where the server does without a start-up
        TestClient(metered(**options)).get("/no_call")


def test_a_meter_and_options_for_one_exclude_each_other(meter: Meter) -> None:
    with pytest.raises(ConfigurationError, match="expected a Meter or store, not both"):
        TokenLimitMiddleware(site.starlette_app(), meter, store="memory://")


def test_a_server_does_not_start_with_options_that_cannot_work(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from starlette.applications import Starlette\n"
        "from token_limit_starlette import TokenLimitMiddleware\n"
        "app = Starlette()\n"
        "app.add_middleware(TokenLimitMiddleware, store='nonsense')\n"
    )
    command = [sys.executable, "-m", "uvicorn", "app:app", f"--port={free_port()}", "--app-dir", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    assert "token-limit: store: 'nonsense' has no known scheme" in run.stderr


def test_a_meter_is_made_of_the_options_of_one(provider: FakeProvider, events: Events, signed: Signed) -> None:
    seen: list[Meter] = []

    async def endpoint(request: Request) -> Any:
        seen.append(get_meter(request))
        return await site.plain(request)

    options = {"store": "memory://", "hosts": {provider.host: "openai"}, "on_event": events.append}
    app = metered(default_limit_usd="0.000001", **options)
    app.add_route("/mine", endpoint)
    client = signed(app)
    assert [client.get("/mine").status_code for _ in range(2)] == [200, 402]
    assert [event.tenant_id for event in events] == ["user:alice"]
    assert [str(limit.limit_usd) for limit in seen[0].limits("user:alice")] == ["0.000001000"]
    seen[0].close()


def test_the_end_of_the_application_writes_down_what_was_captured(
    make_meter: Callable[..., Meter], provider: FakeProvider, tmp_path: Path
) -> None:
    """A call whose task is cancelled is settled by a thread, a moment later."""
    meter = make_meter(store=f"sqlite:///{tmp_path / 'token_limit.db'}")
    provider.pause_after(chunks=1)

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"mine": True}
        with meter.for_tenant("acme"):
            async with async_client() as client:
                stream = await client.chat.completions.create(**question(), stream=True)
                await anext(aiter(stream))
                reading = asyncio.create_task(anext(aiter(stream)))
                await asyncio.sleep(0)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading

    app = site.starlette_app(lifespan=own)
    app.add_middleware(TokenLimitMiddleware, meter=meter)
    with TestClient(app):
        pass
    assert meter.store.spend("acme", 0, 4e9).calls == 1
    assert meter.store.holds() == []


def test_lifespan_hooks_at_the_start_closes_at_the_end_and_keeps_the_applications_own(
    make_meter: Callable[..., Meter], events: Events
) -> None:
    meter = make_meter()
    said: list[str] = []

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        said.append(state("openai"))
        yield {"mine": 42}
        said.append(state("openai"))

    async def endpoint(request: Request) -> Any:
        said.append(request.state.mine)
        return await site.plain(request)

    app = site.starlette_app(lifespan=lifespan(meter, own))
    app.add_route("/mine", endpoint)
    app.add_middleware(TokenLimitMiddleware, meter=meter, resolver=lambda connection: "acme")
    for _ in range(2):  # as tests start an application again and again
        with TestClient(app) as client:
            assert client.get("/mine").status_code == 200
        assert state("openai") == "off"
    assert said == ["installed", 42, "installed"] * 2
    assert events.tenants() == ["acme"] * 2


def test_lifespan_alone_is_enough_of_a_lifespan(make_meter: Callable[..., Meter]) -> None:
    meter = make_meter()
    with TestClient(Starlette(lifespan=lifespan(meter))):
        assert state("openai") == "installed"
    assert state("openai") == "off"
