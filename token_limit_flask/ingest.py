"""The ingest endpoints in a Flask application: `app.register_blueprint(ingest_blueprint(meter), url_prefix=...)`."""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug.wsgi import get_input_stream

from token_limit_core import Meter
from token_limit_core.ingest.endpoints import ENDPOINTS, Incoming, Ingest


def ingest_blueprint(meter: Meter, name: str = "token_limit_ingest") -> Blueprint:
    """Make the blueprint of the ingest endpoints, over the store of a Meter."""
    blueprint = Blueprint(name, __name__)
    ingest = Ingest.of(meter)

    def endpoint(endpoint: str) -> Response:
        headers = {key.lower(): value for key, value in request.headers.items()}
        body = get_input_stream(request.environ)  # not `request.stream`, which applies the app's MAX_CONTENT_LENGTH
        incoming = Incoming(request.method, endpoint, request.args.to_dict(), headers, body.read)
        rendered = ingest.answer(incoming)
        return Response(rendered.body, rendered.status, rendered.headers)

    for path in ENDPOINTS:
        # every method: the endpoint answers an unsupported one with 405
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        blueprint.add_url_rule(f"/{path}", path, endpoint, methods=methods, defaults={"endpoint": path})
    return blueprint
