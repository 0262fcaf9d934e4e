"""CPU per operation of the state machine alone: what every node pays for each task.

    python -m benchmarks.machine_cpu [--tasks 100000]

Prints microseconds per submit, claimed task and completion, once with commands that
are decoded already (the leader) and once from bytes (a follower), and milliseconds
per checkpoint of 2000 records.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Iterator

import msgpack

from statemachine import (
    ChangeSettings,
    CommandType,
    Granted,
    Machine,
    Registered,
    command_prefix,
    decode_entry,
    encode_internal,
    join_entry,
)

NOW_MS = 1_700_000_000_000
PER_ENTRY = 64


class MemoryArchive:
    """Durable records in a dictionary."""

    def __init__(self) -> None:
        self.families: dict[str, dict[bytes, bytes]] = {}

    def get(self, family: str, key: bytes) -> bytes | None:
        return self.families.setdefault(family, {}).get(key)

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        records = self.families.get(family, {})
        return [(key, records[key]) for key in sorted(records) if key >= start][:limit]

    def write(self, records: list[tuple[str, bytes, bytes | None]]) -> None:
        for family, key, value in records:
            if value is None:
                self.families.setdefault(family, {}).pop(key, None)
            else:
                self.families.setdefault(family, {})[key] = value


class Bench:
    """One machine, and the time spent in it."""

    def __init__(self, *, decoded: bool) -> None:
        self.archive = MemoryArchive()
        self.machine = Machine(self.archive)
        self.decoded = decoded
        self.index = 0
        self.checkpoints: list[tuple[int, float]] = []

    def run(self, commands: list[bytes]) -> tuple[list[object], float]:
        """Apply one entry; return its replies and the seconds that apply took."""
        self.index += 1
        entry = join_entry(NOW_MS, commands)
        decoded = decode_entry(entry) if self.decoded else None
        started = time.thread_time()
        outcome = self.machine.apply(self.index, entry, decoded)
        spent = time.thread_time() - started
        started = time.thread_time()
        records = self.machine.take_changes()
        if records is not None:
            self.checkpoints.append((len(records), time.thread_time() - started))
            self.archive.write(records)
        return list(outcome.replies), spent


def spliced(type_: CommandType, body: list[object]) -> bytes:
    packed: bytes = msgpack.packb(body)
    return command_prefix(type_, "default", "bench") + packed


def task_id(number: int) -> bytes:
    return NOW_MS.to_bytes(6, "big") + b"\x70\x00\x80\x00" + number.to_bytes(6, "big")


def in_entries(commands: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for command in commands:
        batch.append(command)
        if len(batch) == PER_ENTRY:
            yield batch
            batch = []
    if batch:
        yield batch


def measure(tasks: int, *, decoded: bool) -> dict[str, float]:
    """Return microseconds per operation, and milliseconds of the checkpoints.

    Args:
        tasks: How many go through the machine.
        decoded: Whether the commands come decoded already, as on the leader.
    """
    bench = Bench(decoded=decoded)
    bench.run(
        [encode_internal(ChangeSettings((("claim_max", 1000), ("queue_depth_threshold", 10**8))))]
    )
    replies, _ = bench.run([spliced(CommandType.REGISTER_WORKER, [0, bytes(16), "bench", [], {}])])
    assert isinstance(replies[0], Registered)
    session = replies[0].session
    payload = os.urandom(256)
    granted: list[tuple[bytes, int]] = []

    def submits() -> float:
        bodies = (
            spliced(CommandType.SUBMIT_TASK, [n, task_id(n), "email", "send", payload, {}])
            for n in range(tasks)
        )
        return sum(bench.run(entry)[1] for entry in in_entries(bodies))

    def claims() -> float:
        spent = 0.0
        request_id = 0
        while len(granted) < tasks:
            request_id += 1
            replies, seconds = bench.run(
                [spliced(CommandType.CLAIM_TASK, [request_id, session, ["email"], 64, 0])]
            )
            assert isinstance(replies[0], Granted)
            pairs = [(grant.task_id, grant.token) for grant in replies[0].grants]
            granted.extend(pairs)
            spent += seconds
            completed[0] += completions(pairs)
        return spent

    completed = [0.0]

    def completions(pairs: list[tuple[bytes, int]]) -> float:
        bodies = (
            spliced(CommandType.TASK_RESULT, [1, id_, token, 0, b"ok", ""]) for id_, token in pairs
        )
        return sum(bench.run(entry)[1] for entry in in_entries(bodies))

    spent = {"submit": submits(), "claim, per task": claims(), "complete": completed[0]}
    records = sum(count for count, _ in bench.checkpoints)
    seconds = sum(took for _, took in bench.checkpoints)
    return {
        **{name: took / tasks * 1e6 for name, took in spent.items()},
        "checkpoint of 2000": seconds / records * 2000 * 1e3 if records else 0.0,
        "longest checkpoint": max((took for _, took in bench.checkpoints), default=0.0) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    tasks: int = parser.parse_args().tasks
    gc.disable()
    for decoded in (True, False):
        print("decoded already (leader)" if decoded else "from bytes (follower)")
        for name, value in measure(tasks, decoded=decoded).items():
            print(f"  {name:<22}{value:8.2f} {'ms' if 'checkpoint' in name else 'us'}")


if __name__ == "__main__":
    main()
