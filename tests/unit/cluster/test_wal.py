"""A flipped record type that would keep RocksDB busy for ever is taken out before it opens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.disk import RocksDisk
from cluster.wal import disarm

ROOT = Path(__file__).parents[3]
OPEN = """
import sys
from pathlib import Path
from cluster.disk import RocksDisk
from cluster.faults import DiskDamagedError

try:
    disk = RocksDisk(Path(sys.argv[1]), ["pending"])
    print(disk.sequence)
    disk.close()
except DiskDamagedError:
    print("damaged")
"""


def make_database(path: Path, *sizes: int) -> None:
    """Write a batch of each size, and end as a killed process does."""
    disk = RocksDisk(path / "alive", ["pending"])
    for number, size in enumerate(sizes):
        disk.put("pending", b"%d" % number, b"x" * size)
        disk.write()
    disk.sync()
    (path / "db").mkdir()
    for file in (path / "alive").iterdir():
        (path / "db" / file.name).write_bytes(file.read_bytes())
    disk.close()


def the_log(path: Path) -> Path:
    return max((path / "db").glob("*.log"), key=lambda file: file.stat().st_size)


def headers(content: bytes) -> Iterator[int]:
    """Where the headers of records are."""
    at = 0
    while at + 7 <= len(content):
        if (1 << 15) - at % (1 << 15) < 7:
            at += (1 << 15) - at % (1 << 15)
            continue
        yield at
        at += 7 + int.from_bytes(content[at + 4 : at + 6], "little")


def set_type(file: Path, header: int, kind: int) -> None:
    content = bytearray(file.read_bytes())
    content[header + 6] = kind
    file.write_bytes(content)


def test_a_sound_database_is_left_as_it_is(tmp_path: Path) -> None:
    make_database(tmp_path, 10, 100_000, 10, 32_700, 10)
    before = {file: file.read_bytes() for file in (tmp_path / "db").iterdir()}
    assert {before[the_log(tmp_path)][at + 6] for at in headers(before[the_log(tmp_path)])} == {
        1,
        2,
        3,
        4,
    }
    disarm(tmp_path / "db")
    disarm(tmp_path / "no such directory")
    assert before == {file: file.read_bytes() for file in (tmp_path / "db").iterdir()}


@pytest.mark.parametrize("kind", [5, 6, 7, 8, 11, 131])
def test_a_type_that_is_not_used_here_is_replaced_wherever_it_stands(
    tmp_path: Path, kind: int
) -> None:
    make_database(tmp_path, 10, 100_000, 10)
    file = the_log(tmp_path)
    sound = file.read_bytes()
    for header in headers(sound):
        file.write_bytes(sound)
        set_type(file, header, kind)
        disarm(tmp_path / "db")
        assert {
            at for at, (a, b) in enumerate(zip(sound, file.read_bytes(), strict=True)) if a != b
        } == {header + 6}
        assert file.read_bytes()[header + 6] == 0x7F


@pytest.mark.parametrize("name", ["*.log", "MANIFEST-*"])
@pytest.mark.parametrize("kind", [5, 8, 11])
def test_no_start_hangs_on_a_type_of_a_log_that_is_used_again(
    tmp_path: Path, name: str, kind: int
) -> None:
    make_database(tmp_path, 10, 10, 10)
    file = max((tmp_path / "db").glob(name), key=lambda file: file.stat().st_size)
    *_, last = headers(file.read_bytes())
    set_type(file, last, kind)
    ran = subprocess.run(  # a process of its own: nothing could end the loop within this one
        [sys.executable, "-c", OPEN, str(tmp_path / "db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=ROOT,
    )
    assert ran.stdout.split() == (["2"] if name == "*.log" else ["damaged"])
