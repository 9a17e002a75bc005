"""For tests of applications that use this library: a fake provider on loopback and a clock one can turn."""

from .clock import Clock
from .faults import Pause
from .provider import FakeProvider, Received

__all__ = ["Clock", "FakeProvider", "Pause", "Received"]
