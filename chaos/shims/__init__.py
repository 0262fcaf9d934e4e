"""Libraries that are preloaded into a node: C sources, compiled when they are needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

COMPILER: Final = shutil.which("cc")
NO_COMPILER: Final = "preloading a library takes a C compiler, and there is none (cc)"

DISK: Final = "disk_synced"
"""Keeps apart what was written and what a power loss would leave; makes fsync fail or slow."""
CLOCK: Final = "wall_clock"
"""Moves the wall clock."""


class ShimError(Exception):
    """A library cannot be made; the text says why."""


def build(name: str, place: Path) -> Path:
    """Compile a library into a directory; one that is there already is kept.

    Args:
        name: `DISK` or `CLOCK`.
        place: The directory.

    Raises:
        ShimError: There is no compiler, or it refuses.
    """
    if COMPILER is None:
        raise ShimError(NO_COMPILER)
    library = place / f"{name}.so"
    if library.exists():
        return library
    source = Path(__file__).with_name(f"{name}.c")
    command = [COMPILER, "-O2", "-Wall", "-Werror", "-shared", "-fPIC"]
    command += ["-o", str(library), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise ShimError(f"{source.name} does not compile: {done.stderr}")
    return library
