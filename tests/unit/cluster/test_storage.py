"""What a start makes of a data directory: whole, shorter than it was, damaged."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.directory import DataDirectory
from cluster.disk import RocksDisk
from cluster.faults import DiskDamagedError, ForeignDirectoryError, StartError
from cluster.identity import BootstrapState
from cluster.recovery import Storage
from cluster.watermark import NOTE_FILE, HighWater, newer, read_mark

ID = bytes(range(16))
VOTERS = (1, 2, 3)
FAMILIES = ["pending"]


def open_storage(
    path: Path, voters: Sequence[int] = VOTERS, families: Sequence[str] = FAMILIES
) -> Storage:
    return Storage(path, node_id=1, voters=voters, families=families)


def bootstrapped(path: Path, voters: Sequence[int] = VOTERS, writes: int = 5) -> None:
    """Leave a directory that took part, with a mark that covers all its writes."""
    storage = open_storage(path, voters)
    state = BootstrapState.BOOTSTRAPPED
    storage.record(replace(storage.identity, cluster_id=ID, state=state))
    for number in range(writes):
        storage.disk.put("pending", b"%d" % number, b"x")
        storage.disk.write()
    storage.disk.sync()
    storage.write_mark(storage.mark(last_index=writes, term=3))
    storage.close()


def test_a_start_counts_up_and_moves_the_mark_to_what_it_found(tmp_path: Path) -> None:
    bootstrapped(tmp_path)
    storage = open_storage(tmp_path)
    assert storage.identity.incarnation == 2
    assert not storage.amnesiac
    assert read_mark((tmp_path / "high_water").read_bytes()) == HighWater(2, 5)
    storage.close()


def remove_database(path: Path) -> None:
    for file in (path / "db").iterdir():
        file.unlink()


def raise_mark(path: Path) -> None:
    (path / "high_water").write_bytes(HighWater(1, 6, 9, 4).to_bytes())


def damage_mark(path: Path) -> None:
    (path / "high_water").write_bytes(b"junk")


def remove_mark(path: Path) -> None:
    (path / "high_water").unlink()


def damage_database(path: Path) -> None:
    (path / "db" / "CURRENT").write_text("junk\n")


LOSSES = [remove_database, raise_mark, damage_mark, remove_mark, damage_database]


@pytest.mark.parametrize("lose", LOSSES)
def test_whatever_was_lost_the_node_knows_that_it_may_have_forgotten(
    tmp_path: Path, lose: object
) -> None:
    bootstrapped(tmp_path)
    assert callable(lose)
    lose(tmp_path)
    for _ in range(2):  # and it still knows after another start
        storage = open_storage(tmp_path)
        assert storage.amnesiac
        storage.close()


@pytest.mark.parametrize("lose", [remove_database, raise_mark, damage_mark, damage_database])
def test_a_single_node_refuses_and_changes_nothing(tmp_path: Path, lose: object) -> None:
    bootstrapped(tmp_path, voters=[1])
    assert callable(lose)
    lose(tmp_path)
    mark = (tmp_path / "high_water").read_bytes()
    for _ in range(2):
        with pytest.raises(DiskDamagedError, match=r"a single node has no copy elsewhere"):
            open_storage(tmp_path, voters=[1])
    assert (tmp_path / "high_water").read_bytes() == mark
    assert not (tmp_path / "quarantine").exists()


def test_a_single_node_goes_on_without_a_mark_when_it_was_removed(tmp_path: Path) -> None:
    bootstrapped(tmp_path, voters=[1])
    raise_mark(tmp_path)
    remove_mark(tmp_path)
    storage = open_storage(tmp_path, voters=[1])
    assert not storage.amnesiac
    assert dict(storage.disk.iterate("pending")).keys() == {b"%d" % n for n in range(5)}
    storage.close()


@pytest.mark.parametrize("lose", [remove_database, raise_mark, damage_mark, damage_database])
def test_a_single_node_that_grew_has_copies_elsewhere(tmp_path: Path, lose: object) -> None:
    bootstrapped(tmp_path, voters=[1])
    record_voters(tmp_path, (1,), (1, 2, 3))
    assert callable(lose)
    lose(tmp_path)
    storage = open_storage(tmp_path, voters=[1])
    assert storage.amnesiac
    storage.close()


@pytest.mark.parametrize("lose", [remove_database, raise_mark, damage_mark, damage_database])
def test_the_last_node_of_a_cluster_that_shrank_refuses_like_a_single_one(
    tmp_path: Path, lose: object
) -> None:
    bootstrapped(tmp_path)
    record_voters(tmp_path, VOTERS, (1,))
    assert callable(lose)
    lose(tmp_path)
    with pytest.raises(DiskDamagedError, match=r"a single node has no copy elsewhere"):
        open_storage(tmp_path)
    assert not (tmp_path / "quarantine").exists()


def test_a_learner_of_a_single_voter_is_not_alone(tmp_path: Path) -> None:
    bootstrapped(tmp_path, voters=())
    record_voters(tmp_path, (), (2,))
    damage_database(tmp_path)
    storage = open_storage(tmp_path, voters=())
    assert storage.amnesiac
    storage.close()


def record_voters(path: Path, founders: Sequence[int], voters: tuple[int, ...]) -> None:
    storage = open_storage(path, founders)
    storage.note_voters(voters)
    storage.close()


def test_voters_are_written_when_they_change_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrapped(tmp_path)
    storage = open_storage(tmp_path)
    written: list[str] = []
    replace_file = DataDirectory.replace

    def watched(directory: DataDirectory, name: str, content: bytes) -> None:
        written.append(name)
        replace_file(directory, name, content)

    monkeypatch.setattr(DataDirectory, "replace", watched)
    storage.note_voters(VOTERS)
    assert written == []
    storage.note_voters((1, 3))
    storage.note_voters((1, 3))
    assert written == ["identity"]
    storage.close()


def test_the_newer_of_mark_and_note_counts_and_a_torn_note_does_not() -> None:
    mark, note = HighWater(7, 100, 90, 3, b"vote"), HighWater(7, 140, 120, 3)
    assert newer(mark, note.to_bytes()) == note
    assert newer(mark, None) == mark
    assert newer(mark, HighWater(7, 99).to_bytes()) == mark
    assert newer(mark, HighWater(6, 500).to_bytes()) == mark, "of a start before this mark"
    whole = note.to_bytes()
    older = HighWater(7, 130, 110, 3).to_bytes()
    for cut in range(1, len(whole)):
        assert newer(mark, whole[:cut]) == mark
        torn = newer(mark, whole[:cut] + older[cut:])
        assert torn in {mark, note, HighWater(7, 130, 110, 3)}


def test_a_note_is_overwritten_in_place_and_takes_no_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(tmp_path)
    inode = (tmp_path / NOTE_FILE).stat().st_ino

    def no_fsync(_handle: int) -> None:
        raise AssertionError("an fsync for a note")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", no_fsync)
        for sequence in range(100):
            storage.write_note(storage.mark(last_index=sequence, term=1), sequence)
    found = (tmp_path / NOTE_FILE).read_bytes()
    assert HighWater.from_bytes(found) == HighWater(1, 99, 99, 1)
    assert (tmp_path / NOTE_FILE).stat().st_ino == inode
    storage.close()
    with pytest.raises(StartError, match="let go of"):
        storage.write_note(HighWater(1, 1), 1)


def test_a_note_finds_room_where_the_ballast_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(tmp_path)
    given: list[bool] = []
    pwrite = os.pwrite

    def full(handle: int, content: bytes, offset: int) -> int:
        if not given:
            raise OSError(28, "No space left on device")
        return pwrite(handle, content, offset)

    monkeypatch.setattr(storage.space, "give_up", lambda: given.append(True))
    monkeypatch.setattr("os.pwrite", full)
    storage.write_note(HighWater(1, 7), 9)
    assert HighWater.from_bytes((tmp_path / NOTE_FILE).read_bytes()).sequence == 9
    storage.close()


def test_an_amnesia_flag_that_is_lost_again_shows(tmp_path: Path) -> None:
    bootstrapped(tmp_path)
    storage = open_storage(tmp_path)
    storage.forget("a story")
    mark = read_mark((tmp_path / "high_water").read_bytes())
    assert mark.sequence == storage.disk.sequence
    storage.close()


def test_the_message_of_a_loss_names_both_numbers(tmp_path: Path) -> None:
    bootstrapped(tmp_path, voters=[1])
    raise_mark(tmp_path)
    text = r"holds 5 batches, 6 were durable, up to entry 9 in term 4; .* remove high_water"
    with pytest.raises(DiskDamagedError, match=text):
        open_storage(tmp_path, voters=[1])


def test_a_database_without_an_identity_is_not_touched(tmp_path: Path) -> None:
    bootstrapped(tmp_path)
    (tmp_path / "identity").unlink()
    with pytest.raises(ForeignDirectoryError, match=r"holds a database but no identity file"):
        open_storage(tmp_path)
    assert not (tmp_path / "identity").exists()


def test_a_node_that_never_took_part_has_nothing_to_forget(tmp_path: Path) -> None:
    open_storage(tmp_path).close()
    remove_mark(tmp_path)
    damage_database(tmp_path)
    storage = open_storage(tmp_path)
    assert not storage.amnesiac
    storage.close()


def test_a_refused_start_lets_go_of_the_directory(tmp_path: Path) -> None:
    bootstrapped(tmp_path, voters=[1])
    raise_mark(tmp_path)
    with pytest.raises(DiskDamagedError):
        open_storage(tmp_path, voters=[1])
    remove_mark(tmp_path)
    open_storage(tmp_path, voters=[1]).close()


def test_the_flag_is_durable_before_the_mark_comes_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrapped(tmp_path)
    remove_database(tmp_path)

    write_mark = Storage.write_mark

    def power_cut(storage: Storage, mark: HighWater) -> None:
        write_mark(storage, mark)
        raise StartError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write_mark", power_cut)
        with pytest.raises(StartError, match="power cut"):
            open_storage(tmp_path)
    storage = open_storage(tmp_path)
    assert storage.amnesiac
    storage.close()


@pytest.mark.parametrize("noted", [False, True], ids=["marked", "noted"])
def test_random_damage_of_the_log_is_noticed_or_harmless(
    tmp_path: Path, rng: random.Random, noted: bool
) -> None:
    """A flipped bit anywhere in the write-ahead log: a shorter prefix is never silent."""
    path = tmp_path / "data"
    bootstrapped(path, writes=0)
    storage = open_storage(path)
    for number in range(40):
        storage.disk.put("pending", b"%d" % number, b"x" * 50)
        storage.disk.write()
    sequence = storage.disk.sync()
    if noted:  # killed before the mark was due
        storage.write_note(storage.mark(), sequence)
    else:
        storage.write_mark(storage.mark())
    log = max((path / "db").glob("*.log"), key=lambda file: file.stat().st_size)
    files = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    storage.close()
    noticed = 0
    for trial in range(30):
        copy = tmp_path / f"copy-{trial}"
        for file, content in files.items():
            place = copy / file.relative_to(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            damaged = bytearray(content)
            if file == log:
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            place.write_bytes(damaged)
        recovered = open_storage(copy)
        whole = len(list(recovered.disk.iterate("pending"))) == 40
        assert whole or recovered.amnesiac, f"trial {trial} lost records silently"
        noticed += recovered.amnesiac
        recovered.close()
    assert noticed > 20


def test_the_rocks_disk_is_what_storage_opens_by_default(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    assert isinstance(storage.disk, RocksDisk)
    storage.close()


def test_a_directory_with_files_of_somebody_else_is_refused_and_left_as_it_is(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(ForeignDirectoryError, match=r"thesis\.txt"):
        DataDirectory(tmp_path)

    assert 0o755 == tmp_path.stat().st_mode & 0o777
    assert ["thesis.txt"] == [path.name for path in tmp_path.iterdir()]


def test_an_empty_volume_with_its_lost_and_found_is_taken(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()

    DataDirectory(tmp_path).release()

    assert 0o700 == tmp_path.stat().st_mode & 0o777
