"""What a checkpoint writes, and when one is due."""

from __future__ import annotations

import hashlib

import pytest

from statemachine import (
    Advance,
    ChangeSettings,
    CommandType,
    Expire,
    Family,
    Record,
    Retire,
    checkpoint,
    encode_internal,
    join_entry,
)
from tests.unit.statemachine.player import Player, Replica, command, task_id


def of_tasks(records: list[Record]) -> list[tuple[str, bytes, bool]]:
    """The records without the machine's own: (family, key, is a put)."""
    return [(f, key, value is not None) for f, key, value in records if f != Family.METADATA]


def keys(records: list[Record], family: str) -> list[bytes]:
    return [key for f, key, _ in records if f == family]


@pytest.fixture
def player() -> Player:
    return Player()


def test_a_task_that_lived_between_two_checkpoints_is_written_once(player: Player) -> None:
    session = player.register()
    player.submit(task_id(1), payload=b"hello")
    player.settle(*player.claim_one(session))
    records = player.checkpoint()
    assert of_tasks(records) == [
        (Family.COMPLETED, task_id(1), True),
        (Family.PAYLOAD, task_id(1), True),
    ]
    assert (Family.PAYLOAD, task_id(1), b"hello") in records


def test_a_task_that_moved_is_deleted_from_its_old_family(player: Player) -> None:
    session = player.register()
    player.submit(task_id(1))
    player.checkpoint()
    id_, token = player.claim_one(session)
    assert of_tasks(player.checkpoint()) == [
        (Family.IN_PROGRESS, id_, True),
        (Family.PENDING, id_, False),
    ]
    player.settle(id_, token, outcome=1)
    assert of_tasks(player.checkpoint()) == [
        (Family.FAILED, id_, True),
        (Family.IN_PROGRESS, id_, False),
    ]
    player.ask(CommandType.CANCEL_TASK, id_, "")
    assert of_tasks(player.checkpoint()) == [
        (Family.COMPLETED, id_, True),
        (Family.FAILED, id_, False),
    ]


def test_a_task_that_came_back_is_rewritten_where_it_is(player: Player) -> None:
    session = player.register()
    player.submit(task_id(1))
    player.checkpoint()
    player.ask(CommandType.RELEASE, *player.claim_one(session))
    assert of_tasks(player.checkpoint()) == [(Family.PENDING, task_id(1), True)]


def test_what_did_not_change_is_not_written(player: Player) -> None:
    session = player.register()
    player.submit(task_id(1))
    id_, token = player.claim_one(session)
    player.ask(CommandType.PROGRESS, id_, token, 500, "half")
    player.checkpoint()
    player.ask(CommandType.PROGRESS, id_, token, 500, "half")
    player.submit(task_id(1))
    player.internal(Expire(((id_, token + 1),)))
    assert of_tasks(player.checkpoint()) == []
    player.ask(CommandType.PROGRESS, id_, token, 501, "half")
    assert of_tasks(player.checkpoint()) == [(Family.IN_PROGRESS, id_, True)]


def test_a_late_result_rewrites_an_archived_task_once_for_each_token(player: Player) -> None:
    session = player.register()
    player.submit(task_id(1))
    id_, token = player.claim_one(session)
    player.settle(id_, token)
    player.checkpoint()
    player.settle(id_, token + 1)
    player.settle(id_, token + 1)
    assert of_tasks(player.checkpoint()) == [(Family.COMPLETED, id_, True)]
    player.settle(id_, token + 1)
    assert of_tasks(player.checkpoint()) == []


def test_a_long_result_is_a_record_of_its_own_until_it_is_retired(player: Player) -> None:
    player.internal(ChangeSettings((("retention_ms", 0),)))
    session = player.register()
    results = {1: b"x" * 1024, 2: b"x" * 1025}
    for number, result in results.items():
        player.submit(task_id(number))
        player.settle(*player.claim_one(session), result=result)
    for _ in range(2):
        for number, result in results.items():
            status = player.machine.status("default", task_id(number))
            assert status is not None
            assert result == status["result"]
        player.restart()
    stored = player.leader.archive.records
    assert (Family.PAYLOAD, task_id(1) + b"r") not in stored
    assert stored[Family.PAYLOAD, task_id(2) + b"r"] == results[2]
    # A late call rewrites the record and must not lose the result.
    player.settle(task_id(2), 1)
    player.restart()
    assert stored[Family.PAYLOAD, task_id(2) + b"r"] == results[2]
    player.internal(Retire((task_id(1), task_id(2))))
    player.restart()
    assert [key for key in stored if key[0] != Family.METADATA] == []


def test_a_task_retired_before_it_was_written_leaves_only_its_stub(player: Player) -> None:
    player.internal(ChangeSettings((("retention_ms", 0),)))
    player.submit(task_id(1))
    player.ask(CommandType.CANCEL_TASK, task_id(1), "")
    player.internal(Retire((task_id(1),)))
    records = player.checkpoint()
    assert of_tasks(records) == []
    assert checkpoint.stub_key(task_id(1)) in keys(records, Family.METADATA)


def test_payloads_are_read_before_and_after_the_checkpoint(player: Player) -> None:
    player.submit(task_id(1), payload=b"hello")
    assert player.machine.payload(task_id(1)) == b"hello"
    player.checkpoint()
    assert player.machine.payload(task_id(1)) == b"hello"
    assert player.machine._state.changes.payloads == {}
    with pytest.raises(LookupError):
        player.machine.payload(task_id(2))


def test_a_checkpoint_is_due_after_a_thousand_entries(player: Player) -> None:
    for _ in range(999):
        player.internal(Advance())
    assert player.machine.digest_chain == (0, bytes(32))
    player.apply_entry(b"not an entry at all")
    assert player.machine.digest_chain[0] == 1000


