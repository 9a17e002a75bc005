from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from tests.waiting import PATIENCE
from token_limit_core import LLMEvent, Meter
from token_limit_core.testing import FakeProvider
from token_limit_flask import get_meter

from .saas import create_app


class Site:
    """An app over the fake provider, and what its Meter has captured."""

    def __init__(self, app: Flask, events: list[LLMEvent]) -> None:
        self.app = app
        self.events = events
        self.meter: Meter = get_meter(app)

    def client(self, user: str | None = None) -> Any:
        client = self.app.test_client()
        if user is not None:
            client.get(f"/login/{user}")
        return client

    def tenants(self) -> list[str]:
        assert self.meter.flush(PATIENCE)
        return [event.tenant_id for event in self.events]

    def spent(self, tenant: str) -> int:
        return self.meter.store.spend(tenant, 0, 4e9).cost_nano


@pytest.fixture
def make(fake_provider: FakeProvider) -> Iterator[Callable[..., Site]]:
    """Make sites whose settings are given in lower case."""
    made: list[Site] = []

    def make_site(**settings: Any) -> Site:
        events: list[LLMEvent] = []
        given = {"store": "memory://", "hosts": {fake_provider.host: "openai"}, "on_event": events.append, **settings}
        config = {f"TOKEN_LIMIT_{name.upper()}": value for name, value in given.items()}
        made.append(Site(create_app(PROVIDER=fake_provider.base_url, **config), events))
        return made[-1]

    yield make_site
    for site in made:
        site.meter.close()


@pytest.fixture
def site(make: Callable[..., Site]) -> Site:
    return make()
