"""The names that applications may use. To add or remove one is a decision: change the lists below on purpose."""

from __future__ import annotations

import ast
import importlib

from tests import pages
from token_limit_core import Meter

EXPORTED = {
    "token_limit_core": [
        "PER_DAY", "PER_MONTH", "CallDoesNotFit", "CallUnpriced", "ConfigurationError", "Decision", "LLMEvent", "Limit",
        "LimitExceededException", "LimitExhausted", "LimitStatus", "LimitUnverifiable", "Meter", "MeterConfig",
        "NoTenant", "Notice", "StoreError", "TenantBusy", "TenantSuspended", "TokenLimitError", "__version__",
        "verify_signature",
    ],
    "token_limit_core.patches": ["PATCH_REGISTRY", "BasePatch"],
    "token_limit_core.testing": ["Clock", "FakeProvider", "Pause", "Received"],
    "token_limit_flask": ["TokenLimit", "check_limit", "get_meter"],
    "token_limit_starlette": ["TokenLimitMiddleware", "get_meter", "lifespan", "refusal_handler", "upgrade_response"],
}  # fmt: skip
"""What each module exports, as its `__all__`."""

DOCUMENTED = {
    "token_limit_core.bodies": ["aend_refused_stream", "end_refused_stream", "peek_response", "peek_stream"],
    "token_limit_core.otel": ["export_metrics"],
    "token_limit_core.workers.celery": ["install"],
    "token_limit_core.workers.dramatiq": ["install"],
    "token_limit_core.workers.rq": ["install"],
    "token_limit_core.workers.threads": ["ContextExecutor", "carry", "run"],
    "token_limit_core.errors": ["UnguardedCall"],
    "token_limit_core.patches._base": ["BasePatch"],
    "token_limit_core.upgrade": ["sse_error"],
    "token_limit_django.channels": ["TokenLimitMiddleware"],
    "token_limit_django.decorators": ["check_limit"],
    "token_limit_django.drf": ["exception_handler", "refusals_first"],
    "token_limit_django.meter": ["get_meter"],
    "token_limit_django.middleware": ["TokenLimitMiddleware"],
    "token_limit_django.signals": ["call_refused", "threshold_reached"],
    "token_limit_django.usage": ["UsageHeadersMiddleware"],
    "token_limit_flask.console": ["console"],
    "token_limit_flask.ingest": ["ingest_blueprint"],
    "token_limit_starlette.console": ["console"],
    "token_limit_starlette.dependencies": ["bind_tenant", "refusal_responses"],
    "token_limit_starlette.ingest": ["ingest_routes"],
}
"""What the documentation names in other modules."""

METER = [
    "adjust", "assign_plan", "async_check_limit", "async_deepseek_client", "async_openrouter_client",
    "check_limit", "close", "current_tenant_id", "deepseek_client", "erase_tenant", "flush", "for_tenant",
    "holds", "limits", "merge_tenants", "name_tenant", "openrouter_client", "patch", "patch_all", "preview",
    "reconcile", "refusals", "register_deepseek_client", "register_openrouter_client", "release",
    "remove_limit", "rename_tenant", "report", "reprice", "resume", "set_limit", "set_markup", "set_plan", "set_tenant",
    "status", "store", "suspend", "top_up", "track_manually", "unpatch", "unpatch_all", "usage",
]  # fmt: skip
"""The methods and properties of a Meter."""


def test_modules_export_what_is_listed() -> None:
    found = {module: sorted(importlib.import_module(module).__all__) for module in EXPORTED}
    assert found == {module: sorted(names) for module, names in EXPORTED.items()}


def test_a_meter_has_the_members_that_are_listed() -> None:
    assert sorted(name for name in dir(Meter) if not name.startswith("_")) == sorted(METER)


def test_every_listed_name_can_be_imported() -> None:
    for module, names in {**EXPORTED, **DOCUMENTED}.items():
        for name in names:
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_the_documentation_imports_only_what_is_listed() -> None:
    listed = {(module, name) for module, names in {**EXPORTED, **DOCUMENTED}.items() for name in names}
    for page in pages.PAGES:
        for block in pages.blocks(page, language="python"):
            assert imports_of(block.code) <= listed, page


def imports_of(code: str) -> set[tuple[str, str]]:
    """Return the names of ours that code imports, each with its module."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError:  # a part of a file, such as an indented line of settings
        return set()
    return {
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("token_limit_")
        for alias in node.names
    }
