"""Run the example: `demo.py` serves it, `demo.py --check` walks through it without a person.

Without OPENAI_API_KEY a fake provider on loopback answers; with it, the real one does, and costs real (little) money.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from shared.serving import Site, main, prepared  # noqa: E402

LIMITS = {"acme": "0.003", "globex": "5"}
HINT = """
  Chat  {url}/  alice or bob, password demo (alice soon hits a limit of $0.003)

  Raise the limit meanwhile:
    token-limit --store {store} set acme 0.02

  Stop with Ctrl+C.
"""


@contextmanager
def site(data: Path, port: int = 0) -> Iterator[Site]:
    """Prepare and serve the site."""
    with prepared(HERE, data, port, FLASK_APP="app") as site:
        if not (data / "spend.db").exists():
            for tenant, amount in LIMITS.items():
                site.run("-m", "flask", "token-limit", "set", tenant, amount)
        with site.serving("-m", "flask", "run", f"--port={site.port}"):
            yield site


if __name__ == "__main__":
    from walkthrough import walk

    main(HERE, site, walk, HINT)
