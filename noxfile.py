"""The test matrix: the Pythons found on this machine, each with the oldest and the newest frameworks it can run.

Beside it, what is metered on older releases of the provider SDKs, and together with what else hooks or wraps them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False

# pyenv's shims refuse a version that is installed but not activated, so look behind them.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
os.environ["PATH"] = os.pathsep.join([*map(str, PYENV.glob("versions/3.*/bin")), os.environ["PATH"]])

CONSTRAINTS = Path("constraints.txt")
PARALLEL = ["--numprocesses", "auto", "--maxprocesses", "4", "--dist", "worksteal"]
OLDEST = {"Django": "Django~=5.2.0", "Flask": "Flask~=3.0.0"}
"""The oldest releases of frameworks that are supported: Django's LTS, and the first Flask that works at all."""

FRAMEWORKS = ["tests/console", "tests/frameworks"]
# The ends first: where time is short, what is cut off has the least to say. Python 3.11 stops at Django's LTS.
MATRIX = [("3.13", "newest"), ("3.11", "oldest"), ("3.12", "newest"), ("3.13", "oldest"), ("3.12", "oldest")]


@nox.session
@nox.parametrize("python,frameworks", MATRIX)
def tests(session: nox.Session, frameworks: str) -> None:
    """Run the tests without the browser's; with the oldest frameworks only theirs, if the rest runs with the newest."""
    constraints = CONSTRAINTS
    if frameworks == "oldest":
        lines = [line for line in CONSTRAINTS.read_text().splitlines() if line.partition("==")[0] not in OLDEST]
        constraints = Path(session.create_tmp(), "constraints.txt")
        constraints.write_text("\n".join([*lines, *OLDEST.values()]))
    session.install("--editable", ".[test]", "--constraint", str(constraints))
    where = FRAMEWORKS if frameworks == "oldest" and (session.python, "newest") in MATRIX else []
    session.run("python", "-m", "pytest", *PARALLEL, "-m", "not browser", *where, *session.posargs)


TESTING = [".[django,postgresql,redis]", "pytest", "pytest-asyncio", "pytest-django", "pytest-timeout"]
"""What the tests of SDKs need beside the SDKs."""

RELEASES = {
    "oldest": ["anthropic[bedrock,vertex]==0.111.*", "google-genai==1.50.*", "openai==1.109.*"],
    "middle": ["anthropic[bedrock,vertex]==1.17.*", "google-genai==2.9.*", "openai==2.43.*"],
    "latest": ["anthropic[bedrock,vertex]", "google-genai", "groq", "openai", "together"],
}
"""Releases of the SDKs that the suite is proved on, together as one application has them; the latest are pinned."""

LANGCHAIN = "tests/contract/sdk/test_langchain.py"
OTHER_SDKS = [
    f"tests/contract/sdk/test_{name}.py"
    for name in (
        "bedrock",
        "cohere",
        "corpus_cohere",
        "corpus_mistral",
        "cut_bodies",
        "litellm",
        "lost_attempts",
        "makers",
        "mistral",
        "other_batches",
        "strict",
    )  # fmt: skip
]
"""Tests of SDKs that are not among the releases."""

OF_NO_RELEASE = [
    "tests/contract/sdk/test_concurrency.py",
    "tests/contract/sdk/test_enforcement.py",
    "tests/contract/sdk/test_siblings.py",
    "tests/contract/sdk/test_store_away.py",
]
"""Tests of other SDKs, and of what happens behind the hooks: no release of these SDKs makes a difference to them."""


@nox.session(tags=["compatibility"])
@nox.parametrize("releases", list(RELEASES))
def sdks(session: nox.Session, releases: str) -> None:
    """Run the contract of the provider SDKs on their old and new releases."""
    constraints, left_out = CONSTRAINTS, [LANGCHAIN, *OTHER_SDKS]
    if releases != "latest":
        left_out += OF_NO_RELEASE
        constraints = Path(session.create_tmp(), "constraints.txt")
        lines = CONSTRAINTS.read_text().splitlines()
        free = ("anthropic==", "google-genai==", "openai==", "websockets==")  # old SDKs need an old websockets, too
        constraints.write_text("\n".join(line for line in lines if not line.startswith(free)))
    session.install("--editable", *TESTING, "pytest-xdist", *RELEASES[releases], "--constraint", str(constraints))
    ignored = [f"--ignore={path}" for path in left_out]
    session.run("python", "-m", "pytest", *PARALLEL, "tests/contract/sdk", *ignored, *session.posargs)


