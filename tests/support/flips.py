"""A node's journal in real files, and what a start makes of it after a bit has flipped."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cluster.faults import DiskDamagedError, StartError
from cluster.identity import BootstrapState
from cluster.log import DamagedLog, Log
from cluster.recovery import Storage

FAMILIES = ("entries", "metadata")

Outcome = Literal["harmless", "amnesiac", "refused", "silent difference", "crash loop"]
State = tuple[object, ...]


@dataclass(frozen=True)
class Journal:
    """A data directory as a killed node left it, everything in it synced and marked.

    Attributes:
        files: Content by path within the directory.
        voters: The cluster it belongs to.
        state: Term, vote, entries and records in it.
    """

    files: dict[Path, bytes]
    voters: tuple[int, ...]
    state: State

    def named(self, pattern: str) -> list[Path]:
        """Files that match, with something in them."""
        return sorted(path for path in self.files if path.match(pattern) and self.files[path])


def make_journal(
    place: Path, entries: int, *, voters: tuple[int, ...] = (1, 2, 3), tables: bool = False
) -> Journal:
    """Write a journal.

    Args:
        place: Where it may lie meanwhile.
        entries: How many there are; a tenth of them is applied.
        voters: Node 1 is one of them.
        tables: It was closed in order, so the records are in tables, and opened again.
    """
    path = place / "data"
    storage = _open(path, voters)
    storage.record(
        replace(storage.identity, cluster_id=bytes(16), state=BootstrapState.BOOTSTRAPPED)
    )
    log = Log(storage.disk)
    log.save_vote(3, 1)
    for number in range(entries):
        log.append(b"entry %d" % number, 3)
        if number % 10 == 9:
            storage.disk.put("entries", b"%d" % number, b"x" * 10)
            log.save_applied(log.last_index, 3)
        storage.disk.write()
    if tables:
        storage.close()
        storage = _open(path, voters)
    storage.disk.sync()
    storage.write_mark(storage.mark(last_index=log.last_index, term=3))
    files = {
        file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }
    state = _state(storage)
    storage.close()
    shutil.rmtree(path)
    return Journal(files, voters, state)


def spread(count: int, size: int) -> Iterator[int]:
    """Yield up to `count` offsets spread evenly over a file, its last one included."""
    if count >= size:
        yield from range(size)
    else:
        yield from (number * (size - 1) // (count - 1) for number in range(count))


def flip_and_start(
    journal: Journal,
    file: Path,
    offset: int,
    *,
    place: Path,
    rng: random.Random,
    twice: bool = True,
) -> tuple[Outcome, str]:
    """Flip one bit of a copy and start the node from it.

    Args:
        journal: What is copied.
        file: In which file of it.
        offset: At which byte.
        place: Where the copy may lie meanwhile.
        rng: Draws the bit.
        twice: Start it a second time, which must end as the first.

    Returns:
        What came of it, and what there is to say about it.
    """
    content = bytearray(journal.files[file])
    content[offset] ^= 1 << rng.randrange(8)
    path = place / "copy"
    for name, whole in journal.files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if name == file else whole)
    path.chmod(0o700)
    try:
        first, said = _start(path, journal)
        again, repeated = _start(path, journal) if twice else (first, said)
    finally:
        shutil.rmtree(path)
    if again != first or (first == "refused" and said != repeated):
        return "crash loop", f"first {first}: {said}, then {again}: {repeated}"
    return first, said


def _start(path: Path, journal: Journal) -> tuple[Outcome, str]:
    """Do what a replica does with its storage before it says anything to anyone."""
    try:
        storage = _open(path, journal.voters)
    except StartError as error:
        return "refused", str(error)
    try:
        state = _trusted_state(storage)
    except StartError as error:
        return "refused", str(error)
    else:
        if storage.amnesiac:
            return "amnesiac", ""
        return ("harmless", "") if state == journal.state else ("silent difference", f"{state}")
    finally:
        storage.close()


def _trusted_state(storage: Storage) -> State:
    try:
        return _state(storage)
    except (DamagedLog, DiskDamagedError) as error:
        storage.replace_database(str(error))
        return _state(storage)


def _open(path: Path, voters: Sequence[int]) -> Storage:
    return Storage(path, node_id=1, voters=voters, families=FAMILIES)


def _state(storage: Storage) -> State:
    log = Log(storage.disk)
    records = tuple((name, *storage.disk.iterate(name)) for name in FAMILIES)
    identity = replace(storage.identity, incarnation=0)
    return log.term, log.voted_for, log.applied_index, tuple(log.entries), records, identity
