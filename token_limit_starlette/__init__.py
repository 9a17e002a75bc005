"""Spend limits for LLM calls in Starlette and FastAPI applications."""
