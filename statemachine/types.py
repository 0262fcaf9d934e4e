"""Names, numbers and states that every module of the machine shares."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, NamedTuple, TypeAlias

LogIndex: TypeAlias = int
"""Position of an entry in the replicated log, from 1."""

TaskId: TypeAlias = bytes
"""16 bytes of a UUID version 7, chosen by the client: the idempotency key."""

Token: TypeAlias = int
"""Fencing token of one claim: `index << POSITION_BITS | position`, below 2^63."""

SessionId: TypeAlias = int
"""Identity of one worker registration, built like a token."""

QueueKey: TypeAlias = tuple[str, str]
"""(namespace, queue)."""

Record: TypeAlias = tuple[str, bytes, bytes | None]
"""(family, key, value); value None deletes the record."""

named = tuple.__new__
"""Makes a named tuple from (class, fields) in a third of the time that calling it takes;
for the few that are made for every task."""

POSITION_BITS: Final = 20
POSITION_MAX: Final = (1 << POSITION_BITS) - 1


class TaskState(StrEnum):
    """Where a task is in its life; `lifecycle.TRANSITIONS` says how it moves."""

    SCHEDULED = "scheduled"
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    FAILED = "failed"
    COMPLETED = "completed"
    DEAD_LETTER = "dead_letter"
    CANCELLED = "cancelled"


TERMINAL: Final = (TaskState.COMPLETED, TaskState.DEAD_LETTER, TaskState.CANCELLED)


class Family:
    """Names of the record families, one RocksDB column family each."""

    PENDING: Final = "pending"
    IN_PROGRESS: Final = "in_progress"
    FAILED: Final = "failed"
    COMPLETED: Final = "completed"
    DEAD_LETTER: Final = "dead_letter"
    PAYLOAD: Final = "payload"
    METADATA: Final = "metadata"


FAMILIES: Final = (
    Family.COMPLETED,
    Family.DEAD_LETTER,
    Family.FAILED,
    Family.IN_PROGRESS,
    Family.METADATA,
    Family.PAYLOAD,
    Family.PENDING,
)
"""All families in canonical order."""

FAMILY_OF: Final = {
    TaskState.SCHEDULED: Family.PENDING,
    TaskState.PENDING: Family.PENDING,
    TaskState.IN_PROGRESS: Family.IN_PROGRESS,
    TaskState.FAILED: Family.FAILED,
    TaskState.COMPLETED: Family.COMPLETED,
    TaskState.CANCELLED: Family.COMPLETED,
    TaskState.DEAD_LETTER: Family.DEAD_LETTER,
}


class Tier(IntEnum):
    """The three bands of priorities that statistics are given by."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


TIER_NAMES: Final = ("high", "normal", "low")


def tier_of(priority: int) -> Tier:
    """Return the tier of a priority: high from 200, normal from 100, else low."""
    if priority >= 200:
        return Tier.HIGH
    return Tier.NORMAL if priority >= 100 else Tier.LOW


class Settings(NamedTuple):
    """Replicated settings: whatever changes an outcome is here, never in a file."""

    queue_depth_threshold: int = 100_000
    """Live tasks of one queue, those in progress not counted, before QUEUE_FULL."""
    retention_ms: int = 604_800_000
    """How long a terminal task and its payload are kept."""
    claim_max: int = 10
    """Tasks that one claim may ask for."""
    lease_ms: int = 30_000
    """Length of a lease where the task does not say."""
    idempotency_window_ms: int = 604_800_000
    """How long a task id is remembered, counted from the time inside the id."""
    checkpoint_entries_max: int = 1000
    """Entries after which a checkpoint is due at the latest."""


class Limits(NamedTuple):
    """Fixed bounds of what one command may carry; changing one changes the format."""

    payload_bytes_max: int = 10 * 1024 * 1024
    error_bytes_max: int = 8 * 1024
    note_bytes_max: int = 1024
    reason_bytes_max: int = 1024
    name_max: int = 128
    principal_max: int = 256
    worker_name_max: int = 256
    worker_queues_max: int = 64
    capabilities_max: int = 64
    capability_max: int = 256
    batch_max: int = 1000
    claim_max: int = 1000
    claim_queues_max: int = 64
    wait_ms_max: int = 60_000
    priority_max: int = 255
    span_ms_max: int = 31_536_000_000
    retry_max: int = 1000
    lost_max: int = 1000
    lease_ms_min: int = 1000
    lease_ms_max: int = 86_400_000
    permille_max: int = 1000
    internal_items_max: int = 1000
    entry_bytes_max: int = 1024 * 1024
    entry_tasks_max: int = 2000
    entry_commands_max: int = 65_535
    sessions_max: int = 10_000
    session_leases_max: int = 4096
    timers_per_entry_max: int = 1000
    history_max: int = 16
    detail_chars_max: int = 256
    live_error_chars_max: int = 1024
    inline_result_bytes_max: int = 1024
    compared_payload_bytes_max: int = 4096
    future_ms_max: int = 600_000
    now_ms_max: int = (1 << 48) - 1


LIMITS: Final = Limits()

QUEUE_FULL_RETRY_MS: Final = 1000
"""Hint given with QUEUE_FULL: when to try again."""


class Code(StrEnum):
    """Reasons of refusal, spelled as on the wire."""

    MALFORMED = "MALFORMED"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    TOO_LARGE = "TOO_LARGE"
    BAD_REQUEST = "BAD_REQUEST"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    TOO_OLD = "TOO_OLD"
    TOO_NEW = "TOO_NEW"
    QUEUE_FULL = "QUEUE_FULL"
    LEASE_LOST = "LEASE_LOST"
    NOT_CANCELLABLE = "NOT_CANCELLABLE"
    UNKNOWN_SESSION = "UNKNOWN_SESSION"
    RATE_LIMITED = "RATE_LIMITED"


class Invalid(ValueError):  # noqa: N818 (a verdict on input; the same word at door and apply)
    """A request that cannot be taken: its code and a sentence naming the field."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
