"""MkDocs hooks: the pages that are generated, and links to files that are not part of the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_OUTSIDE = re.compile(r"\]\(\.\./((?!docs/)[\w./-]+)(#[\w-]+)?\)")


def on_page_markdown(markdown: str, config: Any, **kwargs: Any) -> str:
    """Point links that leave `docs/` to the repository, where those files are."""
    return _OUTSIDE.sub(rf"]({config.repo_url}/blob/main/\1\2)", markdown)


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages: the changelog, the settings, the fields of an event, the commands and the messages."""
    from mkdocs.structure.files import File

    from docs import generated

    for path, text in generated.pages(ROOT).items():
        files.append(File.generated(config, path, content=text))
    return files
