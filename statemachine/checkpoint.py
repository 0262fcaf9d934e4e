"""What changed since the last checkpoint, and how it becomes durable records.

Between two checkpoints the changes are held here, and reads look here before
they look into the archive. When a checkpoint is due follows from the applied
entries alone, so all replicas write the same records at the same index.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from struct import Struct
from typing import Final, Protocol

from statemachine.task import Task, encode_task, long_result, result_key
from statemachine.types import (
    FAMILIES,
    FAMILY_OF,
    TERMINAL,
    Family,
    Record,
    SessionId,
    TaskId,
)
from statemachine.workers import WorkerSession, encode_session

RECORDS_MAX: Final = 2000
BYTES_MAX: Final = 2 * 1024 * 1024
LOG_BYTES_MAX: Final = 64 * 1024 * 1024
"""Entries that change nothing, such as refused ones, fill the log all the same."""

MACHINE_KEY: Final = b"machine"
CHECKPOINT_KEY: Final = b"checkpoint"
SESSION_PREFIX: Final = b"session:"
STUB_PREFIX: Final = b"stub:"

_FRAME: Final = Struct(">BIQ")
_DELETED: Final = 1 << 63
_NUMBER_OF: Final = {family: number for number, family in enumerate(FAMILIES)}


class Archive(Protocol):
    """Durable records as of the last checkpoint, as far as the machine reads them."""

    def get(self, family: str, key: bytes) -> bytes | None:
        """Return the value of a record, None if there is none."""

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` records with keys from `start` on, in order of key."""


def session_key(session: SessionId) -> bytes:
    """Return the metadata key of a session's record."""
    return SESSION_PREFIX + session.to_bytes(8, "big")


def stub_key(task_id: TaskId) -> bytes:
    """Return the metadata key of a stub."""
    return STUB_PREFIX + task_id


class Changes:
    """Everything that differs from the durable records.

    Attributes:
        tasks: Changed tasks. A terminal one lives here, and only here, until the
            checkpoint.
        payloads: Of tasks submitted since.
        retired: Terminal tasks dropped since whose record is durable, and its family.
        stubs: Value of a new stub; None for a dropped one.
        sessions: Changed session; None for an ended one.
        extra_bytes: Payloads and results, whatever became of them since.
        entries: Applied since.
        entries_bytes: Their length.
    """

    __slots__ = (
        "entries",
        "entries_bytes",
        "extra_bytes",
        "payloads",
        "retired",
        "sessions",
        "stubs",
        "tasks",
    )

    def __init__(self) -> None:
        self.tasks: dict[TaskId, Task] = {}
        self.payloads: dict[TaskId, bytes] = {}
        self.retired: dict[TaskId, str] = {}
        self.stubs: dict[TaskId, bytes | None] = {}
        self.sessions: dict[SessionId, WorkerSession | None] = {}
        self.extra_bytes = 0
        self.entries = 0
        self.entries_bytes = 0

    def due(self, entries_max: int) -> bool:
        """Tell whether the entry just applied is one to checkpoint at.

        Args:
            entries_max: The replicated setting as this entry left it.
        """
        return (
            self.entries >= entries_max
            or self.extra_bytes >= BYTES_MAX
            or self.entries_bytes >= LOG_BYTES_MAX
            or len(self.tasks)
            + len(self.payloads)
            + len(self.retired)
            + len(self.stubs)
            + len(self.sessions)
            >= RECORDS_MAX
        )

    def retire(self, task: Task) -> None:
        """Forget a terminal task and whatever is stored of it."""
        self.tasks.pop(task.task_id, None)
        self.payloads.pop(task.task_id, None)
        if task.stored is not None:
            self.retired[task.task_id] = task.stored

    def records(self) -> dict[str, dict[bytes, bytes | None]]:
        """Encode the changes, by family and key, deletions as None; keys in no particular order."""
        out: dict[str, dict[bytes, bytes | None]] = {family: {} for family in FAMILIES}
        payloads, metadata = out[Family.PAYLOAD], out[Family.METADATA]
        for task_id, family in self.retired.items():
            out[family][task_id] = payloads[task_id] = payloads[result_key(task_id)] = None
        for task_id, task in self.tasks.items():
            family, stored = FAMILY_OF[task.state], task.stored
            if stored is not None and stored != family:
                out[stored][task_id] = None
            out[family][task_id] = encode_task(task)
            if (result := long_result(task)) is not None:
                payloads[result_key(task_id)] = result
        payloads.update(self.payloads)
        for task_id, stub in self.stubs.items():
            metadata[stub_key(task_id)] = stub
        for number, session in self.sessions.items():
            value = None if session is None else encode_session(session)
            metadata[session_key(number)] = value
        return out

    def clear(self) -> None:
        """Start over: the changes are durable records now."""
        for task in self.tasks.values():
            task.stored = FAMILY_OF[task.state]
        self.tasks.clear()
        self.payloads.clear()
        self.retired.clear()
        self.stubs.clear()
        self.sessions.clear()
        self.extra_bytes = 0
        self.entries = 0
        self.entries_bytes = 0


