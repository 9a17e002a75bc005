"""Spend limits for LLM calls in Starlette and FastAPI applications."""

from .lifespan import lifespan
from .middleware import TokenLimitMiddleware
from .options import get_meter
from .responses import refusal_handler, upgrade_response

__all__ = ["TokenLimitMiddleware", "get_meter", "lifespan", "refusal_handler", "upgrade_response"]
