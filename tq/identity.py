"""What a worker tells the cluster of itself, for people to read."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import socket


def default_name() -> str:
    """Return host name and process id, in the characters a name may have."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:100] or "worker"
    return f"{host}-{os.getpid()}"


def capabilities() -> dict[str, str]:
    """Return what the cluster may tell people about this worker."""
    try:
        version = importlib.metadata.version("tq")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"  # run from a source tree
    return {"tq": version, "python": platform.python_version(), "pid": str(os.getpid())}
