"""The application as Flask's; people are signed in by its own `before_request`."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, abort, g, request, stream_with_context

from token_limit_flask import TokenLimit

from .work import ASYNC, HOSTS, PEOPLE, STORE, SYNC, ask_alone, person, pumped, stream


def create_app() -> Flask:
    app = Flask(__name__)
    TokenLimit(app, store=STORE, hosts=HOSTS)

    @app.before_request
    def authenticate() -> None:
        name = person(request.headers.get("Authorization"))
        if name is None:
            abort(401)
        g.tenant = PEOPLE[name]

    @app.get("/do/<kind>")
    def do(kind: str) -> Any:
        question = request.args["q"]
        if kind in ("stream", "pumped"):
            return Response({"stream": stream, "pumped": pumped}[kind](question), mimetype="text/plain")
        if kind == "stream_in_context":
            return Response(stream_with_context(stream(question)), mimetype="text/plain")
        return SYNC[kind](question)

    @app.get("/ado/<kind>")
    async def ado(kind: str) -> Any:
        assert kind not in ASYNC  # the shared client belongs to one loop, and Flask makes one a request
        return await ask_alone(request.args["q"])

    return app
