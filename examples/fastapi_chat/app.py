"""An ordinary chat: of metering it knows the middleware, the dependency that says who pays, and the usage line."""

import json
import os
import secrets
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from openai import AsyncOpenAI
from starlette.middleware.sessions import SessionMiddleware

from token_limit_core import Meter, MeterConfig
from token_limit_core.bodies import aend_refused_stream
from token_limit_core.money import show_usd
from token_limit_starlette import TokenLimitMiddleware, lifespan
from token_limit_starlette.dependencies import bind_tenant, refusal_responses

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("DEMO_DATA_DIR", HERE / ".demo"))
MODEL = "gpt-4o"
PASSWORD = "demo"
USERS = {"alice": "acme", "bob": "globex"}  # who works for which customer

meter = Meter(
    MeterConfig(
        store=f"sqlite:///{DATA / 'spend.db'}",
        # The demo's provider answers on loopback; this says what it is, so that it is priced.
        hosts={host: "openai" for host in [os.environ.get("DEMO_PROVIDER_HOST")] if host},
    )
)
app = FastAPI(title="Deskmate", lifespan=lifespan(meter))
app.add_middleware(TokenLimitMiddleware, meter=meter, upgrade_url="/plans/")
app.add_middleware(SessionMiddleware, secret_key=os.environ.get("DEMO_SECRET_KEY", "only for the demo"))
app.mount("/static", StaticFiles(directory=HERE.parent / "shared/static"), name="static")
templates = Jinja2Templates(directory=HERE / "templates")
client = AsyncOpenAI()


async def organization(request: Request) -> str:
    """Name the customer whose user is signed in; send everybody else to the sign-in page."""
    name = request.session.get("user")
    if name not in USERS:
        raise HTTPException(303, headers={"Location": str(request.url_for("sign_in_page"))})
    return USERS[name]


def check_form(request: Request, csrf: Annotated[str, Form()] = "") -> None:
    """Refuse a form that another site sends: it does not know the token of this browser's session."""
    token = request.session.get("csrf", "")
    if not token or not secrets.compare_digest(csrf.encode(), token.encode()):
        raise HTTPException(403, "This form has expired. Open its page again.")


OwnForm = Depends(check_form)
Organization = Annotated[str, Depends(bind_tenant(organization))]
Question = Annotated[str, Form()]


def ask(question, **options):
    """Send one question to the model."""
    messages = [
        {"role": "system", "content": "You are the assistant of a small software company. Answer briefly."},
        {"role": "user", "content": question},
    ]
    return client.chat.completions.create(model=MODEL, messages=messages, max_tokens=400, **options)


def show(request, template, **context):
    """Render a page; its forms have the session's token."""
    user, csrf = request.session.get("user"), request.session.setdefault("csrf", secrets.token_urlsafe())
    context |= {"user": user, "organization": USERS.get(user), "csrf": csrf}
    return templates.TemplateResponse(request, template, context)


@app.get("/", response_class=HTMLResponse)
def page(request: Request, organization: Organization):
    """Show the chat."""
    return show(request, "chat.html", limits=limits_of(organization))


@app.post("/", response_class=HTMLResponse, responses=refusal_responses, dependencies=[OwnForm])
async def page_without_script(request: Request, organization: Organization, question: Question):
    """Answer on a whole page, which is what the form gets without JavaScript."""
    answer = (await ask(question)).choices[0].message.content
    return show(request, "chat.html", limits=limits_of(organization), question=question, answer=answer)


@app.post("/send/", response_class=StreamingResponse, responses=refusal_responses, dependencies=[OwnForm])
async def send(organization: Organization, question: Question):
    """Stream the answer as server-sent events."""
    stream = await ask(question, stream=True)  # refused here: the status is still open

    async def events():
        async with stream:
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield f"data: {json.dumps(chunk.choices[0].delta.content)}\n\n"

    return StreamingResponse(aend_refused_stream(events(), "/plans/"), media_type="text/event-stream")


@app.get("/usage/", response_class=HTMLResponse)
def usage(request: Request, organization: Organization):
    """Show the usage line alone, which the chat fetches after each answer."""
    return show(request, "usage.html", limits=limits_of(organization))


@app.get("/plans/", response_class=HTMLResponse)
def plans(request: Request, organization: Organization):
    """Stand in for the page where a customer upgrades."""
    return show(request, "plans.html")


@app.get("/login/", response_class=HTMLResponse)
def sign_in_page(request: Request):
    """Ask who it is."""
    return show(request, "login.html")


@app.post("/login/", response_class=HTMLResponse, dependencies=[OwnForm])
def sign_in(request: Request, username: Annotated[str, Form()], password: Annotated[str, Form()]):
    """Sign a person in."""
    if username not in USERS or password != PASSWORD:
        return show(request, "login.html", failed=True)
    request.session.clear()  # with the token that was for somebody unknown
    request.session["user"] = username
    return RedirectResponse(request.url_for("page"), 303)


@app.post("/logout/", dependencies=[OwnForm])
def sign_out(request: Request):
    """Sign the person out."""
    request.session.clear()
    return RedirectResponse(request.url_for("sign_in_page"), 303)


def limits_of(organization):
    """Tell what a customer has spent of its limits."""
    return [
        {
            "spent": show_usd(status.spent_usd),
            "limit": show_usd(status.limit.limit_usd),
            "percent": int(100 * status.settled / max(status.limit.amount, 1)),
        }
        for status in meter.usage(organization)
    ]
