"""Configuration: `MeterConfig`, and the one table of all settings (`table.py`)."""

from .meter_config import CONFIG_FIELDS, MeterConfig

__all__ = ["CONFIG_FIELDS", "MeterConfig"]
