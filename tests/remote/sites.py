"""Applications to be run by real servers: three that take reports, and two that report; settings are JSON in SITE."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flask import Flask, request
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from werkzeug.serving import run_simple

from token_limit_core import Meter, MeterConfig
from token_limit_core.ingest.endpoints import Ingest
from token_limit_core.stores import ledger
from token_limit_starlette.lifespan import lifespan

SITE: dict[str, Any] = json.loads(os.environ.get("SITE", "{}"))


def flask_ingest() -> Flask:
    """Take reports with Flask, in an app that limits its own forms to one kilobyte."""
    from token_limit_flask.ingest import ingest_blueprint

    _die_where_told()
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 1024
    app.register_blueprint(ingest_blueprint(Meter(MeterConfig(store=SITE["store"]))), url_prefix="/token-limit")
    return app


def starlette_ingest() -> Starlette:
    """Take reports with Starlette."""
    from token_limit_starlette.ingest import ingest_routes

    meter = Meter(MeterConfig(store=SITE["store"]))
    return Starlette(routes=[Mount("/token-limit", routes=list(ingest_routes(meter)))])


def django_ingest() -> Callable[..., Iterable[bytes]]:
    """Take reports with Django, in a project that limits its own forms to one kilobyte."""
    import django
    from django.conf import settings

    _die_where_told()
    kind, _, database = SITE["store"].partition(":")
    orm = {"token_limit": json.loads(database)} if kind == "django" else {}
    settings.configure(
        SECRET_KEY="for tests only",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["token_limit_django"],
        MIDDLEWARE=[
            "django.middleware.csrf.CsrfViewMiddleware",
            "token_limit_django.middleware.TokenLimitMiddleware",
        ],
        ROOT_URLCONF="tests.remote.django_urls",
        DATA_UPLOAD_MAX_MEMORY_SIZE=1024,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}, **orm},
        USE_TZ=True,
        TOKEN_LIMIT={} if orm else {"STORE": SITE["store"]},
    )
    django.setup()
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def reporter() -> Flask:
    """Report from Flask: each visit is a call."""
    meter = Meter(MeterConfig(**SITE["meter"]))
    app = Flask(__name__)

    @app.get("/")
    def spend() -> str:
        return _spend(meter)

    return app


def held_reporter() -> Flask:
    """Report from Flask at each visit, and if `early` while it is imported; a visit with `?held` waits for `go`."""
    meter, folder = Meter(MeterConfig(**SITE["meter"])), Path(SITE["folder"])
    early = [_spend(meter)] if SITE.get("early") else []
    app = Flask(__name__)

    @app.get("/")
    def spend() -> list[str]:
        if "held" in request.args:
            (folder / f"held-{uuid.uuid4()}").touch()
            while not (folder / "go").exists():
                time.sleep(0.02)
        return [*early, _spend(meter)]

    return app


def async_reporter() -> Starlette:
    """Report from Starlette; the recipe for uvicorn, which ends without running what is registered with `atexit`."""
    meter = Meter(MeterConfig(**SITE["meter"]))

    async def spend(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await run_in_threadpool(_spend, meter))

    return Starlette(routes=[Route("/", spend)], lifespan=lifespan(meter))


def main(site: str, port: str) -> None:
    """Serve one of them in this process alone."""
    run_simple("127.0.0.1", int(port), globals()[site](), threaded=True)


def _spend(meter: Meter) -> str:
    made = meter.track_manually(
        provider="openai", model="gpt-4o-mini", input_tokens=1, output_tokens=1, tenant_id="acme"
    )
    return made.event_id


def _die_where_told() -> None:
    """Be killed once inside the transaction of a batch, or between its commit and the answer, as `SITE` says."""
    marker, where = Path(SITE.get("die", "/nowhere")), SITE.get("where")

    def die() -> None:
        if marker.exists():
            marker.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    record_entries, record = ledger.record, Ingest._record

    def in_transaction(*args: Any) -> Any:
        done = record_entries(*args)
        if where == "in the transaction":
            die()
        return done

    def after_commit(*args: Any) -> Any:
        done = record(*args)
        if where == "after the commit":
            die()
        return done

    ledger.record = in_transaction
    Ingest._record = after_commit  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*sys.argv[1:])
