"""The life of one call. Start with `flow.py`."""
