"""The settler's thread across a fork: the child starts afresh, and what the parent had queued is the parent's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from token_limit_core import Meter, MeterConfig

FORKING = """
    import os, sys, threading
    from token_limit_core import Meter, MeterConfig
    from token_limit_core.meter import engine_of
    meter = Meter(MeterConfig(store=sys.argv[1]))
    def record(who):
        engine_of(meter).settler.put(lambda: meter.track_manually(
            provider="openai", model="gpt-4o-mini", input_tokens=1, output_tokens=1, tenant_id=who))
    gate = threading.Event()
    engine_of(meter).settler.start()
    engine_of(meter).settler.put(gate.wait)
    record("parent")
    child = os.fork()
    if not child:
        record("child")
        os._exit(0 if meter.flush(20) else 1)
    assert os.waitpid(child, 0)[1] == 0
    gate.set()
    assert meter.flush(20)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_parent_and_child_settle_what_is_theirs_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    code = textwrap.dedent(FORKING)
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr

    with Meter(MeterConfig(store=url)) as meter:
        now = meter.config.clock() + 1
        assert [meter.store.spend(who, 0, now).calls for who in ("parent", "child")] == [1, 1]
