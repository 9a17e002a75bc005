"""The ingest endpoints in a Django project: `path("token-limit/", include("token_limit_django.ingest"))`."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from token_limit_core.ingest.endpoints import CHECKS, EVENTS, THRESHOLDS, Incoming, Ingest

from .meter import get_meter


@csrf_exempt
def endpoint(request: HttpRequest, name: str) -> HttpResponse:
    """Answer a service; the key in its headers is what counts, so no session and no CSRF token is asked for."""
    meter = get_meter()
    headers = {key.lower(): value for key, value in request.headers.items()}
    incoming = Incoming(request.method or "", name, request.GET.dict(), headers, request.read)
    rendered = Ingest(meter.store, meter.config.clock).answer(incoming)
    return HttpResponse(rendered.body, status=rendered.status, headers=rendered.headers)


app_name = "token_limit_ingest"
urlpatterns = [path(name, endpoint, {"name": name}, name=name) for name in (EVENTS, THRESHOLDS, CHECKS)]
