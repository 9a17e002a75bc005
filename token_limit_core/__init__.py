"""Per-tenant metering and spend limits for LLM calls. Start with `calls/flow.py`."""

from .config import MeterConfig
from .errors import (
    CallDoesNotFit,
    ConfigurationError,
    LimitExceededException,
    LimitExhausted,
    LimitUnverifiable,
    NoTenant,
    StoreError,
    TenantBusy,
    TokenLimitError,
)
from .events import LLMEvent
from .limits import PER_DAY, PER_MONTH, Decision, Limit, LimitStatus
from .meter import Meter

__all__ = [
    "PER_DAY",
    "PER_MONTH",
    "CallDoesNotFit",
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
    "StoreError",
    "TenantBusy",
    "TokenLimitError",
]