def test_the_entries_between_checkpoints_are_a_setting_from_the_entry_that_changes_it_on(
    player: Player,
) -> None:
    for _ in range(150):
        player.internal(Advance())
    player.internal(ChangeSettings((("checkpoint_entries_max", 200),)))
    assert player.machine.digest_chain[0] == 0
    player.internal(ChangeSettings((("checkpoint_entries_max", 100),)))
    assert player.machine.digest_chain[0] == 152, "due at once: 152 entries are 100 and more"
    player.restart(follower_only=True)
    for _ in range(99):
        player.internal(Advance())
    assert player.machine.digest_chain[0] == 152
    player.internal(Advance())
    assert player.machine.digest_chain[0] == 252, "a replica restored from records agrees"


def test_a_checkpoint_is_due_after_64_mebibytes_of_entries_that_change_nothing(
    player: Player,
) -> None:
    player.internal(Advance())
    refused = bytes(checkpoint.LOG_BYTES_MAX // 4)
    for _ in range(3):
        player.apply_entry(refused)
    assert player.machine.digest_chain[0] == 0
    player.apply_entry(refused)
    assert player.machine.digest_chain[0] == 5


def test_a_seed_counts_only_where_nobody_set_anything(player: Player) -> None:
    player.internal(Advance())
    before = player.machine.seeded
    player.internal(ChangeSettings((("claim_max", 7), ("lease_ms", 5000)), is_seed=True))
    assert (before, player.machine.seeded) == (False, True)
    player.internal(ChangeSettings((("claim_max", 8), ("retention_ms", 1)), is_seed=True))
    assert (7, 5000) == (player.machine.settings.claim_max, player.machine.settings.lease_ms)
    assert player.machine.settings.retention_ms > 1
    player.restart()
    assert player.machine.seeded
    player.internal(ChangeSettings((("claim_max", 9),)))
    player.internal(ChangeSettings((("claim_max", 8),), is_seed=True))
    assert player.machine.settings.claim_max == 9


def test_a_checkpoint_is_due_after_two_thousand_records(player: Player) -> None:
    tasks = [[task_id(n), "q", "task", b"", {}] for n in range(999)]
    player.submit_batch(tasks)
    assert player.machine.digest_chain[0] == 0
    player.submit(task_id(999))
    assert player.machine.digest_chain[0] == 2


def test_a_checkpoint_is_due_after_two_mebibytes(player: Player) -> None:
    session = player.register()
    player.submit(task_id(1), payload=bytes(1024 * 1024))
    assert player.machine.digest_chain[0] == 0
    id_, token = player.claim_one(session)
    player.settle(id_, token, result=bytes(1024 * 1024))
    assert player.machine.digest_chain[0] == player.index


def test_records_are_in_canonical_order_and_the_chain_covers_them(player: Player) -> None:
    session = player.register()
    for number in (5, 3, 4, 1):
        player.submit(task_id(number))
    player.settle(*player.claim_one(session))
    player.claim(session)
    records = player.checkpoint()
    *covered, last = records
    assert [(f, key) for f, key, _ in covered] == sorted((f, key) for f, key, _ in covered)
    assert last[:2] == (Family.METADATA, checkpoint.CHECKPOINT_KEY)
    framed = b"".join(checkpoint.frame(*record) for record in covered)
    expected = hashlib.sha256(bytes(32) + framed).digest()
    assert player.machine.digest_chain == (player.index, expected)


def test_frames_of_different_records_differ() -> None:
    frames = [
        checkpoint.frame(Family.PENDING, b"a", b"b"),
        checkpoint.frame(Family.FAILED, b"a", b"b"),
        checkpoint.frame(Family.PENDING, b"ab", b""),
        checkpoint.frame(Family.PENDING, b"ab", None),
        checkpoint.frame(Family.PENDING, b"", b"ab"),
    ]
    assert len(frames) == len(set(frames))


def test_the_full_digest_does_not_depend_on_checkpoints(player: Player) -> None:
    never = Player()
    for one in (player, never):
        session = one.register()
        for number in range(6):
            one.submit(task_id(number), payload=bytes(number), delay_ms=number // 5)
        id_, token = one.claim_one(session)
        if one is player:
            one.checkpoint()
        one.settle(id_, token, result=bytes(2000))
        one.claim(session)
        if one is player:
            one.checkpoint()
            one.checkpoint()
    assert never.machine.digest() == player.machine.digest()
    never.apply(command(CommandType.CANCEL_TASK, 1, task_id(4), ""))
    player.apply(encode_internal(Advance()))
    assert never.machine.digest() != player.machine.digest()


def test_fresh_ids_are_not_looked_up_in_the_archive(player: Player) -> None:
    session = player.register()
    for number in range(10):
        player.submit(task_id(number))
        player.settle(*player.claim_one(session))
    player.checkpoint()
    player.internal(Advance())
    before = player.leader.archive.gets
    for number in range(10, 20):
        player.submit(task_id(number))
    assert before == player.leader.archive.gets
    player.submit(task_id(9))
    assert before < player.leader.archive.gets


def test_a_replica_whose_checkpoint_is_not_readable_stops() -> None:
    replica = Replica()
    entry = join_entry(1, [encode_internal(Advance())])
    replica.machine.apply(1, entry)
    replica.machine._state.changes.entries = replica.machine.settings.checkpoint_entries_max
    records = replica.machine.take_changes()
    assert records is not None
    with pytest.raises(AssertionError, match="a checkpoint must be in the archive"):
        replica.machine.apply(2, entry)
    replica.archive.write(records)
    replica.machine.apply(2, entry)
    replica.machine.apply(3, entry)
