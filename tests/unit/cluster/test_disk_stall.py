"""A slow fsync must not hold the interpreter lock: the event loop goes on meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMPILER = shutil.which("cc")

SYNC_IN_A_THREAD = """
import sys
import threading
import time
from pathlib import Path

from cluster.disk import RocksDisk

directory, mark = Path(sys.argv[1]), Path(sys.argv[2])
disk = RocksDisk(directory, ["pending"])
disk.put("pending", b"key", b"value")
disk.write()
mark.touch()
thread = threading.Thread(target=disk.sync)
began = time.monotonic()
thread.start()
turns = 0
while thread.is_alive():
    turns += 1
    disk.put("raft_log", b"%d" % turns, b"x" * 1000)
    disk.write()
    thread.join(0.01)
print(turns, round((time.monotonic() - began) * 1000))
mark.unlink()
disk.close()
"""


@pytest.mark.skipif(COMPILER is None, reason="slowing the disk takes a C compiler")
def test_writes_go_on_while_a_sync_takes_half_a_second(tmp_path: Path) -> None:
    shim = tmp_path / "slow.so"
    source = ROOT / "tests" / "support" / "disk_slow.c"
    build = [COMPILER or "cc", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"]
    subprocess.run(build, check=True, timeout=60)
    mark = tmp_path / "slow"
    environment = {**os.environ, "LD_PRELOAD": str(shim), "SLOW_DISK": str(mark)}
    ran = subprocess.run(
        [sys.executable, "-c", SYNC_IN_A_THREAD, str(tmp_path / "db"), str(mark)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=ROOT,
        env=environment,
    )
    turns, took_ms = (int(word) for word in ran.stdout.split())
    assert took_ms >= 450, "the disk was not slow"
    # About fifty on an idle machine; one or two if the lock were held.
    assert turns >= 10
