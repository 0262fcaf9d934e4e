"""The commands of the node as an operator runs them: each a process of its own."""

from __future__ import annotations

import subprocess
import sys

from deploy.local.cluster import ROOT


def tq_node(*arguments: str, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    """Run `tq-node` to its end."""
    command = [sys.executable, "-m", "node", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
    )
