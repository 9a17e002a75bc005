"""Spend limits for LLM calls in Flask applications."""
