"""Both mounts of the console behind one small client, and the sites that the browser visits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from token_limit_core import Meter
from token_limit_flask.console import console as flask_console
from token_limit_starlette.console import console as starlette_console

SECRET = "a secret of thirty-two characters"
PREFIX = "/staff/limits"
WHO = "x-who"
"""The header that names the person, in place of a sign-in."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str


class Client:
    """Asks one mount as one person, keeps cookies, and posts forms as a browser does."""

    def __init__(self, send: Callable[..., Answer], person: str | None = "ann") -> None:
        self._send = send
        self.person = person
        self.cookie = ""

    def get(self, path: str = "", method: str = "GET", /, **params: object) -> Answer:
        return self.ask(method, f"{path}{'?' if params else ''}{urlencode(params)}")

    def post(self, path: str, fields: Mapping[str, object], **headers: str) -> Answer:
        """Post fields together with the tokens of the page `limit`."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("limit").text)
        assert found
        return self.raw_post(path, {"csrf": found[1], **fields}, **headers)

    def raw_post(self, path: str, fields: Mapping[str, object], **headers: str) -> Answer:
        form = {"content-type": "application/x-www-form-urlencoded", "origin": "http://localhost"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, urlencode(fields, doseq=True).encode(), {**form, **named})

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        sent = dict(headers or {})
        if self.person is not None:
            sent[WHO] = self.person
        if self.cookie:
            sent["cookie"] = self.cookie
        answer = self._send(method, f"{PREFIX}/{path}", body, sent)
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer


def flask_app(meter: Meter, authorize: Any) -> Flask:
    app = Flask(__name__)
    app.secret_key = SECRET
    app.register_blueprint(flask_console(authorize, meter=meter), url_prefix=PREFIX)
    return app


def starlette_app(meter: Meter, authorize: Any) -> Starlette:
    return Starlette(routes=[Mount(PREFIX, starlette_console(authorize, meter=meter, secret=SECRET))])


@contextmanager
def over_flask(meter: Meter, authorize: Any) -> Iterator[Client]:
    client = flask_app(meter, authorize).test_client(use_cookies=False)

    def send(method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        found = client.open(path, method=method, data=body, headers=headers)
        return Answer(found.status_code, {key.lower(): value for key, value in found.headers.items()}, found.text)

    yield Client(send)


@contextmanager
def over_starlette(meter: Meter, authorize: Any) -> Iterator[Client]:
    with TestClient(starlette_app(meter, authorize), base_url="http://localhost", follow_redirects=False) as client:

        def send(method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
            client.cookies.clear()
            found = client.request(method, path, content=body, headers=headers)
            return Answer(found.status_code, found.headers, found.text)

        yield Client(send)


def by_header(request: Any) -> str | None:
    """Let in whom the header names."""
    return request.headers.get(WHO)


async def by_header_async(request: Any) -> str | None:
    return by_header(request)


MOUNTS = {"flask": over_flask, "starlette": over_starlette}
