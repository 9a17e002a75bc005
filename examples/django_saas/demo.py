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

HINT = """
  Chat    {url}/        alice or bob, password demo (alice soon hits a limit of $0.003)
  Admin   {url}/admin/  support, password demo (raise a limit under Token limits)

  Stop with Ctrl+C.
"""


@contextmanager
def site(data: Path, port: int = 0) -> Iterator[Site]:
    """Prepare and serve the site."""
    with prepared(HERE, data, port, DJANGO_SETTINGS_MODULE="saas.settings") as site:
        site.run("manage.py", "migrate", "--verbosity=0")
        site.run("manage.py", "load_demo", "--crowd")
        with site.serving("manage.py", "runserver", "--noreload", f"127.0.0.1:{site.port}"):
            yield site


if __name__ == "__main__":
    from walkthrough import walk

    main(HERE, site, walk, HINT)
