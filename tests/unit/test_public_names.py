"""The public names of the packages. Adding or removing one is a decision: change the list below on purpose."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "token_limit_core": {
        "PER_DAY", "PER_MONTH", "CallDoesNotFit", "CallUnpriced", "ConfigurationError", "Decision", "LLMEvent", "Limit",
        "LimitExceededException", "LimitExhausted", "LimitStatus", "LimitUnverifiable", "Meter", "MeterConfig",
        "NoTenant", "StoreError", "TenantBusy", "TenantSuspended", "TokenLimitError", "__version__",
    },
    "token_limit_core.console": {},
    "token_limit_core.patches": {},
    "token_limit_core.stores": {},
    "token_limit_core.testing": {},
    "token_limit_django": set(),
    "token_limit_flask": {"TokenLimit", "check_limit", "get_meter"},
    "token_limit_starlette": {"TokenLimitMiddleware", "get_meter", "lifespan", "refusal_handler", "upgrade_response"},
}  # fmt: skip
