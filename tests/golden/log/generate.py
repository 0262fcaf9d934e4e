"""Writes the golden log: entries that use every command, and the digests they lead to.

    python -m tests.golden.log.generate

Every release must replay `v1.bin` to the digests of `v1.digests`. Running this anew is
right only while no release has written entries of version 1.

v1.bin holds entries one after the other, each behind its length (4 bytes, big
endian); the first has index 1. v1.digests has one line per entry: index and full digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from statemachine import (
    POSITION_BITS,
    Advance,
    ChangeSettings,
    CommandType,
    Expire,
    ExpireSessions,
    Retire,
    encode_internal,
    join_entry,
)
from tests.unit.statemachine.player import START_MS, Player, command, task_id

FOLDER = Path(__file__).parent
LOG = FOLDER / "v1.bin"
DIGESTS = FOLDER / "v1.digests"

Scene = Iterator[tuple[int, list[bytes]]]

CHECKPOINT_EVERY = 7
"""Entries between the checkpoints that the replay forces."""

OPTIONS: dict[str, int] = {
    "priority": 200,
    "retry_max": 1,
    "retry_base_ms": 50,
    "retry_cap_ms": 60,
    "lost_max": 0,
    "lease_ms": 45_000,
    "timeout_ms": 1234,
}


def token(index: int, position: int = 0) -> int:
    """Return the token, place or session that this position of this entry gives."""
    return (index << POSITION_BITS) + position


def script() -> Scene:
    """Give (time after the start, commands) of each entry."""
    yield from submitted_and_claimed()
    yield from settled_and_retired()


def submitted_and_claimed() -> Scene:
    """Give entries 1 to 6."""
    kind, first = CommandType, token(2)
    seed = (("checkpoint_entries_max", 500), ("claim_max", 100), ("retention_ms", 5000))
    late = (("claim_max", 1), ("lease_ms", 1000))
    yield (
        0,
        [
            encode_internal(ChangeSettings(seed, is_seed=True)),
            encode_internal(ChangeSettings(late, is_seed=True)),
            encode_internal(ChangeSettings((("queue_depth_threshold", 1000),))),
        ],
    )
    yield (
        1,
        [
            command(
                kind.REGISTER_WORKER, 1, b"A" * 16, "first", ["a", "b"], {"gpu": "0", "zone": "é"}
            ),
            command(kind.REGISTER_WORKER, 2, b"B" * 16, "second", [], {}),
        ],
    )
    yield (
        2,
        [
            command(kind.SUBMIT_TASK, 3, task_id(1), "a", "plain", b"payload", {}),
            command(kind.SUBMIT_TASK, 4, task_id(2), "a", "all", b"\x00\xff", OPTIONS),
            command(kind.SUBMIT_TASK, 5, task_id(3), "b", "later", b"", {"delay_ms": 100}),
            command(kind.SUBMIT_TASK, 6, task_id(1), "a", "plain", b"payload", {}),
            command(kind.SUBMIT_TASK, 7, task_id(1), "a", "plain", b"conflict", {}),
        ],
    )
    batch = [[task_id(n), "b", "many", b"x" * n, {"priority": n}] for n in range(10, 16)]
    yield 3, [command(kind.SUBMIT_BATCH, 8, batch)]
    yield 4, [command(kind.CLAIM_TASK, 9, first, ["a", "b"], 4, 0)]
    yield 4, [command(kind.CLAIM_TASK, 9, first, ["a", "b"], 4, 0)]


def settled_and_retired() -> Scene:
    """Give the other entries."""
    kind, second = CommandType, token(2, 1)
    yield (
        5,
        [
            command(kind.EXTEND, 10, task_id(1), token(5, 1), 60_000),
            command(kind.PROGRESS, 11, task_id(1), token(5, 1), 333, "a third"),
            command(kind.RELEASE, 12, task_id(15), token(5, 2)),
        ],
    )
    yield (
        6,
        [
            command(kind.TASK_RESULT, 13, task_id(2), token(5), 1, b"", "first failure"),
            command(kind.TASK_RESULT, 14, task_id(14), token(5, 3), 2, b"detail", "hopeless"),
            command(kind.TASK_RESULT, 15, task_id(14), token(9), 0, b"", ""),
        ],
    )
    yield 200, [encode_internal(Advance())]
    yield 201, [command(kind.CLAIM_TASK, 16, second, ["a", "b"], 3, 1000)]
    yield 202, [encode_internal(Expire(((task_id(2), token(10)), (task_id(1), token(1)))))]
    yield (
        203,
        [
            command(kind.TASK_RESULT, 17, task_id(1), token(5, 1), 0, b"r" * 2000, ""),
            command(kind.CANCEL_TASK, 18, task_id(10), "not needed"),
            command(kind.CANCEL_TASK, 19, task_id(99), ""),
            b"\xc0",
        ],
    )
    yield 204, [encode_internal(ExpireSessions((second, token(1))))]
    yield 150, [command(kind.REGISTER_WORKER, 20, b"A" * 16, "again", [], {})]
    yield 205, [command(kind.CLAIM_TASK, 21, token(14), ["b"], 2, 0)]
    yield 206, [command(kind.DEREGISTER_WORKER, 22, token(14), namespace="default")]
    yield 6000, [encode_internal(Retire((task_id(1), task_id(10), task_id(12))))]
    yield (
        6001,
        [
            command(kind.SUBMIT_TASK, 23, task_id(1), "a", "plain", b"payload", {}),
            command(
                kind.SUBMIT_TASK, 24, task_id(1), "a", "plain", b"payload", {}, namespace="other"
            ),
            command(kind.SUBMIT_TASK, 25, task_id(50, at_ms=START_MS - 10**9), "a", "old", b"", {}),
        ],
    )


def entries() -> list[bytes]:
    """Give the entries of the script."""
    return [join_entry(START_MS + after_ms, spliced) for after_ms, spliced in script()]


def replay(listed: list[bytes]) -> str:
    """Return index and digest after each entry, with checkpoints and restarts in between."""
    player, lines = Player(), list[str]()
    for entry in listed:
        player.apply_entry(entry)
        if player.index % CHECKPOINT_EVERY == 0:
            player.restart(follower_only=True)
        lines.append(f"{player.index} {player.machine.digest().hex()}")
    index, chain = player.machine.digest_chain
    return "\n".join([*lines, f"chain {index} {chain.hex()}"]) + "\n"


def read() -> list[bytes]:
    """Return the entries of the golden log."""
    data, listed = LOG.read_bytes(), []
    while data:
        size = int.from_bytes(data[:4], "big")
        listed.append(data[4 : 4 + size])
        data = data[4 + size :]
    return listed


def main() -> None:
    """Write both files."""
    listed = entries()
    LOG.write_bytes(b"".join(len(entry).to_bytes(4, "big") + entry for entry in listed))
    DIGESTS.write_text(replay(listed))


if __name__ == "__main__":
    main()
