"""The upgrade response: the answer to a request whose LLM call was refused."""

from __future__ import annotations

import inspect
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from token_limit_core.errors import refusal_in
from token_limit_core.limits import Decision
from token_limit_core.runtime.faults import report
from token_limit_core.runtime.language import preferred
from token_limit_core.upgrade import render

from .options import options_of
from .resolvers import is_async


async def upgrade_response(connection: HTTPConnection, decision: Decision) -> Response:
    """Answer a refusal: `upgrade_response` if configured, else problem+json or the upgrade page, by Accept."""
    options = options_of(connection)
    if options.upgrade_response is not None:
        try:
            return await _custom(options.upgrade_response, connection, decision)
        except Exception:
            report("calling upgrade_response")
    accept = connection.headers.get("accept")
    rendered = render(
        decision,
        accept,
        upgrade_url=options.upgrade_url,
        support_url=options.support_url,
        back_url=connection.headers.get("referer"),
        page=options.upgrade_page,
        language=preferred(connection.headers.get("accept-language")),
    )
    return Response(rendered.body, rendered.status, rendered.headers)


async def refusal_handler(request: Request, error: Exception) -> Response:
    """Answer a refusal as an exception handler: `app.add_exception_handler(LimitExceededException, refusal_handler)`.

    It is only needed in an application whose other middleware turns every exception into an error response;
    otherwise `TokenLimitMiddleware` answers.
    """
    refused = refusal_in(error)
    if refused is None or request.scope["type"] != "http":  # the middleware closes WebSockets
        raise error
    return await upgrade_response(request, refused.decision)


async def _custom(answer: Any, connection: HTTPConnection, decision: Decision) -> Response:
    found = answer(connection, decision) if is_async(answer) else await run_in_threadpool(answer, connection, decision)
    response = await found if inspect.isawaitable(found) else found
    if not isinstance(response, Response):
        raise TypeError(f"upgrade_response: invalid result {response!r}; expected a Response")
    return response
