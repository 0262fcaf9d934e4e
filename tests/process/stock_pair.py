"""Two stock SyncObj nodes under the same guard: shows that the guard bites."""

from __future__ import annotations

import sys
import time

from tests.process.guarded_node import forbid_unpickling


def run(own: str, other: str) -> None:
    """Tick a stock node that talks to its stock partner, for ten seconds at most."""
    forbid_unpickling()
    from pysyncobj import SyncObj, SyncObjConf  # noqa: PLC0415 - after the guard

    node = SyncObj(own, [other], conf=SyncObjConf(autoTick=False))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        node.doTick(0.05)


if __name__ == "__main__":
    run(*sys.argv[1:3])
