"""Which version of the server runs."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

_DISTRIBUTION: Final = "tq-server"
_PROJECT: Final = Path(__file__).resolve().parents[1] / "pyproject.toml"


@cache
def version() -> str:
    """The version of the server that runs.

    Returns:
        That of the installed distribution; of a tree that was never installed, what its
        project file says, which is where the other comes from; ``unknown`` without both.
    """
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return _of_the_tree(_PROJECT)


def _of_the_tree(path: Path) -> str:
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        return str(project["version"]) if project["name"] == _DISTRIBUTION else "unknown"
    except (OSError, ValueError, LookupError):
        return "unknown"
