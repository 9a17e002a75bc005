"""Flask: per-tenant metering and spend limits for LLM calls."""

from .extension import TokenLimit, get_meter

__all__ = ["TokenLimit", "get_meter"]
