"""SDKs that nothing meters: listed where they are installed, and warned about once when they are imported."""

from __future__ import annotations

import importlib
import logging
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from token_limit_core import Meter, MeterConfig
from token_limit_core.patches import PATCH_REGISTRY, BasePatch, unmetered, unmetered_sdks


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Install an SDK that nothing meters."""
    name = f"sdk_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(unmetered, "SDKS", (*unmetered.SDKS, unmetered.Sdk(f"dist-{name}", name, name)))
    yield name
    sys.modules.pop(name, None)


def told(caplog: pytest.LogCaptureFixture, sdk: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if sdk in record.getMessage()]


def test_the_status_lists_what_is_installed_without_importing_it(sdk: str) -> None:
    with Meter(MeterConfig(store="memory://")).patch_all() as meter:
        assert f"dist-{sdk}" in meter.status()["unmetered"]
    assert unmetered_sdks() == meter.status()["unmetered"]
    assert sdk not in sys.modules


def test_nothing_that_is_not_installed_is_listed(sdk: str) -> None:
    assert "zhipuai" not in unmetered_sdks()


def test_an_import_is_warned_about_once(sdk: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "token_limit"), Meter(MeterConfig(store="memory://")).patch_all() as meter:
        assert told(caplog, sdk) == []
        importlib.import_module(sdk)
        meter.patch("openai")
        (warning,) = told(caplog, sdk)
        assert f"the dist-{sdk} SDK" in meter.status()["unguarded"]
    assert "track_manually" in warning
    assert "on_unguarded" in warning


def test_one_that_was_imported_before_is_warned_about_as_the_meter_patches(
    sdk: str, caplog: pytest.LogCaptureFixture
) -> None:
    importlib.import_module(sdk)
    with caplog.at_level(logging.WARNING, "token_limit"), Meter(MeterConfig(store="memory://")).patch_all():
        assert len(told(caplog, sdk)) == 1


@pytest.mark.parametrize(("policy", "warnings"), [("ignore", 0), ("warn", 1), ("refuse", 1)])
def test_the_policy_decides_and_the_import_never_fails(
    policy: str, warnings: int, sdk: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = MeterConfig(store="memory://", on_unguarded=policy)
    with caplog.at_level(logging.WARNING, "token_limit"), Meter(config).patch_all():
        importlib.import_module(sdk)
    assert len(told(caplog, sdk)) == warnings


def test_nothing_is_said_when_no_meter_patches(sdk: str, caplog: pytest.LogCaptureFixture) -> None:
    Meter(MeterConfig(store="memory://")).patch_all().close()
    with caplog.at_level(logging.WARNING, "token_limit"):
        importlib.import_module(sdk)
    assert told(caplog, sdk) == []


@pytest.mark.parametrize("by", ["name", "module"])
def test_one_that_a_custom_patch_meters_is_not_among_them(
    by: str, sdk: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class OwnPatch(BasePatch):
        name = sdk if by == "name" else "own"
        module = None if by == "name" else sdk

        def _install(self) -> None: ...

    monkeypatch.setitem(PATCH_REGISTRY, OwnPatch.name, OwnPatch)
    assert f"dist-{sdk}" not in unmetered_sdks()
    with caplog.at_level(logging.WARNING, "token_limit"), Meter(MeterConfig(store="memory://")).patch_all():
        importlib.import_module(sdk)
    assert told(caplog, sdk) == []
