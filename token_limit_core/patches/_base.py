"""The older package's path of `BasePatch`, for code that was written for it."""

from __future__ import annotations

from .base import BasePatch

__all__ = ["BasePatch"]
