"""Room on the disk: low is said in time, ballast goes before a write fails and comes back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cluster.directory import DataDirectory
from cluster.faults import DiskFailedError, DiskFullError, StartError
from cluster.identity import BootstrapState
from cluster.recovery import Storage
from cluster.space import LOOK_INTERVAL_S, Room, SpaceKeeper, SpaceLimits, SpaceWatch
from tests.support.sim_directory import SimDirectory

MIB, GIB = 1 << 20, 1 << 30
LIMITS = SpaceLimits(ballast_bytes=100 * MIB, low_bytes=800 * MIB)
FAMILIES = ("pending",)


def room(free_mib: int) -> Room:
    return Room(free_mib * MIB, 100 * GIB)


@pytest.mark.parametrize(
    ("total_bytes", "low_bytes"), [(10 * GIB, GIB), (20 * GIB, GIB), (100 * GIB, 5 * GIB)]
)
def test_the_watermark_is_a_twentieth_of_the_disk_and_a_gibibyte_at_least(
    total_bytes: int, low_bytes: int
) -> None:
    assert SpaceLimits(low_bytes=None).low_of(total_bytes) == low_bytes


def test_low_begins_below_the_watermark_and_ends_well_above_it() -> None:
    watch = SpaceWatch(LIMITS)
    seen = []
    for free_mib in (2000, 800, 799, 801, 899, 900, 850, 799):
        watch.look(room(free_mib), 100 * MIB)
        seen.append(watch.low)
    assert seen == [False, False, True, True, True, False, False, True]


def test_a_ballast_that_is_given_up_does_not_count_as_room() -> None:
    watch = SpaceWatch(LIMITS)
    watch.look(room(799), 100 * MIB)
    assert watch.look(room(899), 0) == 0
    assert watch.low


def test_ballast_grows_step_by_step_while_the_disk_has_room_for_the_whole_of_it() -> None:
    watch = SpaceWatch(LIMITS)
    sizes = [0]
    while (wanted := watch.look(room(2000), sizes[-1])) != sizes[-1]:
        sizes.append(wanted)
    assert sizes[-1] == 100 * MIB
    assert all(larger - smaller <= 32 * MIB for smaller, larger in pairwise(sizes))
    assert watch.look(room(899), 0) == 0, "800 MiB would not be left with it"
    assert watch.look(room(1000), 0) == 32 * MIB


def test_ballast_is_given_up_when_less_than_half_of_it_is_left() -> None:
    watch = SpaceWatch(LIMITS)
    assert watch.look(room(50), 100 * MIB) == 100 * MIB
    assert watch.look(room(49), 100 * MIB) == 0
    assert watch.look(room(149), 0) == 0


def test_nothing_is_kept_where_nothing_is_asked_for() -> None:
    watch = SpaceWatch(SpaceLimits())
    assert watch.look(Room(0, GIB), 0) == 0
    assert not watch.low


def test_the_disk_is_looked_at_once_a_second() -> None:
    directory = SimDirectory(FAMILIES)
    keeper = SpaceKeeper(directory, LIMITS)
    keeper.tick(10.0)
    assert not keeper.low
    directory.fill(10 * MIB)
    keeper.tick(10.0 + LOOK_INTERVAL_S * 0.9)
    assert not keeper.low
    keeper.tick(10.0 + LOOK_INTERVAL_S)
    assert keeper.low


def test_a_real_ballast_takes_real_room_and_gives_it_back(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data")
    assert directory.ballast_bytes == 0
    for size_bytes in (MIB, 3 * MIB):
        directory.resize_ballast(size_bytes)
        assert directory.ballast_bytes == size_bytes
        assert (directory.path / "ballast").stat().st_blocks * 512 >= size_bytes
    directory.resize_ballast(0)
    directory.resize_ballast(0)
    assert directory.ballast_bytes == 0
    found = directory.room()
    assert 0 < found.free_bytes <= found.total_bytes
    directory.release()


# ------------------------------------------------------------------- with a whole storage


def open_storage(directory: SimDirectory, limits: SpaceLimits = LIMITS) -> Storage:
    return Storage(
        directory.path,
        node_id=1,
        voters=(1,),
        families=FAMILIES,
        open_disk=directory.open_disk,
        open_directory=directory.open,
        space=limits,
    )


def write(storage: Storage, size_bytes: int) -> None:
    storage.disk.put("pending", b"key", b"x" * size_bytes)
    storage.disk.write()


def is_low(storage: Storage) -> bool:
    return storage.space.low


@pytest.fixture
def directory() -> SimDirectory:
    """A bootstrapped node's, with all of its ballast, orderly closed."""
    made = SimDirectory(FAMILIES)
    storage = open_storage(made)
    storage.record(
        replace(storage.identity, cluster_id=bytes(16), state=BootstrapState.BOOTSTRAPPED)
    )
    for second in range(10):
        storage.space.tick(float(second))
    storage.close()
    assert made.ballast_bytes == LIMITS.ballast_bytes
    return made


@pytest.mark.parametrize("free_mib", [1_000, 20_000])
def test_ballast_goes_before_a_write_would_fail_between_two_looks(
    directory: SimDirectory, free_mib: int
) -> None:
    storage = open_storage(directory)
    directory.fill(free_mib * MIB)
    storage.space.tick(100.0)
    directory.fill(5)
    write(storage, 10)
    assert directory.ballast_bytes == 0
    storage.space.tick(101.0)
    assert is_low(storage)
    directory.free()
    for second in range(102, 110):
        storage.space.tick(float(second))
    assert not is_low(storage)
    assert directory.ballast_bytes == LIMITS.ballast_bytes


