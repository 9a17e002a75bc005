"""Refusals in streamed responses, Django REST framework, and tenants by host name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.test import AsyncClient, Client, override_settings

from tests.waiting import PATIENCE
from token_limit_core.testing import FakeProvider
from token_limit_django.meter import get_meter

from . import streams, views

HERE = "tests.frameworks.django"
JSON = {"Accept": "application/json"}

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


@pytest.fixture
def project() -> Iterator[Any]:
    """A project; calling it changes settings of the suite."""
    streams.closed.clear()
    with FakeProvider() as provider, views.connect(provider.base_url):
        overrides: list[Any] = []

        def use(
            *, middleware: str | None = None, project: dict[str, Any] | None = None, **settings: Any
        ) -> FakeProvider:
            from django.conf import settings as current

            changed = {
                "ROOT_URLCONF": f"{HERE}.streams",
                "TOKEN_LIMIT": {"HOSTS": {provider.host: "openai"}, **settings},
                "MIDDLEWARE": [*([middleware] if middleware else []), *current.MIDDLEWARE],
                **(project or {}),
            }
            override = override_settings(**changed)
            override.enable()
            overrides.append(override)
            return provider

        use()
        yield use
        for override in reversed(overrides):
            override.disable()


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password="x")


@pytest.fixture
def client(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
async def aclient(async_client: AsyncClient, alice: User) -> AsyncClient:
    await async_client.aforce_login(alice)
    return async_client


async def body_of(response: Any) -> bytes:
    if not response.streaming:
        return bytes(response.content)
    if response.is_async:
        return b"".join([chunk async for chunk in response])
    return await sync_to_async(b"".join)(response)


@pytest.fixture(params=["wsgi", "asgi"])
def get(request: pytest.FixtureRequest, client: Client, aclient: AsyncClient) -> Any:
    async def ask(path: str, **options: Any) -> Any:
        if request.param == "wsgi":
            return await sync_to_async(client.get)(path, **options)
        return await aclient.get(path, **options)

    return ask


@pytest.mark.parametrize("chunks", [1, 2])
def test_what_a_body_asks_as_it_is_closed_is_billed_to_its_tenant(
    project: Any, client: Client, alice: User, chunks: int
) -> None:
    response = client.get("/left/")
    body = iter(response.streaming_content)  # type: ignore[attr-defined]
    for _ in range(chunks):
        next(body)
    response.close()  # as the server does when the client has left
    assert get_meter().store.spend(f"user:{alice.pk}", 0, 4e9).calls == 1


@pytest.mark.parametrize("view", ["peeked", "apeeked", "peeked-ended", "apeeked-ended"])
async def test_a_refusal_before_the_first_byte_is_a_402_where_the_view_asked(
    project: Any, get: Any, alice: User, view: str
) -> None:
    get_meter().set_limit(f"user:{alice.pk}", 0)
    response = await get(f"/{view}/*a/", headers=JSON)
    assert (response.status_code, response["Content-Type"]) == (402, "application/problem+json")
    assert json.loads(response.content)["kind"] == "exhausted"
    response.close()
    assert streams.closed == (["sync"] if view == "peeked" else [])


@pytest.mark.parametrize("view", ["stream", "astream"])
async def test_a_project_may_ask_for_all_its_streams(project: Any, get: Any, alice: User, view: str) -> None:
    project(PEEK_STREAMS=True)
    get_meter().set_limit(f"user:{alice.pk}", 0)
    assert (await get(f"/{view}/*a/", headers=JSON)).status_code == 402


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("view", ["peeked", "apeeked"])
async def test_a_peeked_stream_that_is_not_refused_is_the_same_and_billed_once(
    project: Any, get: Any, alice: User, view: str
) -> None:
    response = await get(f"/{view}/a*b/")
    assert response.status_code == 200
    assert await body_of(response) == b"data: a\n\ndata: *\n\ndata: b\n\n"
    get_meter().flush(PATIENCE)
    assert get_meter().store.spend(f"user:{alice.pk}", 0, 4e9).calls == 1
    assert get_meter().store.holds() == []


async def test_without_the_peek_the_first_byte_does_not_wait(project: Any, aclient: AsyncClient, alice: User) -> None:
    get_meter().set_limit(f"user:{alice.pk}", 0)
    response = await aclient.get("/astream/*a/")
    assert response.status_code == 200
    with pytest.raises(Exception, match="no AI allowance"):
        await body_of(response)


@pytest.mark.parametrize("view", ["peeked", "apeeked"])
async def test_another_error_before_the_first_byte_is_a_500(project: Any, get: Any, client: Client, view: str) -> None:
    with pytest.raises(ZeroDivisionError):
        await get(f"/{view}/!/")


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("view", ["ended", "aended", "peeked-ended", "apeeked-ended"])
async def test_a_refusal_after_the_first_byte_ends_the_stream_with_an_event(
    project: Any, get: Any, alice: User, view: str
) -> None:
    get_meter().set_limit(f"user:{alice.pk}", 0)
    response = await get(f"/{view}/a*b/")
    assert response.status_code == 200
    first, error, rest = (await body_of(response)).decode().split("\n\n")
    assert (first, rest) == ("data: a", "")
    kind, data = error.split("\n")
    problem = json.loads(data.removeprefix("data: "))
    assert (kind, problem["status"], problem["upgrade_url"]) == ("event: error", 402, "/plans/")


# -- Django REST framework ------------------------------------------------------------------------


@pytest.fixture
def with_token(alice: User) -> dict[str, str]:
    """Authenticate by a token, which only the view looks at; the token's model stays out of the suite's tables."""
    return {"Authorization": "Token alice"}


@pytest.fixture(autouse=True)
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    from rest_framework.authentication import TokenAuthentication

    def authenticate(self: Any, key: str) -> Any:
        return User.objects.get(username=key), key

    monkeypatch.setattr(TokenAuthentication, "authenticate_credentials", authenticate)


@pytest.mark.parametrize("handler", [None, "token_limit_django.drf.exception_handler", f"{HERE}.streams.own_handler"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_caller_known_only_inside_the_view_is_billed_and_refused(
    project: Any, alice: User, with_token: Any, handler: str | None, method: str
) -> None:
    project(project={"REST_FRAMEWORK": {"EXCEPTION_HANDLER": handler} if handler else {}})
    send = getattr(Client(), method)
    assert send("/api/ask/", headers=with_token).status_code == 200
    assert get_meter().store.spend(f"user:{alice.pk}", 0, 4e9).calls == 1
    get_meter().set_limit(f"user:{alice.pk}", 0)
    Group.objects.all().delete()
    response = send("/api/ask/", headers=with_token | JSON)
    assert (response.status_code, response["Content-Type"]) == (402, "application/problem+json")
    assert response["Cache-Control"] == "no-store"
    assert json.loads(response.content)["kind"] == "exhausted"


@pytest.mark.parametrize(
    ("accept", "start"),
    [
        ("text/html", b"<!doctype html>"),
        ("application/xml", b"<kind>exhausted</kind>"),
        ("application/json", b'{"type": "urn:token-limit:exhausted"'),
    ],
)
def test_a_refusal_is_rendered_as_the_api_renders(
    project: Any, alice: User, with_token: Any, accept: str, start: bytes
) -> None:
    project(project={"REST_FRAMEWORK": {"EXCEPTION_HANDLER": "token_limit_django.drf.exception_handler"}})
    get_meter().set_limit(f"user:{alice.pk}", 0)
    response = Client().get("/api/ask/", headers={**with_token, "Accept": accept})
    assert response.status_code == 402
    assert bytes(response.content).lstrip().lower().startswith(start.lower())


@pytest.mark.parametrize("handler", ["token_limit_django.drf.exception_handler", f"{HERE}.streams.own_handler"])
def test_other_errors_go_to_the_projects_own_handler(project: Any, handler: str) -> None:
    project(project={"REST_FRAMEWORK": {"EXCEPTION_HANDLER": handler}})
    response = Client().get("/api/ask/")
    assert response.status_code == (418 if "own" in handler else 401)


def test_a_refused_call_takes_back_what_an_atomic_request_has_written(
    project: Any, alice: User, with_token: Any
) -> None:
    from django.db import connection

    project(project={"REST_FRAMEWORK": {"EXCEPTION_HANDLER": "token_limit_django.drf.exception_handler"}})
    get_meter().set_limit(f"user:{alice.pk}", 0)
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        assert Client().post("/api/ask/", headers=with_token).status_code == 402
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert not Group.objects.exists()


def test_a_stream_of_the_api_is_refused_before_its_first_byte(project: Any, alice: User, with_token: Any) -> None:
    get_meter().set_limit(f"user:{alice.pk}", 0)
    assert Client().get("/api/stream/", headers=with_token).status_code == 402


# -- tenants by host name -------------------------------------------------------------------------


def by_host() -> dict[str, Any]:
    from django.conf import settings

    return {"MIDDLEWARE": [f"{HERE}.streams.tenant_by_host", *settings.MIDDLEWARE]}


def test_the_tenant_of_the_host_pays_for_its_signed_in_users(project: Any, client: Client) -> None:
    project(project=by_host(), PEEK_STREAMS=True)
    for host in ("acme.example.com", "globex.example.com", "globex.example.com"):
        assert b"".join(client.get("/stream/*/", headers={"Host": host}))
    assert b"".join(Client().get("/stream/*/", headers={"Host": "acme.example.com"}))
    assert streams.spent() == {"acme": 1, "globex": 2, "": 1}


def test_the_tenant_of_the_host_pays_for_everybody_where_the_project_says_so(project: Any) -> None:
    project(project=by_host(), TENANT_RESOLVER=f"{HERE}.streams.tenant_of")
    assert b"".join(Client().get("/stream/*/", headers={"Host": "acme.example.com"}))
    assert streams.spent() == {"acme": 1, "globex": 0, "": 0}
