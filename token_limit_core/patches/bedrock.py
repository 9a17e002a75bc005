"""Bedrock's runtime through botocore, which boto3 and aiobotocore build their clients from.

Every operation of every client passes through `BaseClient._make_api_call`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias

from ..calls.estimates import ATTACHMENT, measure
from ..calls.flight import Flight
from ..calls.flow import land
from ..calls.request import Outcome, Request
from ..errors import UnguardedCall
from ..runtime.faults import report
from .base import Arguments, BasePatch
from .converse import ConverseReader, InvokeReader, read_converse, read_invoked
from .frames import FrameReader, follow_async_frames, follow_frames
from .in_flight import acounting_attempts, counting_attempts
from .reading import fields_of, text
from .surfaces import max_output, unguarded

FollowFrames: TypeAlias = Callable[[Any, Flight, FrameReader], None]

RUNTIME = "bedrock-runtime"

CONVERSE, INVOKE = "converse", "invoke_model"

OPERATIONS = {
    "Converse": CONVERSE,
    "ConverseStream": CONVERSE,
    "InvokeModel": INVOKE,
    "InvokeModelWithResponseStream": INVOKE,
}
"""The operations that are metered, and the endpoint that their events name."""

PAID_ELSEWHERE = re.compile(r"^(Invoke|Retrieve|Rerank|Generate|Optimize|Start|ApplyGuardrail|Create\w+Job$)")
"""Operations of Bedrock's services that cost money and are not metered: agents, flows, jobs, guardrails."""

SERVICES = frozenset({RUNTIME, "bedrock", "bedrock-agent-runtime"})

BOUNDS = (
    "maxTokens", "max_tokens", "max_tokens_to_sample", "max_completion_tokens", "max_gen_len", "max_new_tokens",
    "maxTokenCount",
)  # fmt: skip

CONVERSE_BOUND = ("inferenceConfig", "maxTokens")

INVOKE_BOUNDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("anthropic.claude", ("max_tokens",)),
    ("meta.llama", ("max_gen_len",)),
    ("mistral.", ("max_tokens",)),
    ("amazon.nova", CONVERSE_BOUND),
    ("amazon.titan-text", ("textGenerationConfig", "maxTokenCount")),
    ("openai.", ("max_completion_tokens",)),
)
"""Where the body of InvokeModel has the bound on its output, by the family of the model.

Source: "Inference request parameters and response fields for foundation models" in the Bedrock user guide, 2026.
"""

PLACE = re.compile(r"^(apac|ca|sa|us-gov)\.")
"""Inference profiles of places that the price list does not name: their price is that of the others, `us.`."""


