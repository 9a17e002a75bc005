"""WebSockets: each message's call is billed, and a refusal closes the socket in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from token_limit_core import LimitExceededException, Meter
from token_limit_core.testing import FakeProvider
from token_limit_starlette import TokenLimitMiddleware

from .conftest import Events, Signed
from .site import metered


def test_the_calls_of_a_socket_are_billed_to_its_user(stored: Meter, events: Events, signed: Signed) -> None:
    app = metered(meter=stored)
    with (
        signed(app).websocket_connect("/socket") as alice,
        signed(app, "bob").websocket_connect("/socket") as bob,
    ):
        for socket in (alice, bob, bob, alice):
            socket.send_text("hello")
            assert socket.receive_text()
        for socket in (alice, bob):
            socket.send_text("bye")
    assert events.tenants() == ["user:alice", "user:bob", "user:bob", "user:alice"]


def test_a_refusal_closes_an_open_socket_with_a_code_and_a_reason(
    meter: Meter, provider: FakeProvider, signed: Signed
) -> None:
    meter.set_limit("user:alice", 0)
    with signed(metered(meter=meter)).websocket_connect("/socket") as socket:
        socket.send_text("hello")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 4402
    assert "This account has no AI allowance" in closed.value.reason
    assert provider.requests == []


def test_who_is_not_known_is_told_so_in_words_for_people(
    make_meter: Callable[..., Meter], provider: FakeProvider, signed: Signed
) -> None:
    app = metered(meter=make_meter(on_no_tenant="refuse"))
    with signed(app, None).websocket_connect("/socket") as socket:
        socket.send_text("hello")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 4403
    assert "sign in" in closed.value.reason
    assert "on_no_tenant" not in closed.value.reason
    assert provider.requests == []


def test_a_refusal_before_the_handshake_is_an_http_response(meter: Meter, signed: Signed) -> None:
    meter.set_limit("user:alice", 0)
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        signed(metered(meter=meter)).websocket_connect("/early_socket"),
    ):
        raise AssertionError("the socket was opened")
    assert denied.value.status_code == 402
    assert denied.value.json()["kind"] == "exhausted"


class WithoutDenials:
    """A server that does not know the extension."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope.pop("extensions", None)
        await self.app(scope, receive, send)


def test_a_server_that_cannot_answer_a_handshake_closes_it(meter: Meter, signed: Signed) -> None:
    meter.set_limit("user:alice", 0)
    client = signed(metered(Middleware(WithoutDenials), meter=meter))
    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/early_socket"):
        raise AssertionError("the socket was opened")
    assert closed.value.code == 4402


async def test_a_socket_the_application_has_closed_stays_closed_its_way(meter: Meter) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(4999, "mine")
        meter.check_limit()

    meter.set_limit("acme", 0)
    app = Starlette()
    app.router.add_websocket_route("/", endpoint)
    app.add_middleware(TokenLimitMiddleware, meter=meter, resolver=lambda connection: "acme")
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(LimitExceededException):
        await app({"type": "websocket", "path": "/", "headers": [], "query_string": b""}, receive, send)
    assert [(message["type"], message.get("code")) for message in sent] == [
        ("websocket.accept", None),
        ("websocket.close", 4999),
    ]
