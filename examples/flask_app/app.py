"""An ordinary chat: nothing in here knows that calls are metered, except TokenLimit itself and the usage line."""

import os
from pathlib import Path

from flask import Flask, Response, redirect, render_template, request, url_for
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user, logout_user
from flask_wtf import CSRFProtect
from openai import OpenAI

from token_limit_core.money import show_usd
from token_limit_flask import TokenLimit, get_meter

DATA = Path(os.environ.get("DEMO_DATA_DIR", Path(__file__).resolve().parent / ".demo"))
MODEL = "gpt-4o"
PASSWORD = "demo"

app = Flask(__name__, static_folder=Path(__file__).resolve().parent.parent / "shared/static")
app.config.update(
    SECRET_KEY=os.environ.get("DEMO_SECRET_KEY", "only for the demo"),
    SESSION_COOKIE_SAMESITE="Lax",
    TOKEN_LIMIT_STORE=f"sqlite:///{DATA / 'spend.db'}",
    TOKEN_LIMIT_USER_TENANT_ATTRIBUTES=["organization"],
    TOKEN_LIMIT_UPGRADE_URL="/plans/",
)
if "DEMO_PROVIDER_HOST" in os.environ:
    app.config["TOKEN_LIMIT_HOSTS"] = {os.environ["DEMO_PROVIDER_HOST"]: "openai"}
TokenLimit(app)

CSRFProtect(app)  # every form has a token
login_manager = LoginManager(app)
login_manager.login_view = "login"
client = OpenAI()


class User(UserMixin):
    """A person who works for a customer."""

    def __init__(self, name, organization):
        self.id = name
        self.organization = organization


USERS = {"alice": User("alice", "acme"), "bob": User("bob", "globex")}
login_manager.user_loader(USERS.get)


def ask(question, **options):
    """Send one question to the model."""
    messages = [
        {"role": "system", "content": "You are the assistant of a small software company. Answer briefly."},
        {"role": "user", "content": question},
    ]
    return client.chat.completions.create(model=MODEL, messages=messages, max_tokens=400, **options)


@app.route("/", methods=["GET", "POST"])
@login_required
def page():
    """Show the chat; without JavaScript the form posts here and gets a whole page back."""
    question = request.form.get("question", "")
    answer = ask(question).choices[0].message.content if question else ""
    return render_template("chat.html", limits=limits_of(current_user), question=question, answer=answer)


@app.post("/send/")
@login_required
def send():
    """Stream the answer."""
    stream = ask(request.form["question"], stream=True)  # refused here: the status is still open

    def body():
        with stream:
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    return Response(body(), content_type="text/plain; charset=utf-8")


@app.get("/usage/")
@login_required
def usage():
    """Show the usage line alone, which the chat fetches after each answer."""
    return render_template("usage.html", limits=limits_of(current_user))


@app.get("/plans/")
@login_required
def plans():
    """Stand in for the page where a customer upgrades."""
    return render_template("plans.html")


@app.route("/login/", methods=["GET", "POST"])
def login():
    """Sign a person in."""
    failed = False
    if request.method == "POST":
        user = USERS.get(request.form["username"])
        if user is not None and request.form["password"] == PASSWORD:
            login_user(user)
            return redirect(url_for("page"))
        failed = True
    return render_template("login.html", failed=failed)


@app.post("/logout/")
def logout():
    """Sign the person out."""
    logout_user()
    return redirect(url_for("login"))


def limits_of(user):
    """Tell what the user's organization has spent of its limits."""
    return [
        {
            "spent": show_usd(status.spent_usd),
            "limit": show_usd(status.limit.limit_usd),
            "percent": int(100 * status.settled / max(status.limit.amount, 1)),
        }
        for status in get_meter().usage(user.organization)
    ]