class BedrockPatch(BasePatch):
    """Guards Converse and InvokeModel, streamed or not, of clients made by boto3, botocore and aiobotocore."""

    name = "bedrock"
    module: ClassVar[str] = "botocore"
    lazy = True
    guards: ClassVar[tuple[str, ...]] = (
        "converse",
        "converse_stream",
        "invoke_model",
        "invoke_model_with_response_stream",
    )
    not_guarded: ClassVar[tuple[str, ...]] = (
        "invoke_model_with_bidirectional_stream", "start_async_invoke", "apply_guardrail", "invoke_guardrail_checks",
        "bedrock-agent-runtime", "bedrock.create_model_invocation_job",
    )  # fmt: skip

    def _install(self) -> None:
        self._when_imported("botocore.client", self._hook)
        self._when_imported("botocore.endpoint", self._hook_attempts)
        self._when_imported("aiobotocore.client", self._hook_async)
        self._when_imported("aiobotocore.endpoint", self._hook_async_attempts)

    def _hook(self, module: Any) -> None:
        call = module.BaseClient._make_api_call
        self._swap(module.BaseClient, "_make_api_call", self._guard(call, self._recognise, _arrive))

    def _hook_async(self, module: Any) -> None:
        call = module.AioBaseClient._make_api_call
        self._swap(module.AioBaseClient, "_make_api_call", self._aguard(call, self._recognise, _arrive_async))

    def _hook_attempts(self, module: Any) -> None:
        send = module.Endpoint._send
        self._swap(module.Endpoint, "_send", counting_attempts(send, _sends_for))

    def _hook_async_attempts(self, module: Any) -> None:
        send = module.AioEndpoint._send
        self._swap(module.AioEndpoint, "_send", acounting_attempts(send, _sends_for))

    def _clamp(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        client, operation, parameters = _arguments(*args, **kwargs)
        if request.endpoint == INVOKE:
            body = json.dumps(with_bound(request.body, request.bounds, request.clamped))
            return (client, operation, {**parameters, "body": body.encode()}), {}
        return (client, operation, with_bound(parameters, request.bounds, request.clamped)), {}

    def _recognise(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
        """Return the request of a billable operation; a fault of ours lets it pass unmetered.

        Raises `UnguardedCall` for one that costs money out of our sight, if the policy is to refuse those.
        """
        try:
            client, operation, parameters = _arguments(*args, **kwargs)
            service = client.meta.service_model.service_name
            if service not in SERVICES:
                return None
            if service == RUNTIME and operation in OPERATIONS:
                return _request(operation, parameters)
            if PAID_ELSEWHERE.match(operation):
                unguarded(self.engine(), f"{operation} of boto3's {service}")
        except UnguardedCall:
            raise
        except Exception:
            report("recognising a call")
        return None


def _sends_for(client: Any, endpoint: Any) -> bool:
    return getattr(client, "_endpoint", None) is endpoint


def _arguments(client: Any, operation_name: str, api_params: Mapping[str, Any]) -> tuple[Any, str, Mapping[str, Any]]:
    """Name the arguments of `_make_api_call`."""
    return client, operation_name, api_params


def _request(operation: str, parameters: Mapping[str, Any]) -> Request:
    model, endpoint = str(parameters.get("modelId", "")), OPERATIONS[operation]
    sent = _document_of(parameters.get("body")) if endpoint == INVOKE else parameters
    request = Request("aws", model, endpoint, operation.endswith("Stream"), body=sent)
    request.bounds = invoke_bound(model, sent) if endpoint == INVOKE else CONVERSE_BOUND
    request.size, request.unseen = (ATTACHMENT, 0) if sent is None else measure(dict(sent))
    request.max_output = max_output_of(model, fields_of(sent))
    request.priced_as = price_name(model)
    tier = parameters.get("serviceTier")
    request.service_tier = text(tier if endpoint == INVOKE else fields_of(tier).get("type"))
    return request


def invoke_bound(model: str, body: Any) -> tuple[str, ...]:
    """Return the path of the bound in a body of InvokeModel; empty for a family, or a protocol, that is not known."""
    if "prompt" in fields_of(body) and "anthropic." in model:  # the older protocol, whose bound is required
        return ()
    return next((path for family, path in INVOKE_BOUNDS if family in price_name(model)), ())


def with_bound(body: Mapping[str, Any], path: tuple[str, ...], bound: int | None) -> dict[str, Any]:
    """Copy a body with the bound on its output set."""
    name, *deeper = path
    inner = with_bound(fields_of(body.get(name)), tuple(deeper), bound) if deeper else bound
    return {**body, name: inner}


def price_name(model: str) -> str:
    """Return the name that the price list may know: that in an ARN, with a place that it names."""
    return PLACE.sub("us.", model.rpartition("/")[2])


def _document_of(body: Any) -> Mapping[str, Any] | None:
    """Read the JSON body of InvokeModel; None for a file, which only the SDK may read."""
    if not isinstance(body, (str, bytes, bytearray)):
        return None
    try:
        document = json.loads(body)
    except ValueError:  # the service refuses it
        return {}
    return document if isinstance(document, dict) else {}


def max_output_of(model: str, body: Mapping[str, Any]) -> int | None:
    """Return the most tokens that a call may generate; Nova, Titan and Converse keep the bound one level down."""
    if "embed" in model:
        return 0
    for part in (body, body.get("inferenceConfig"), body.get("textGenerationConfig")):
        bound = max_output(fields_of(part), BOUNDS)
        if bound is not None:
            return bound
    return None


def _arrive(
    flight: Flight, answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException | None
) -> Any:
    """Read an answer, or follow its stream.

    The body of InvokeModel is read before the caller reads it, who gets the same object with the same bytes. An error
    of reading is raised here, after it is settled: the service had answered.
    """
    if error is not None or flight.request.stream:
        return _opened(flight, answer, error, follow_frames)
    document = None
    if flight.request.endpoint == INVOKE:
        body = answer["body"]
        try:
            content = body.read()
        except Exception as failure:
            land(flight, Outcome(error=failure))
            raise
        body._raw_stream, body._amount_read = io.BytesIO(content), 0
        document = _document_of(content)
    return _read(answer, document)


def _arrive_async(
    flight: Flight, answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException | None
) -> Any:
    """Do what `_arrive` does for aiobotocore; of InvokeModel, whose body is still to come, the headers are read."""
    if error is not None or flight.request.stream:
        return _opened(flight, answer, error, follow_async_frames)
    return _read(answer, None)


def _read(answer: Any, document: Mapping[str, Any] | None) -> Outcome:
    try:
        outcome = read_invoked(document, _headers(answer)) if "body" in answer else read_converse(answer)
        outcome.request_id = _request_id(answer) or outcome.request_id
        return outcome
    except Exception:
        report("reading an answer")
        return Outcome()


def _opened(flight: Flight, answer: Any, error: BaseException | None, follow: FollowFrames) -> Any:
    """Follow a stream that was opened, or read what an error leaves."""
    if error is not None:
        return Outcome(error=error, answered=False, request_id=_request_id(getattr(error, "response", None)))
    flight.engine.settler.start()
    if flight.request.endpoint == INVOKE:
        follow(answer["body"], flight, InvokeReader(_request_id(answer)))
    else:
        follow(answer["stream"], flight, ConverseReader(_request_id(answer)))
    return answer


def _headers(answer: Any) -> Mapping[str, str]:
    headers: Mapping[str, str] = fields_of(fields_of(answer).get("ResponseMetadata")).get("HTTPHeaders") or {}
    return headers


def _request_id(answer: Any) -> str | None:
    return text(fields_of(fields_of(answer).get("ResponseMetadata")).get("RequestId"))
