"""Settings of the tests that drive a browser."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.waiting import PATIENCE

expect.set_options(timeout=PATIENCE * 1000)
