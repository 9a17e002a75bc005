"""Flask: per-tenant metering and spend limits for LLM calls."""

from .decorators import check_limit
from .extension import TokenLimit, get_meter

__all__ = ["TokenLimit", "check_limit", "get_meter"]
