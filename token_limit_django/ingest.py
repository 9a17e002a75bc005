"""The ingest endpoints in a Django project: `path("token-limit/", include("token_limit_django.ingest"))`."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt

from token_limit_core.errors import ConfigurationError
from token_limit_core.ingest.body import Read
from token_limit_core.ingest.endpoints import ENDPOINTS, Incoming, Ingest

from .conf import REMOTE, settings
from .meter import get_meter

if settings.STORE == REMOTE:
    raise ConfigurationError(
        "TOKEN_LIMIT['STORE']: invalid store for ingest; the backend at URL keeps its limits and ledger. "
        "Remove token_limit_django.ingest from the URLs, or leave STORE out to use the project's database"
    )


@csrf_exempt
def endpoint(request: HttpRequest, name: str) -> HttpResponse:
    """Answer a service. The API key in the headers authenticates it, so no session or CSRF token is needed."""
    headers = {key.lower(): value for key, value in request.headers.items()}
    incoming = Incoming(request.method or "", name, request.GET.dict(), headers, _body(request))
    rendered = Ingest.of(get_meter()).answer(incoming)
    return HttpResponse(rendered.body, status=rendered.status, headers=rendered.headers)


def _body(request: HttpRequest) -> Read:
    """Return the reader of the body; Django treats a chunked body, which has no Content-Length, as empty."""
    environ = getattr(request, "environ", {})
    if environ.get("wsgi.input_terminated") and not environ.get("CONTENT_LENGTH"):
        read: Read = environ["wsgi.input"].read
        return read
    return request.read


app_name = "token_limit_ingest"
urlpatterns: list[URLPattern] = [path(name, endpoint, {"name": name}, name=name) for name in ENDPOINTS]