def test_ballast_goes_before_a_write_that_would_take_the_reserve(directory: SimDirectory) -> None:
    storage = open_storage(directory)
    directory.fill(60 * MIB)
    write(storage, 9 * MIB)
    assert directory.ballast_bytes == LIMITS.ballast_bytes
    write(storage, 2 * MIB)
    assert directory.ballast_bytes == 0


def test_ballast_goes_at_the_next_tick_of_a_node_that_writes_nothing(
    directory: SimDirectory,
) -> None:
    storage = open_storage(directory)
    storage.space.tick(100.0)
    directory.fill(0)
    storage.space.tick(100.0 + LOOK_INTERVAL_S / 50)
    assert directory.ballast_bytes == 0


class Reluctant(SimDirectory):
    """No small file finds room in it while the ballast is there, once it is full."""

    full = False

    def replace(self, name: str, content: bytes) -> None:
        self._refuse()
        super().replace(name, content)

    def overwrite(
        self, name: str, content: bytes, *, at_bytes: int = 0, durable: bool = False
    ) -> None:
        self._refuse()
        super().overwrite(name, content, at_bytes=at_bytes, durable=durable)

    def _refuse(self) -> None:
        if self.full and self.ballast_bytes:
            raise DiskFullError("no space left on the disk of data: free some")


SMALL_WRITES: dict[str, Callable[[Storage], object]] = {
    "mark": lambda storage: storage.write_mark(storage.mark()),
    "note": lambda storage: storage.write_note(storage.mark(), 1),
    "identity": lambda storage: storage.record(replace(storage.identity, cluster_id=bytes(16))),
    "voters": lambda storage: storage.note_voters((1, 2, 3)),
    "diverged": lambda storage: storage.mark_diverged("a story"),
    "amnesia": lambda storage: storage.forget("a story"),
}


@pytest.fixture
def reluctant() -> tuple[Reluctant, Storage]:
    directory = Reluctant(FAMILIES)
    storage = open_storage(directory)
    storage.record(replace(storage.identity, state=BootstrapState.BOOTSTRAPPED))
    for second in range(10):
        storage.space.tick(float(second))
    assert directory.ballast_bytes == LIMITS.ballast_bytes
    directory.full = True
    return directory, storage


@pytest.mark.parametrize("name", SMALL_WRITES)
def test_a_small_file_that_finds_no_room_is_written_where_the_ballast_was(
    reluctant: tuple[Reluctant, Storage], name: str
) -> None:
    directory, storage = reluctant
    SMALL_WRITES[name](storage)
    assert directory.ballast_bytes == 0


@pytest.mark.parametrize("name", ["mark", "note"])
def test_a_thread_that_finds_no_room_waits_for_the_ballast_another_one_is_giving_up(
    reluctant: tuple[Reluctant, Storage], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look gave the ballast up, and the mark failed while the file was being removed."""
    directory, storage = reluctant
    resize = directory.resize_ballast
    with ThreadPoolExecutor(1) as thread:
        writing: list[Future[object]] = []

        def remove_slowly(size_bytes: int) -> None:
            if not writing:
                writing.append(thread.submit(SMALL_WRITES[name], storage))
                wait(writing, timeout=0.3)  # too short a time for nothing but a failure
            resize(size_bytes)

        monkeypatch.setattr(directory, "resize_ballast", remove_slowly)
        directory.fill(0)
        storage.space.look()
        writing[0].result(timeout=20)


def test_ballast_that_cannot_be_given_up_counts_as_there_and_is_said_once(
    reluctant: tuple[Reluctant, Storage],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    directory, storage = reluctant

    def refuse(_size_bytes: int) -> None:
        raise StartError("no permission")

    with monkeypatch.context() as patch:
        patch.setattr(directory, "resize_ballast", refuse)
        directory.fill(0)
        for _ in range(5):
            storage.space.before_write(1)
    assert [record.getMessage() for record in caplog.records].count(
        "the room on the disk cannot be kept: no permission"
    ) == 1
    storage.space.before_write(1)
    assert directory.ballast_bytes == 0


def test_without_ballast_a_write_that_finds_no_room_fails(directory: SimDirectory) -> None:
    directory.resize_ballast(0)
    storage = open_storage(directory)
    directory.fill(5)
    with pytest.raises(DiskFailedError):
        write(storage, 10)


def test_a_node_that_starts_on_a_full_disk_gives_up_its_ballast(directory: SimDirectory) -> None:
    directory.fill(0)
    storage = open_storage(directory)
    write(storage, 10)
    assert directory.ballast_bytes == 0
    storage.close()
    directory.fill(0)
    with pytest.raises(DiskFullError):
        open_storage(directory)


def test_a_disk_that_is_low_from_the_start_gets_no_ballast() -> None:
    directory = SimDirectory(FAMILIES)
    directory.fill(850 * MIB)
    storage = open_storage(directory)
    for second in range(10):
        storage.space.tick(float(second))
    assert is_low(storage)
    assert directory.ballast_bytes == 0
