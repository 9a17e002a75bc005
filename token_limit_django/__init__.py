"""Per-tenant metering and spend limits for the LLM calls of a Django project."""
