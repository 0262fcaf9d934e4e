"""Which version of the server runs."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The installed version of the server, or ``unknown`` when run from a bare tree."""
    try:
        return metadata.version("tq-server")
    except metadata.PackageNotFoundError:
        return "unknown"
