"""Calls that nobody has classified: warned about once, refused before any traffic, or ignored, as the policy says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import Metered, run
from tests.contract.sdk.uses import CHAT, Endpoint, value
from tests.contract.sdk.wire import Wire
from token_limit_core.errors import UnguardedCall

NOTHING = {"id": "x_1", "object": "thing", "data": [], "results": [], "model": "m"}


def poster(path: str) -> uses.Use:
    """Make a use that posts to a path."""

    async def post(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        seen.append(await value(client.post(path, body={"model": "m"}, cast_to=object)))

    return post


def nothing(sent: dict[str, Any]) -> wire.Answer:
    return wire.as_json(NOTHING)


@pytest.fixture
def metered_as(request: pytest.FixtureRequest) -> Callable[[str], Metered]:
    """Meter under a policy."""

    def make(policy: str) -> Metered:
        metered = Metered(on_unguarded=policy)
        request.addfinalizer(metered.meter.close)
        return metered

    return make


def test_it_is_warned_about_once_with_its_path_and_goes_out(
    make: Callable[..., Any], metered_as: Callable[[str], Metered], caplog: pytest.LogCaptureFixture
) -> None:
    metered = metered_as("warn")
    wired = Wire(nothing)
    with caplog.at_level(logging.WARNING, "token_limit"):
        for number in range(3):
            result = metered.run(poster(f"/videos/video_{number}a/remix?x=1"), make(wired), CHAT)
            assert result.error is None

    assert len(wired.sent) == 3
    (warning,) = [record.message for record in caplog.records]
    assert "POST /videos/{id}/remix of the openai SDK" in warning
    assert "on_unguarded" in warning
    assert metered.events == []
    status = metered.meter.status()
    assert status["unguarded"] == ["POST /videos/{id}/remix of the openai SDK"]
    assert status["counts"]["unguarded"] == 3


def test_it_is_refused_before_any_traffic(
    make: Callable[..., Any], metered_as: Callable[[str], Metered], caplog: pytest.LogCaptureFixture
) -> None:
    metered = metered_as("refuse")
    wired = Wire(nothing)
    result = metered.run(poster("/videos"), make(wired), CHAT)

    assert isinstance(result.error, UnguardedCall)
    assert "POST /videos of the openai SDK" in str(result.error)
    assert "on_unguarded is 'refuse'" in str(result.error)
    assert wired.sent == []
    assert metered.events == []
    assert metered.meter.store.holds() == []
    assert caplog.records == []


NOT_GUARDED = {
    "videos": "/videos",
    "fine_tuning.jobs": "/fine_tuning/jobs",
    "fine_tuning.alpha.graders": "/fine_tuning/alpha/graders/run",
    "evals.runs": "/evals/eval_1/runs",
    "realtime.client_secrets": "/realtime/client_secrets",
    "realtime.calls": "/realtime/calls",
    "live.sessions": "/live/sessions",
    "beta.agents": "/agents/sessions",
    "beta.chatkit.sessions": "/chatkit/sessions",
}


def test_the_status_lists_what_is_not_guarded(metered_as: Callable[[str], Metered]) -> None:
    metered = metered_as("refuse")
    for path in NOT_GUARDED.values():
        result = metered.run(poster(path), Wire(nothing).client(), CHAT)
        assert isinstance(result.error, UnguardedCall), path

    told = metered.meter.status()["patches"]["openai"]["not_guarded"]
    assert [name for name in told if not name.endswith(".connect")] == list(NOT_GUARDED)


def test_it_may_be_ignored(
    make: Callable[..., Any], metered_as: Callable[[str], Metered], caplog: pytest.LogCaptureFixture
) -> None:
    metered = metered_as("ignore")
    wired = Wire(nothing)
    metered.run(poster("/videos"), make(wired), CHAT)

    assert len(wired.sent) == 1
    assert caplog.records == []
    assert metered.meter.status()["counts"]["unguarded"] == 1


FREE = [
    "/moderations",
    "/files",
    "/uploads",
    "/uploads/upload_1/parts",
    "/uploads/upload_1/complete",
    "/responses/input_tokens?beta=true",
    "/responses/resp_1/cancel",
    "/batches",
    "/batches/batch_1/cancel",
    "/conversations",
    "/conversations/conv_1/items",
    "/vector_stores",
    "/vector_stores/vs_1/files",
    "/threads",
    "/threads/thread_1/messages",
    "/threads/thread_1/runs/run_1/cancel",
    "/chat/completions/chatcmpl_1",
    "/organization/projects",
    "/evals",
]


@pytest.mark.parametrize("path", FREE)
def test_what_is_free_passes_under_every_policy(
    make: Callable[..., Any], path: str, metered_as: Callable[[str], Metered]
) -> None:
    metered = metered_as("refuse")
    result = metered.run(poster(path), make(Wire(nothing)), CHAT)

    assert result.error is None
    assert metered.events == []
    assert metered.meter.status()["counts"] == {}


NOT_FREE = [
    "/videos",
    "/fine_tuning/jobs",
    "/evals/eval_1/runs",
    "/realtime/client_secrets",
    "/realtime/calls",
    "/agents/sessions/s_1/events",
    "/something/new",
]


@pytest.mark.parametrize("path", NOT_FREE)
def test_what_is_not_known_to_be_free_falls_under_the_policy(
    make: Callable[..., Any], path: str, metered_as: Callable[[str], Metered]
) -> None:
    result = metered_as("refuse").run(poster(path), make(Wire(nothing)), CHAT)

    assert isinstance(result.error, UnguardedCall)


def test_reading_and_deleting_is_not_looked_at(make: Callable[..., Any], metered_as: Callable[[str], Metered]) -> None:
    async def look(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        seen.append(await value(client.files.delete("file_1")))
        seen.append(await value(client.get("/videos/video_1", cast_to=object)))

    assert metered_as("refuse").run(look, make(Wire(nothing)), CHAT).error is None


# -- websockets --------------------------------------------------------------------------------------

SOCKETS = ["realtime", "responses", "live", "beta.realtime"]


def opening(client: Any, where: str) -> Any:
    resource = client
    for step in where.split("."):
        resource = getattr(resource, step, None)
    if resource is None or not hasattr(type(resource), "connect"):
        pytest.skip("this version has no such websocket")
    return resource.connect(**({"model": "gpt-realtime"} if "realtime" in where else {}))


@pytest.mark.parametrize("where", SOCKETS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_websocket_falls_under_the_policy(
    make: Callable[..., Any], where: str, metered_as: Callable[[str], Metered]
) -> None:
    async def connect(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        seen.append(type(opening(client, where)))

    before = run(connect, make(Wire(nothing)), CHAT)
    refused = metered_as("refuse").run(connect, make(Wire(nothing)), CHAT)
    allowing = metered_as("ignore")
    allowed = allowing.run(connect, make(Wire(nothing)), CHAT)

    assert isinstance(refused.error, UnguardedCall)
    assert f"the websocket {where}.connect of the openai SDK" in str(refused.error)
    assert allowed.seen == before.seen
    assert f"{where}.connect" in allowing.meter.status()["patches"]["openai"]["not_guarded"]


def test_a_websocket_is_left_as_it_was_after_unpatching(metered_as: Callable[[str], Metered]) -> None:
    client = Wire(nothing).client()
    before = type(client.responses).__dict__.get("connect")
    if before is None:
        pytest.skip("this version has no such websocket")
    metered = metered_as("refuse")
    metered.meter.patch("openai")
    assert type(client.responses).__dict__["connect"] is not before
    metered.meter.unpatch("openai")
    assert type(client.responses).__dict__["connect"] is before


def test_another_meters_policy_is_not_ours(metered_as: Callable[[str], Metered]) -> None:
    strict, easy = metered_as("refuse"), metered_as("ignore")
    client = Wire(nothing).client()
    strict.meter.patch("openai")
    easy.meter.patch("openai")
    with easy.meter.for_tenant("acme"):
        client.post("/videos", body={}, cast_to=object)
    with strict.meter.for_tenant("acme"), pytest.raises(UnguardedCall):
        client.post("/videos", body={}, cast_to=object)
    assert isinstance(client, openai.OpenAI)
