"""The arrows of the architecture: which module may import which. `docs/architecture.md` draws them."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("token_limit_core", "token_limit_django", "token_limit_flask", "token_limit_starlette")

LAYERS = [
    ["token_limit_core.__main__", "token_limit_core.pytest_plugin"],
    ["token_limit_django", "token_limit_flask", "token_limit_starlette"],
    ["token_limit_core"],  # the public names
    ["token_limit_core.console", "token_limit_core.ingest", "token_limit_core.cli", "token_limit_core.workers",
     "token_limit_core.otel"],
    ["token_limit_core.meter"],
    ["token_limit_core.management"],
    ["token_limit_core.patches"],
    ["token_limit_core.calls"],
    ["token_limit_core.scope", "token_limit_core.config", "token_limit_core.delivery", "token_limit_core.exchange",
     "token_limit_core.bodies", "token_limit_core.refusal_log", "token_limit_core.upgrade"],
    ["token_limit_core.stores"],
    ["token_limit_core.errors", "token_limit_core.events", "token_limit_core.hosts", "token_limit_core.limits",
     "token_limit_core.money", "token_limit_core.pricing", "token_limit_core.usage", "token_limit_core.windows",
     "token_limit_core.wording"],
    ["token_limit_core.runtime"],
]  # fmt: skip
"""From top to bottom: a module imports from its own layer or from those below it."""

ANYWHERE = "token_limit_core.testing"
"""For tests of applications: above everything, and imported by nothing but the demo and the pytest plugin."""


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(name: str) -> set[str]:
    """Return the modules of ours that a module imports, inside functions and for annotations too."""
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {full if (full := f"{source}.{alias.name}") in MODULES else source for alias in node.names}
    return (found & MODULES.keys()) - {name}


def layer_of(name: str) -> int:
    ranks = [
        (len(prefix), rank)
        for rank, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if name == prefix or (name.startswith(f"{prefix}.") and prefix != "token_limit_core")
    ]
    assert ranks, f"{name} has no layer: put it into one"
    return max(ranks)[1]


def ours() -> list[str]:
    return [name for name in MODULES if not name.startswith(ANYWHERE)]


def test_imports_point_down_the_layers() -> None:
    wrong = [
        f"{name} -> {imported}"
        for name in ours()
        for imported in imports_of(name)
        if not imported.startswith(ANYWHERE) and layer_of(imported) < layer_of(name)
    ]
    assert wrong == []


def test_no_module_takes_part_in_an_import_circle() -> None:
    graph = {name: imports_of(name) for name in MODULES}
    done: set[str] = set()
    circles: list[list[str]] = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            circles.append([*path[path.index(name) :], name])
            return
        if name not in done:
            for imported in sorted(graph[name]):
                visit(imported, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    assert circles == []


def test_only_a_few_modules_stand_at_the_root_of_core() -> None:
    assert len(list((ROOT / "token_limit_core").glob("*.py"))) <= 18
