"""Per-tenant metering and spend limits for LLM calls. Start with `calls/flow.py`."""

from typing import Any

from .config import MeterConfig
from .delivery.signature import verify_signature
from .errors import (
    CallDoesNotFit,
    CallUnpriced,
    LimitExceededException,
    LimitExhausted,
    LimitUnverifiable,
    NoTenant,
    TenantBusy,
    TenantSuspended,
)
from .events import LLMEvent
from .limits import Decision, Limit, LimitStatus
from .limits.notices import Notice
from .meter import Meter
from .runtime.faults import ConfigurationError, StoreError, TokenLimitError
from .windows import PER_DAY, PER_MONTH

__all__ = [
    "PER_DAY",
    "PER_MONTH",
    "CallDoesNotFit",
    "CallUnpriced",
    "ConfigurationError",
    "Decision",
    "LLMEvent",
    "Limit",
    "LimitExceededException",
    "LimitExhausted",
    "LimitStatus",
    "LimitUnverifiable",
    "Meter",
    "MeterConfig",
    "NoTenant",
    "Notice",
    "StoreError",
    "TenantBusy",
    "TenantSuspended",
    "TokenLimitError",
    "__version__",
    "verify_signature",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":  # reading it takes longer than most imports
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("token-limit-suite")
        except PackageNotFoundError:  # a source tree on the path
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