def in_canonical_order(records: dict[str, dict[bytes, bytes | None]]) -> list[Record]:
    """Return the records by family, then by key."""
    return [
        (family, key, value)
        for family in FAMILIES
        for key, value in sorted(records[family].items())
    ]


def frame(family: str, key: bytes, value: bytes | None) -> bytes:
    """Return bytes that no other record gives: what digests are taken of."""
    if value is None:
        return _FRAME.pack(_NUMBER_OF[family], len(key), _DELETED) + key
    return _FRAME.pack(_NUMBER_OF[family], len(key), len(value)) + key + value


def next_in_chain(chain: bytes, records: Iterable[Record]) -> bytes:
    """Return the rolling digest after a checkpoint: sha256 of the last one and the records."""
    pieces = [chain]
    for family, key, value in records:  # as `frame` makes them, and joined once
        if value is None:
            pieces += (_FRAME.pack(_NUMBER_OF[family], len(key), _DELETED), key)
        else:
            pieces += (_FRAME.pack(_NUMBER_OF[family], len(key), len(value)), key, value)
    return sha256(b"".join(pieces)).digest()


class Stored:
    """The archive seen through the changes: terminal tasks, payloads and stubs as they are."""

    __slots__ = ("_archive", "_changes")

    def __init__(self, archive: Archive, changes: Changes) -> None:
        self._archive = archive
        self._changes = changes

    def terminal_record(self, task_id: TaskId) -> tuple[str, bytes] | None:
        """Return (family, record) of a durable terminal task that was not retired."""
        if task_id in self._changes.retired:
            return None
        for family in (Family.COMPLETED, Family.DEAD_LETTER):
            record = self._archive.get(family, task_id)
            if record is not None:
                return family, record
        return None

    def stub(self, task_id: TaskId) -> bytes | None:
        """Return the stub of a retired task."""
        if task_id in self._changes.stubs:
            return self._changes.stubs[task_id]
        return self._archive.get(Family.METADATA, stub_key(task_id))

    def payload(self, task_id: TaskId) -> bytes | None:
        """Return the payload of a task that was not retired."""
        payload = self._changes.payloads.get(task_id)
        if payload is None and task_id not in self._changes.retired:
            payload = self._archive.get(Family.PAYLOAD, task_id)
        return payload

    def result(self, task: Task) -> bytes | None:
        """Return the result of a terminal task."""
        if type(task.result) is int:
            return self._archive.get(Family.PAYLOAD, result_key(task.task_id))
        assert not isinstance(task.result, int)
        return task.result

    def all_records(
        self, family: str, prefix: bytes, over: dict[bytes, bytes | None]
    ) -> Iterable[tuple[bytes, bytes]]:
        """Give all records of a family whose keys start with `prefix`, in order of key.

        Args:
            family: To read.
            prefix: Of the keys.
            over: What hides or replaces the archive's records, by key.
        """
        waiting = sorted(over.items(), reverse=True)
        for key, value in self._scan_all(family, prefix):
            while waiting and waiting[-1][0] < key:
                yield from _present(waiting.pop())
            if waiting and waiting[-1][0] == key:
                yield from _present(waiting.pop())
            else:
                yield key, value
        while waiting:
            yield from _present(waiting.pop())

    def _scan_all(self, family: str, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        start, limit = prefix, 1000
        while True:
            page = self._archive.scan(family, start, limit)
            for key, value in page:
                if not key.startswith(prefix):
                    return
                yield key, value
            if len(page) < limit:
                return
            start = page[-1][0] + b"\0"

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return durable records as they were at the last checkpoint."""
        return self._archive.scan(family, start, limit)

    def changed_since_stored(self, task_id: TaskId) -> bool:
        """Tell whether a durable task or stub was changed or dropped since."""
        changes = self._changes
        return task_id in changes.retired or task_id in changes.tasks or task_id in changes.stubs


def _present(record: tuple[bytes, bytes | None]) -> Iterable[tuple[bytes, bytes]]:
    key, value = record
    return () if value is None else ((key, value),)


def is_terminal(task: Task) -> bool:
    """Tell whether the task's life is over."""
    return task.state in TERMINAL
