"""Hooks: a provider of one's own, counted installation, and leaving everything as it was found."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.acme import AcmePatch, Client, extract
from tests.waiting import PATIENCE
from token_limit_core import ConfigurationError, LimitExhausted, LLMEvent, Meter, MeterConfig
from token_limit_core.patches import PATCH_REGISTRY, BasePatch

Generate = Callable[[Client], Any]


def generate(client: Client) -> Any:
    return client.generate("hello, how are you?", model="gpt-4o-mini")


def agenerate(client: Client) -> Any:
    return asyncio.run(client.agenerate("hello, how are you?", model="gpt-4o-mini"))


@pytest.fixture(params=[generate, agenerate])
def calling(request: pytest.FixtureRequest) -> Generate:
    made: Generate = request.param
    return made


# -- a custom provider ------------------------------------------------------------------------------


def test_a_custom_provider_is_metered_like_a_built_in(meter: Meter, events: list[LLMEvent], calling: Generate) -> None:
    with meter.for_tenant("acme", user="ann"):
        assert calling(Client())["tokens_in"] == 100
    assert meter.flush(PATIENCE)

    (event,) = events
    assert (event.provider, event.model, event.endpoint) == ("openai", "gpt-4o-mini", calling.__name__)
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (100, 10, 110)
    assert event.cost_usd == Decimal("0.000021")
    assert (event.tenant_id, event.user, event.error) == ("acme", "ann", None)
    assert meter.store.spend("acme", 0, event.timestamp + 1).cost_nano == 21_000


def test_a_custom_provider_is_enforced_like_a_built_in(meter: Meter, events: list[LLMEvent], calling: Generate) -> None:
    meter.set_limit("acme", "0.00002")
    client = Client()
    with meter.for_tenant("acme"):
        calling(client)
        with pytest.raises(LimitExhausted):
            calling(client)
    assert client.calls == 1
    assert len(events) == 1
    assert meter.store.holds() == []


def test_an_error_is_the_callers_and_is_recorded(meter: Meter, events: list[LLMEvent], calling: Generate) -> None:
    meter.set_limit("acme", 5)
    fault = ValueError("secret")
    with meter.for_tenant("acme"), pytest.raises(ValueError, match="secret") as caught:
        calling(Client(fault))
    assert caught.value is fault
    (event,) = events
    assert (event.error, event.cost_usd, event.input_tokens) == ("ValueError", 0, 0)
    assert meter.store.holds() == []


def test_a_connection_lost_after_sending_is_billed_at_the_estimate(
    meter: Meter, events: list[LLMEvent], calling: Generate
) -> None:
    with meter.for_tenant("acme"), pytest.raises(TimeoutError):
        calling(Client(TimeoutError()))
    (event,) = events
    assert event.tags["estimated"] is True
    assert event.input_tokens > 0


def test_a_connection_refused_costs_nothing(meter: Meter, events: list[LLMEvent], calling: Generate) -> None:
    with meter.for_tenant("acme"), pytest.raises(ConnectionRefusedError):
        calling(Client(ConnectionRefusedError()))
    assert (events[0].cost_usd, events[0].tags) == (0, {})


def test_a_cancelled_call_is_billed_at_the_estimate(meter: Meter, events: list[LLMEvent]) -> None:
    meter.set_limit("acme", 5)
    with meter.for_tenant("acme"), pytest.raises(asyncio.CancelledError):
        agenerate(Client(asyncio.CancelledError()))
    assert meter.flush(PATIENCE)
    assert (events[0].error, events[0].tags["estimated"]) == ("CancelledError", True)
    assert meter.store.holds() == []


def test_an_extractor_may_tell_the_cost_and_any_event_field(
    meter: Meter, events: list[LLMEvent], calling: Generate
) -> None:
    told = {"cost_usd": 0.25, "upstream_provider": "x", "stream": True, "tags": {"a": 1}, "request_id": "r"}
    with meter.for_tenant("acme"):
        calling(Client(fields={**told, "no_such_field": 1, "tenant_id": "somebody else", "event_id": "mine"}))
    (event,) = events
    assert (event.cost_usd, event.upstream_provider, event.stream) == (Decimal("0.25"), "x", True)
    assert (event.tags, event.request_id, event.tenant_id) == ({"a": 1}, "r", "acme")
    assert event.event_id != "mine"
    assert meter.store.spend("acme", 0, event.timestamp + 1).cost_nano == 250_000_000


@pytest.mark.parametrize("fields", [{"input_tokens": "many"}, {"cost_usd": "free"}, {"tags": 5}])
def test_an_extractor_that_fails_is_our_fault_not_the_callers(
    meter: Meter, events: list[LLMEvent], calling: Generate, fields: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter.set_limit("acme", 5)
    with monkeypatch.context() as production, meter.for_tenant("acme"):
        production.delenv("PYTEST_CURRENT_TEST")
        assert calling(Client(fields=fields))["tokens_in"] == 100
    (event,) = events
    assert event.tags["estimated"] is True
    assert meter.store.holds() == []


def test_a_patch_without_its_hook_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(BasePatch):
        name = "forgetful"

    monkeypatch.setitem(PATCH_REGISTRY, "forgetful", Forgetful)
    with Meter(MeterConfig(store="memory://")) as meter:
        with pytest.raises(TypeError, match=r"Forgetful must define _install\(\)"):
            meter.patch("forgetful")
        assert meter.status()["patches"]["forgetful"]["state"] == "failed"


def test_a_hook_that_fails_half_way_is_taken_out_again(acme: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Half(AcmePatch):
        name = "half"

        def _install(self) -> None:
            super()._install()
            raise AttributeError("the SDK has changed")

    monkeypatch.setitem(PATCH_REGISTRY, "half", Half)
    original = Client.generate
    with Meter(MeterConfig(store="memory://")) as meter, monkeypatch.context() as production:
        production.delenv("PYTEST_CURRENT_TEST")
        assert meter.patch("half") is meter
        assert meter.status()["patches"]["half"]["state"] == "failed"
        assert Client.generate is original


# -- installation -----------------------------------------------------------------------------------


def plain_meter() -> Meter:
    return Meter(MeterConfig(store="memory://", patches=["acme"]))


def test_patching_chains_and_unpatching_restores_the_originals(acme: None) -> None:
    originals = Client.__dict__["generate"], Client.__dict__["agenerate"]
    meter = plain_meter()
    for patch, unpatch in (("patch_all", "unpatch_all"), ("patch", "unpatch")):
        names = () if patch == "patch_all" else ("acme",)
        assert getattr(meter, patch)(*names) is meter
        assert Client.__dict__["generate"] is not originals[0]
        assert meter.status()["patches"]["acme"]["state"] == "installed"
        assert getattr(meter, unpatch)(*names) is meter
        assert (Client.__dict__["generate"], Client.__dict__["agenerate"]) == originals
        assert meter.status()["patches"]["acme"]["state"] == "off"
    meter.close()


def test_leaving_the_block_restores_the_originals(acme: None) -> None:
    original = Client.__dict__["generate"]
    with plain_meter() as meter:
        meter.patch("acme")
        assert Client.__dict__["generate"] is not original
    assert Client.__dict__["generate"] is original


def test_patching_twice_wraps_once(meter: Meter, events: list[LLMEvent]) -> None:
    wrapper = Client.__dict__["generate"]
    meter.patch("acme").patch_all()
    assert Client.__dict__["generate"] is wrapper
    Client().generate("hi")
    assert len(events) == 1


def test_two_meters_share_one_wrapper_and_the_last_to_leave_takes_it_out(acme: None) -> None:
    original = Client.__dict__["generate"]
    first, second = plain_meter().patch_all(), plain_meter().patch_all()
    wrapper = Client.__dict__["generate"]
    assert wrapper.__wrapped__ is original
    second.close()
    assert Client.__dict__["generate"] is wrapper
    Client().generate("hi")
    assert first.status()["counts"]["events"] == 1
    second.unpatch_all()
    assert Client.__dict__["generate"] is wrapper
    first.close()
    assert Client.__dict__["generate"] is original


def test_below_somebody_elses_wrapper_ours_passes_through(
    acme: None, events: list[LLMEvent], monkeypatch: pytest.MonkeyPatch, calling: Generate
) -> None:
    name = calling.__name__
    monkeypatch.setattr(Client, name, Client.__dict__[name])  # so that the end of the test restores it
    meter = Meter(MeterConfig(store="memory://", patches=["acme"], on_event=events.append)).patch_all()
    ours, others = Client.__dict__[name], []

    def tracer(*args: Any, **kwargs: Any) -> Any:
        others.append(kwargs)
        return ours(*args, **kwargs)

    monkeypatch.setattr(Client, name, tracer)
    calling(Client())
    meter.unpatch_all()
    assert Client.__dict__[name] is tracer
    assert calling(Client())["tokens_in"] == 100
    assert (len(others), len(events)) == (2, 1)

    meter.patch_all()
    calling(Client())
    meter.close()
    assert (len(others), len(events)) == (3, 2)
    assert Client.__dict__[name] is tracer


def test_an_attribute_that_was_inherited_is_inherited_again(
    acme: None, monkeypatch: pytest.MonkeyPatch, events: list[LLMEvent]
) -> None:
    class Derived(Client):
        pass

    class DerivedPatch(BasePatch):
        name = "derived"

        def _install(self) -> None:
            self._swap(Derived, "generate", self._make_sync_wrapper(Client.generate, extract))

    monkeypatch.setitem(PATCH_REGISTRY, "derived", DerivedPatch)
    with Meter(MeterConfig(store="memory://", on_event=events.append)) as meter:
        meter.patch("derived")
        Client().generate("hi")
        Derived().generate("hi")
    assert len(events) == 1
    assert "generate" not in Derived.__dict__


@pytest.mark.parametrize("method", ["patch", "unpatch"])
def test_an_unknown_name_is_an_error_with_the_known_ones(meter: Meter, method: str) -> None:
    known = "acme, anthropic, bedrock, cohere, deepseek, google, groq, .*mistral, openai, openrouter, together"
    with pytest.raises(ConfigurationError, match=f"'grok' is not known; known are: {known}"):
        getattr(meter, method)("grok")


def test_an_unknown_name_in_the_settings_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="'grok' is not known"):
        Meter(MeterConfig(store="memory://", patches=["openai", "grok"]))


@pytest.mark.parametrize("module", ["no_such_sdk", "no_such_parent.sdk"])
def test_an_sdk_that_is_not_installed_is_skipped_and_reported(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PATCH_REGISTRY, "absent", type("Absent", (BasePatch,), {"name": "absent", "module": module}))
    with Meter(MeterConfig(store="memory://", patches=["absent"])) as meter:
        assert meter.patch_all() is meter
        status = meter.status()["patches"]["absent"]
        assert (status["state"], status["version"]) == ("not installed", None)


def test_the_originals_of_the_openai_sdk_are_restored() -> None:
    from openai._base_client import AsyncAPIClient, SyncAPIClient

    def funnels() -> list[Any]:
        return [
            cls.__dict__[name] for cls in (SyncAPIClient, AsyncAPIClient) for name in ("request", "_process_response")
        ]

    before = funnels()
    with Meter(MeterConfig(store="memory://")) as meter:
        meter.patch("openai")
        assert all(now is not then for now, then in zip(funnels(), before, strict=True))
    assert all(now is then for now, then in zip(funnels(), before, strict=True))


def test_asyncio_is_restored_by_the_last_that_leaves(acme: None) -> None:
    before = asyncio.Runner.run
    with Meter(MeterConfig(store="memory://", patches=[])) as first:
        first.patch_all()
        with Meter(MeterConfig(store="memory://")) as second:
            second.patch("acme").patch("openai").unpatch("acme")
            assert asyncio.Runner.run is not before
        assert asyncio.Runner.run is not before
        second.patch("acme").unpatch("acme")
        assert asyncio.Runner.run is not before
        first.unpatch_all()
        assert asyncio.Runner.run is before


# -- in a process of its own ------------------------------------------------------------------------


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout


def test_importing_and_patching_import_no_sdk_and_start_no_thread() -> None:
    assert (
        python(
            """
            import sys, threading
            from token_limit_core import Meter, MeterConfig
            meter = Meter(MeterConfig(store="memory://")).patch_all()
            print([name for name in ("openai", "sqlalchemy", "requests", "django", "httpx2") if name in sys.modules])
            print(threading.active_count(), meter.status()["patches"]["openai"]["state"])
            """
        )
        == "[]\n1 waiting for import\n"
    )


USE_OPENAI = """
    import json
    from token_limit_core import Meter, MeterConfig
    events = []
    meter = Meter(MeterConfig(store="memory://", on_event=events.append))
    {before}
    import httpx2, openai
    {after}
    body = {{"id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "choices": [],
             "usage": {{"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}}}
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=body))
    client = openai.OpenAI(api_key="x", http_client=openai.DefaultHttpxClient(transport=transport))
    def call():
        client.chat.completions.create(model="gpt-4o-mini", messages=[{{"role": "user", "content": "hi"}}])
    call()
    print(len(events), meter.status()["patches"]["openai"]["state"])
"""


@pytest.mark.parametrize(
    ("before", "after", "printed"),
    [
        ("meter.patch_all()", "", "1 installed\n"),
        ("", "meter.patch_all()", "1 installed\n"),
        ("meter.patch_all().unpatch_all()", "", "0 off\n"),
        ("meter.patch_all().unpatch_all().patch_all()", "", "1 installed\n"),
        ("meter.patch_all()", "meter.unpatch_all()", "0 off\n"),
    ],
)
def test_an_sdk_imported_after_patching_is_hooked_on_import(before: str, after: str, printed: str) -> None:
    assert python(USE_OPENAI.format(before=before, after=after)) == printed


AT_THE_END = """
    from openai._base_client import SyncAPIClient
    patched = SyncAPIClient.request
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini",
             "choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": None}]}
    content = b"data: " + json.dumps(chunk).encode() + b"\\n\\n"
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=content))
    client = openai.OpenAI(api_key="x", http_client=openai.DefaultHttpxClient(transport=transport))
    stream = client.chat.completions.create(model="gpt-4o-mini", messages=[], stream=True)
    next(iter(stream))
"""


def test_at_the_end_of_the_process_the_sdk_is_restored_and_open_streams_are_settled() -> None:
    last = "import atexit; atexit.register(lambda: print(len(events), SyncAPIClient.request is patched))"
    code = USE_OPENAI.format(before="meter.patch_all()", after="") + AT_THE_END
    done = subprocess.run(
        [sys.executable, "-c", f"{last}\n{textwrap.dedent(code)}"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "1 installed\n2 False\n"
    assert "token_limit" not in done.stderr


def test_what_is_held_goes_by_the_prices_of_the_provider_that_a_patch_names(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    class Renamed(AcmePatch):
        name, provider = "renamed", "openai"

    class Looking(Client):
        def _answer(self) -> dict[str, Any]:
            held.extend(hold.held for hold in meter.store.holds())
            return super()._answer()

    monkeypatch.setitem(PATCH_REGISTRY, "renamed", Renamed)
    with Meter(MeterConfig(store="memory://", patches=["renamed"])).patch_all() as meter:
        meter.set_limit("a", 1)
        with meter.for_tenant("a"):
            Looking().generate("hi", model="gpt-4o-mini")
        assert meter.usage("a")[0].settled > 0
    assert len(held) == 1
    assert held[0] > 0