INTEGRATIONS = [
    "instructor",
    "langchain-anthropic",
    "langchain-google-genai",
    "langchain-openai",
    "opentelemetry-instrumentation-anthropic",
    "opentelemetry-instrumentation-openai",
    "opentelemetry-sdk",
    "pydantic-ai-slim[anthropic,google,openai]",
    "sentry-sdk",
]


@nox.session(tags=["compatibility"])
def integrations(session: nox.Session) -> None:
    """Call the SDKs through LangChain, pydantic-ai and instructor, and beside Sentry and OpenTelemetry."""
    constraints = "tests/integrations/constraints.txt"
    session.install("--editable", *TESTING, *INTEGRATIONS, "--constraint", constraints)
    session.run("python", "-m", "pytest", "tests/integrations", LANGCHAIN, *session.posargs)


@nox.session
def published_client(session: nox.Session) -> None:
    """Install the published client in an environment of its own, and run it against our endpoints."""
    session.install("token-limit==0.1.10", "openai", "aiohttp", "--constraint", str(CONSTRAINTS))
    env = {"TOKEN_LIMIT_PUBLISHED_CLIENT": str(Path(session.bin, "python"))}
    session.run(sys.executable, "-m", "pytest", "tests/remote/test_published_client.py", env=env, external=True)


@nox.session
@nox.parametrize("release", ["2.0.31", "2.0.26"])
def uwsgi(session: nox.Session, release: str) -> None:
    """Compile uWSGI, its newest release and the last without threads of its own, and end its workers."""
    if release == "2.0.26" and sys.version_info >= (3, 13):
        session.skip("this release does not compile on Python 3.13")
    session.install("--editable", ".[flask,starlette]", f"uwsgi=={release}", "--constraint", str(CONSTRAINTS))
    session.run(sys.executable, "-m", "pytest", "tests/remote/test_uwsgi.py", external=True)


@nox.session
def stores(session: nox.Session) -> None:
    """Spend one limit from eight processes of 16 threads, and sum 100,000 events, on every store; some minutes."""
    session.install("--editable", ".[test]", "--constraint", str(CONSTRAINTS))
    env = {"TOKEN_LIMIT_TEST_MATRIX": "1"}
    files = ["tests/process/test_matrix.py", "tests/contract/test_many_events.py"]
    session.run("python", "-m", "pytest", *files, *session.posargs, env=env)


@nox.session
def types(session: nox.Session) -> None:
    """Check that pyright knows the type of 95 % of the public names of each package."""
    tools = ["basedpyright==1.40.2", "django-stubs"]
    session.install("--editable", ".[django,fastapi,flask]", *tools, "--constraint", str(CONSTRAINTS))
    for package in ("token_limit_core", "token_limit_django", "token_limit_flask", "token_limit_starlette"):
        options = ["--verifytypes", package, "--ignoreexternal", "--outputjson"]
        report = session.run("basedpyright", *options, silent=True, success_codes=[0, 1])  # 1: not every type is known
        symbols = json.loads(str(report))["typeCompleteness"]["symbols"]
        # Django writes the migrations, without annotations.
        public = [one for one in symbols if one["isExported"] and ".migrations." not in one["name"]]
        unknown = [one["name"] for one in public if not one["isTypeKnown"]]
        session.log(f"{package}: {1 - len(unknown) / len(public):.1%} of {len(public)} public names")
        if len(unknown) > 0.05 * len(public):
            session.error(f"{package}: pyright does not know the types of {', '.join(unknown)}")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the ingest endpoints for a minute, or for as long as `-- -max_total_time=SECONDS` says."""
    try:
        session.install("--editable", ".", "atheris==3.0.0", "--constraint", str(CONSTRAINTS))
    except CommandFailed:
        session.skip("atheris cannot be installed: it is made for Linux and Python 3.11 to 3.13")
    folder = str(Path(session.create_tmp()).absolute())  # an input that breaks it is left there, too
    limits = ["-max_total_time=60", "-len_control=0", "-max_len=400", "-print_final_stats=1"]
    words = [f"-artifact_prefix={folder}/", *limits, *session.posargs]
    session.run("python", "tests/fuzz/ingest.py", *words, env={"TMPDIR": folder})
