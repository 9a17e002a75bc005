"""The ingest endpoints as each framework mounts them, behind one way to ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from django.test import Client as DjangoClient
from django.test import override_settings
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from tests.remote.receiver import key_for
from token_limit_core import Meter, MeterConfig
from token_limit_django.meter import get_meter
from token_limit_flask.ingest import ingest_blueprint
from token_limit_starlette.ingest import ingest_routes

Send = Callable[[str, str, bytes, dict[str, str]], tuple[int, bytes]]


class Mounted(NamedTuple):
    """A mount over a memory store, and the Meter it belongs to."""

    send: Send
    meter: Meter
    token: str

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        """Ask with a key for everything, and return what a good answer says."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        body = b"" if document is None else json.dumps(document).encode()
        status, told = self.send(method, f"/token-limit/{path}", body, headers)
        assert status == 200, told
        return json.loads(told)


@contextmanager
def flask(**settings: Any) -> Iterator[Mounted]:
    meter = Meter(MeterConfig(store="memory://", **settings))
    app = Flask(__name__)
    app.register_blueprint(ingest_blueprint(meter), url_prefix="/token-limit")

    def send(method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        answer = app.test_client().open(path, method=method, data=body, headers=headers)
        return answer.status_code, answer.data

    yield Mounted(send, meter, key_for(meter.store))


@contextmanager
def starlette(**settings: Any) -> Iterator[Mounted]:
    meter = Meter(MeterConfig(store="memory://", **settings))
    with TestClient(Starlette(routes=[Mount("/token-limit", routes=list(ingest_routes(meter)))])) as client:

        def send(method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
            answer = client.request(method, path, content=body, headers=headers)
            return answer.status_code, answer.content

        yield Mounted(send, meter, key_for(meter.store))


@contextmanager
def django(**settings: Any) -> Iterator[Mounted]:
    given = {"STORE": "memory://", "PATCHES": [], **{name.upper(): value for name, value in settings.items()}}
    with override_settings(ROOT_URLCONF="tests.remote.django_urls", TOKEN_LIMIT=given):

        def send(method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
            answer = DjangoClient().generic(method, path, body, headers=headers)
            return answer.status_code, answer.content

        yield Mounted(send, get_meter(), key_for(get_meter().store))


MOUNTS: dict[str, Callable[..., AbstractContextManager[Mounted]]] = {
    "flask": flask,
    "starlette": starlette,
    "django": django,
}
