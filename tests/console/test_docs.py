"""The applications of docs/console.md, as they stand there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.pages import blocks
from token_limit_core import patches


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    before = patches.engines()

    def run(name: str) -> Any:
        (code,) = (block.code for block in blocks("docs/console.md") if block.title == name)
        names: dict[str, Any] = {"__name__": "documented"}
        exec(compile(code, name, "exec"), names)
        return names

    yield run
    for engine in patches.engines():  # those that the pages made: the SDKs are everybody's
        if engine not in before:
            patches.uninstall_all(engine)
            engine.close()


def test_the_flask_app_lets_staff_in_and_nobody_else(run: Any) -> None:
    app = run("flask_app.py")["app"]
    client = app.test_client()
    assert client.get("/token-limit/").status_code == 403
    with client.session_transaction() as session:
        session.update(email="ann@example.com", is_staff=True)
    found = client.get("/token-limit/")
    assert (found.status_code, "ann@example.com" in found.text) == (200, True)


def test_the_starlette_app_lets_staff_in_and_nobody_else(run: Any) -> None:
    names = run("starlette_app.py")
    let_in: list[bool] = []
    app = names["app"]

    async def sign_in(request: Any) -> Any:
        from starlette.responses import Response

        request.session.update(email="ann@example.com", is_staff=True)
        let_in.append(True)
        return Response()

    app.add_route("/login", sign_in)
    with TestClient(app) as client:
        assert client.get("/token-limit/").status_code == 403
        client.get("/login")
        found = client.get("/token-limit/")
        assert (found.status_code, "ann@example.com" in found.text) == (200, True)
    assert let_in == [True]
