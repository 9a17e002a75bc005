"""A SaaS that calls an LLM in every way a request can; servers run `create_app()` with FLASK_SITE as its config."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import openai
from flask import Blueprint, Flask, Response, current_app, g, request, send_file, stream_with_context
from flask_login import LoginManager, UserMixin, current_user, login_user  # type: ignore[import-untyped]

from token_limit_core import LimitExceededException
from token_limit_flask import TokenLimit, get_meter

MESSAGES: Any = [{"role": "user", "content": "What does a limit do?"}]
views = Blueprint("views", __name__)
runner = asyncio.Runner()
"""Kept from request to request; each test has its own."""

left: list[threading.Thread] = []
released = threading.Event()


class Organization:
    def __init__(self, id: str) -> None:
        self.id = id


class User(UserMixin):  # type: ignore[misc]
    """User `alice@acme` works for organization `acme`; user `7` works for nobody."""

    def __init__(self, id: str) -> None:
        self.id = id
        name, _, slug = id.partition("@")
        self.organization = Organization(slug) if slug else None


def create_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="test", **json.loads(os.environ.get("FLASK_SITE", "{}")))
    app.config.update(config)
    login = LoginManager(app)
    login.user_loader(User)
    app.register_blueprint(views)
    TokenLimit(app)
    return app


def client() -> openai.OpenAI:
    return openai.OpenAI(api_key="test", base_url=current_app.config["PROVIDER"], max_retries=0)


def ask(**options: Any) -> Any:
    """Ask outside of any request, too: with the client of the app in force."""
    with client() as own:
        return own.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, **options)


def async_client() -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="test", base_url=current_app.config["PROVIDER"], max_retries=0)


async def aask(client: openai.AsyncOpenAI | None = None) -> str:
    async with client or async_client() as own:
        answer = await own.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    return answer.choices[0].message.content or ""


def pieces(own: openai.OpenAI) -> Iterator[str]:
    """Make the call when the first piece is asked for."""
    with own, own.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True) as stream:
        for chunk in stream:
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""


@views.before_app_request
def authenticate() -> None:
    """Know token users only here, after every middleware has begun."""
    if request.authorization is not None and request.authorization.type == "bearer":
        login_user(User(str(request.authorization.token)))


@views.get("/login/<user>")
def login(user: str) -> str:
    login_user(User(user))
    return "welcome"


@views.get("/plain")
def plain() -> Any:
    return ask().choices[0].message.content


@views.get("/aplain")
async def aplain() -> str:
    return await aask()


@views.get("/sync_call_in_async_view")
async def sync_call_in_async_view() -> Any:
    return plain()


@views.get("/own_loop")
def own_loop() -> str:
    return asyncio.run(aask())


@views.get("/kept_runner")
def kept_runner() -> str:
    """Run on a loop that is kept from request to request; `tenant` is an explicit one, set outside or inside of it."""
    meter, tenant, inside = get_meter(), request.args.get("tenant"), "inside" in request.args
    own = async_client()  # `current_app` is not there on such a loop

    async def work() -> str:
        with meter.for_tenant(tenant) if tenant and inside else nullcontext():
            return await aask(own)

    with meter.for_tenant(tenant) if tenant and not inside else nullcontext():
        return runner.run(work())


@views.get("/kept_runner_in_body")
def kept_runner_in_body() -> Response:
    own = async_client()

    def body() -> Iterator[str]:
        yield runner.run(aask(own))

    return Response(body())


@views.get("/in_thread")
def in_thread() -> Any:
    return asyncio.run(asyncio.to_thread(ask)).choices[0].message.content


@views.get("/streamed")
def streamed() -> Response:
    return Response(pieces(client()))


@views.get("/streamed_in_context")
def streamed_in_context() -> Response:
    return Response(stream_with_context(pieces(client())))


@views.get("/streamed_late")
def streamed_late() -> Response:
    """Make a call in the view and another in the body."""
    ask()
    return Response(pieces(client()))


@views.get("/astreamed")
def astreamed() -> Response:
    """Run a loop of one's own inside the body."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]

    def body() -> Iterator[str]:
        with app.app_context():
            yield asyncio.run(aask())

    return Response(body())


@views.get("/two_tenants_in_a_body")
def two_tenants_in_a_body() -> Response:
    meter, own, another = get_meter(), client(), client()

    def body() -> Iterator[str]:
        yield from pieces(own)
        meter.set_tenant("explicit")
        yield from pieces(another)

    return Response(body())


@views.get("/after_the_answer")
def after_the_answer() -> Response:
    """Make the call when the server closes the response."""
    own = client()
    response = Response("done")
    response.call_on_close(lambda: "".join(pieces(own)))
    return response


@views.get("/tenant/<name>")
def tenant(name: str) -> Any:
    g.tenant = name
    return plain()


@views.get("/set_tenant")
def set_tenant() -> Any:
    get_meter().set_tenant("explicit")
    return plain()


@views.get("/two_tasks")
async def two_tasks() -> str:
    """Bill two tenants from two tasks of one request, interleaved."""
    both = asyncio.Barrier(2)

    async def work(tenant: str) -> None:
        get_meter().set_tenant(tenant)
        await both.wait()
        await aask()

    await asyncio.gather(work("left"), work("right"))
    return "done"


@views.get("/bare_thread")
def bare_thread() -> str:
    own = client()
    thread = threading.Thread(target=lambda: "".join(pieces(own)))
    thread.start()
    thread.join()
    return "done"


@views.get("/going_on")
def going_on() -> str:
    """Leave a thread behind that calls when the test lets it."""
    own = client()
    left.append(threading.Thread(target=lambda: (released.wait(10), "".join(pieces(own)))))
    left[-1].start()
    return "later"


@views.get("/wrapped")
def wrapped() -> Any:
    try:
        return plain()
    except LimitExceededException as error:
        raise RuntimeError("the answer could not be made") from error


@views.get("/grouped")
async def grouped() -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(aask())
    return "done"


@views.get("/handled")
def handled() -> Any:
    try:
        return plain()
    except LimitExceededException:
        return "no answer today"


@views.get("/handled_then_broken")
def handled_then_broken() -> Any:
    handled()
    raise ZeroDivisionError


@views.get("/no_call")
def no_call() -> str:
    return "nothing asked"


@views.get("/file")
def file() -> Response:
    return send_file(io.BytesIO(b"x" * 100_000), mimetype="application/octet-stream")


@views.get("/real_file")
def real_file() -> Response:
    return send_file(__file__)


@views.get("/who")
def who() -> Any:
    return current_user.get_id() or "nobody"
