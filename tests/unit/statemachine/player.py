"""Plays entries on a leader and a follower at once and demands that they agree.

The leader is given the commands decoded at the door, the follower only the bytes;
each has an archive of its own. Every entry compares replies, hints, checkpoints
and rolling digests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgpack

from statemachine import (
    Accepted,
    BatchAccepted,
    CommandType,
    Granted,
    InternalCommand,
    Machine,
    Outcome,
    Record,
    Refused,
    Registered,
    Reply,
    command_prefix,
    decode_command,
    decode_entry,
    encode_internal,
    join_entry,
)

START_MS = 1_700_000_000_000


def task_id(number: int, *, at_ms: int = START_MS) -> bytes:
    """A UUID version 7 of this time."""
    return at_ms.to_bytes(6, "big") + b"\x70\x00\x80\x00" + number.to_bytes(6, "big")


class MemoryArchive:
    """Durable records in a dictionary."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, bytes], bytes] = {}
        self.gets = 0

    def get(self, family: str, key: bytes) -> bytes | None:
        self.gets += 1
        return self.records.get((family, key))

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return list(self.family(family, start))[:limit]

    def family(self, family: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        for name, key in sorted(self.records):
            if name == family and key >= start:
                yield key, self.records[name, key]

    def write(self, records: Sequence[Record]) -> None:
        for family, key, value in records:
            if value is None:
                self.records.pop((family, key), None)
            else:
                self.records[family, key] = value


class Replica:
    """A machine and its archive."""

    def __init__(self, archive: MemoryArchive | None = None) -> None:
        self.archive = archive or MemoryArchive()
        self.machine = Machine(self.archive)

    def checkpoint(self, *, force: bool = False) -> list[Record] | None:
        if force:
            self.machine._state.changes.entries = self.machine.settings.checkpoint_entries_max
        records = self.machine.take_changes()
        if records is not None:
            self.archive.write(records)
        return records

    def restart(self) -> None:
        """Lose the memory and load the durable records."""
        self.machine = Machine(self.archive)
        self.machine.restore(self.archive.family)


class Player:
    """A leader and a follower that are given the same entries."""

    def __init__(self) -> None:
        self.leader = Replica()
        self.follower = Replica()
        self.index = 0
        self.now_ms = START_MS
        self.request_id = 0
        self.outcome = Outcome([], [], [], False)
        self.entries: list[bytes] = []

    @property
    def machine(self) -> Machine:
        return self.leader.machine

    def apply_entry(self, entry: bytes, *, index: int | None = None) -> Outcome:
        self.index = self.index + 1 if index is None else index
        self.entries.append(entry)
        decoded = decode_entry(entry)
        led = self.leader.machine.apply(self.index, entry, decoded)
        followed = self.follower.machine.apply(self.index, entry)
        assert led == followed
        assert self.leader.checkpoint() == self.follower.checkpoint()
        assert self.leader.machine.digest_chain == self.follower.machine.digest_chain
        self.outcome = led
        return led

    def apply(self, *spliced: bytes, index: int | None = None) -> list[Reply]:
        return self.apply_entry(join_entry(self.now_ms, spliced), index=index).replies

    def checkpoint(self) -> list[Record]:
        """Force a checkpoint on both."""
        records = self.leader.checkpoint(force=True)
        assert records is not None
        assert records == self.follower.checkpoint(force=True)
        return records

    def restart(self, *, follower_only: bool = False) -> None:
        """Checkpoint, then lose the memory; digests must not notice."""
        self.checkpoint()
        before = self.leader.machine.digest()
        self.follower.restart()
        if not follower_only:
            self.leader.restart()
        assert before == self.follower.machine.digest()
        self.agree()

    def agree(self) -> None:
        assert self.leader.machine.digest() == self.follower.machine.digest()
        assert self.leader.machine.statistics() == self.follower.machine.statistics()

    # -- one command in one entry

    def internal(self, command: InternalCommand) -> Reply:
        return self.apply(encode_internal(command))[0]

    def ask(self, type_: CommandType, *fields: object, namespace: str = "default") -> Reply:
        self.request_id += 1
        return self.apply(command(type_, self.request_id, *fields, namespace=namespace))[0]

    def submit(
        self, id_: bytes, queue: str = "q", payload: bytes = b"p", **options: int
    ) -> Accepted | Refused:
        reply = self.ask(CommandType.SUBMIT_TASK, id_, queue, "task", payload, options)
        assert isinstance(reply, Accepted | Refused)
        return reply

    def submit_batch(self, tasks: list[list[Any]]) -> BatchAccepted:
        reply = self.ask(CommandType.SUBMIT_BATCH, tasks)
        assert isinstance(reply, BatchAccepted)
        return reply

    def register(self, worker: bytes = bytes(16), namespace: str = "default") -> int:
        reply = self.ask(CommandType.REGISTER_WORKER, worker, "worker", [], {}, namespace=namespace)
        assert isinstance(reply, Registered)
        return reply.session

    def claim(
        self, session: int, queues: Sequence[str] = ("q",), count: int = 1
    ) -> Granted | Refused:
        reply = self.ask(CommandType.CLAIM_TASK, session, list(queues), count, 0)
        assert isinstance(reply, Granted | Refused)
        return reply

    def claim_one(self, session: int, queue: str = "q") -> tuple[bytes, int]:
        reply = self.claim(session, [queue])
        assert isinstance(reply, Granted), reply
        (grant,) = reply.grants
        return grant.task_id, grant.token

    def settle(
        self, id_: bytes, token: int, outcome: int = 0, result: bytes = b"", error: str = ""
    ) -> Reply:
        return self.ask(CommandType.TASK_RESULT, id_, token, outcome, result, error)

    def state_of(self, id_: bytes) -> object:
        status = self.machine.status("default", id_)
        return None if status is None else status["state"]


def body(*fields: object) -> bytes:
    packed: bytes = msgpack.packb(list(fields))
    return packed


def command(
    type_: CommandType, *fields: object, namespace: str = "default", principal: str = "someone"
) -> bytes:
    """Spliced bytes of a client's command; the door must accept it."""
    packed = body(*fields)
    decode_command(type_, packed, namespace=namespace, principal=principal)
    return command_prefix(type_, namespace, principal) + packed
