"""Tools for tests of applications: a fake provider on loopback, and a clock that tests control."""

from .clock import Clock
from .faults import Pause
from .provider import FakeProvider, Received

__all__ = ["Clock", "FakeProvider", "Pause", "Received"]
