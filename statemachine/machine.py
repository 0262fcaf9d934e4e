"""The machine: log entries in, outcomes and records out.

Pure and total: what it does follows from the entries alone, on every replica, and
no bytes make it raise. An assertion that fails is a broken machine, which must
stop rather than guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, cast

from statemachine import (
    claiming,
    commands,
    listing,
    registering,
    retention,
    settling,
    submitting,
    views,
)
from statemachine.checkpoint import (
    CHECKPOINT_KEY,
    MACHINE_KEY,
    SESSION_PREFIX,
    STUB_PREFIX,
    Archive,
    frame,
    in_canonical_order,
    next_in_chain,
    session_key,
)
from statemachine.codec import decode_entry, pack, unpack
from statemachine.outcomes import Lease, Outcome, Refused, Reply, Session
from statemachine.restoring import decode_machine, encode_machine, restore_tasks
from statemachine.state import State
from statemachine.task import encode_task
from statemachine.types import (
    FAMILIES,
    FAMILY_OF,
    Code,
    Family,
    LogIndex,
    Record,
    SessionId,
    Settings,
    TaskId,
    Token,
    named,
)
from statemachine.workers import decode_session, encode_session

if TYPE_CHECKING:
    from statemachine.task import Task


def _malformed(state: State, command: commands.Malformed) -> Refused:
    return Refused(Code.MALFORMED, command.text)


_HANDLERS: Final[dict[type, Callable[[State, Any], Reply]]] = {
    commands.Submit: submitting.submit,
    commands.SubmitBatch: submitting.submit_batch,
    commands.Claim: claiming.claim,
    commands.TaskResult: settling.task_result,
    commands.Extend: claiming.extend,
    commands.Progress: claiming.progress,
    commands.Release: claiming.release,
    commands.Cancel: settling.cancel,
    commands.RegisterWorker: registering.register_worker,
    commands.DeregisterWorker: registering.deregister_worker,
    commands.Advance: retention.advance,
    commands.Expire: claiming.expire,
    commands.ExpireSessions: registering.expire_sessions,
    commands.Retire: retention.retire,
    commands.ChangeSettings: retention.change_settings,
    commands.Malformed: _malformed,
}


class Machine:
    """The queue, replicated by applying the same entries everywhere.

    Args:
        archive: Durable records as of the last checkpoint. What `take_changes` gave
            must be readable from it before the next `apply`.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._state = State(archive)
        self._chain: tuple[LogIndex, bytes] = (0, bytes(32))
        self._handed_out: bytes | None = None

    # -- the log

    def apply(self, index: LogIndex, entry: bytes, decoded: object | None = None) -> Outcome:
        """Apply one entry. Total: no bytes make it raise.

        Args:
            index: Of the entry; larger than that of the one before.
            entry: As proposed.
            decoded: What `decode_entry` gives for exactly these bytes, if the caller
                has it already: (now_ms, commands).

        Returns:
            A reply for each command, and hints.
        """
        state = self._state
        assert index > state.index, f"entry {index} after {state.index}"
        if self._handed_out is not None:
            self._assert_written(self._handed_out)
            self._handed_out = None
        known: Any = decode_entry(entry) if decoded is None else decoded
        now_ms, listed = known
        state.begin(index, now_ms)
        changes = state.changes
        changes.entries += 1
        changes.entries_bytes += len(entry)
        advance_due = state.advance()
        handlers = _HANDLERS
        replies = [handlers[type(command)](state, command) for command in listed]
        return named(Outcome, (replies, [*state.ready], state.finished, advance_due))

    def take_changes(self) -> list[Record] | None:
        """Return the records of a checkpoint if one is due at the index just applied.

        To be called after every `apply`. The records, in canonical order, must be
        readable from the archive before the next one, durable or not: they are held
        nowhere else.
        """
        state = self._state
        if not state.changes.due(state.settings.checkpoint_entries_max):
            return None
        changed = state.changes.records()
        changed[Family.METADATA][MACHINE_KEY] = encode_machine(state)
        records = in_canonical_order(changed)
        chain = next_in_chain(self._chain[1], records)
        self._chain = (state.index, chain)
        self._handed_out = pack((state.index, chain))
        records.append((Family.METADATA, CHECKPOINT_KEY, self._handed_out))
        state.changes.clear()
        return records

    def _assert_written(self, checkpoint: bytes) -> None:
        """Stop a replica that would look for what left memory where it is not yet.

        It would take a task it has for unknown, and part from the others in silence.
        """
        seen = self._archive.get(Family.METADATA, CHECKPOINT_KEY)
        assert seen == checkpoint, "a checkpoint must be in the archive before the next entry"

    def restore(self, families: Callable[[str], Iterator[tuple[bytes, bytes]]]) -> None:
        """Become the machine whose checkpoint the records are.

        Args:
            families: Gives the records of a family, in order of key.
        """
        state = self._state = State(self._archive)
        self._chain = (0, bytes(32))
        self._handed_out = None
        for key, value in families(Family.METADATA):
            if key == MACHINE_KEY:
                decode_machine(state, value)
            elif key == CHECKPOINT_KEY:
                index, chain = cast("tuple[int, bytes]", unpack(value))
                self._chain = (index, chain)
                state.index = index
            elif key.startswith(SESSION_PREFIX):
                number = int.from_bytes(key[len(SESSION_PREFIX) :], "big")
                state.sessions.add(decode_session(number, value))
        restore_tasks(
            state,
            (
                (family, key, value)
                for family in (Family.FAILED, Family.IN_PROGRESS, Family.PENDING)
                for key, value in families(family)
            ),
        )

    @property
    def digest_chain(self) -> tuple[LogIndex, bytes]:
        """Index of the last checkpoint, and the rolling digest of all checkpoints up to it."""
        return self._chain

    def digest(self) -> bytes:
        """Return the sha256 of the whole state, 32 bytes; equal on replicas at equal index.

        Computed from memory and the archive, over all records in canonical order. It
        does not depend on when checkpoints were taken.
        """
        total = sha256()
        changed = self._state.changes.records()
        for family in FAMILIES:
            for key, value in self._records_of(family, changed[family]):
                total.update(frame(family, key, value))
        return total.digest()

    def _records_of(
        self, family: str, changed: dict[bytes, bytes | None]
    ) -> Iterable[tuple[bytes, bytes]]:
        state = self._state
        if family in (Family.PENDING, Family.IN_PROGRESS, Family.FAILED):
            return [
                (task_id, encode_task(state.live[task_id]))
                for task_id in sorted(state.live)
                if FAMILY_OF[state.live[task_id].state] == family
            ]
        if family != Family.METADATA:
            return state.stored.all_records(family, b"", changed)
        stubs = {key: value for key, value in changed.items() if key.startswith(STUB_PREFIX)}
        sessions = [
            (session_key(session.session), encode_session(session)) for session in state.sessions
        ]
        machine = (MACHINE_KEY, encode_machine(state))
        return [machine, *sessions, *state.stored.all_records(family, STUB_PREFIX, stubs)]

    # -- reading

    @property
    def settings(self) -> Settings:
        """Replicated settings."""
        return self._state.settings

    @property
    def seeded(self) -> bool:
        """Whether the settings were ever set; until then they are the defaults."""
        return self._state.seeded

    @property
    def log_time_ms(self) -> int:
        """Largest time stamp applied, milliseconds since the Unix epoch."""
        return self._state.log_time_ms

    def status(self, namespace: str, task_id: TaskId) -> dict[str, object] | None:
        """Return the status map of docs/protocol.md; None if the namespace has no such task."""
        return views.status(self._state, namespace, task_id)

    def list_tasks(self, wanted: listing.Wanted) -> tuple[list[dict[str, object]], bytes]:
        """Return a page of the list of docs/protocol.md, and where the next one goes on."""
        return listing.page(self._state, wanted)

    def payload(self, task_id: TaskId) -> bytes:
        """Return the payload of a task that was not retired.

        Raises:
            LookupError: No such task.
        """
        payload = self._state.stored.payload(task_id)
        if payload is None:
            raise LookupError(f"no payload of task {task_id.hex()}")
        return payload

    def statistics(self) -> dict[str, object]:
        """Return counts by state and by queue, totals, and the number of workers."""
        return views.statistics(self._state)

    def depth(self, namespace: str, queue: str) -> int:
        """Count the live tasks of a queue that are not in progress."""
        found = self._state.queues.get((namespace, queue))
        return 0 if found is None else found.depth

    def ready(self, namespace: str, queue: str) -> int:
        """Count the tasks of a queue that a claim would get."""
        found = self._state.queues.get((namespace, queue))
        return 0 if found is None else found.ready()

    def leases(self) -> Iterator[Lease]:
        """Give the live leases in order of token."""
        return map(_lease, self._state.leased.values())

    def lease_of(self, token: Token) -> Lease | None:
        """Return the live lease with this token."""
        task = self._state.leased.get(token)
        return None if task is None else _lease(task)

    def sessions(self, namespace: str | None = None) -> Iterator[Session]:
        """Give the registered workers, of a namespace or of all, in order of registration."""
        return (
            session.view()
            for session in self._state.sessions
            if namespace is None or session.namespace == namespace
        )

    def session(self, session: SessionId) -> Session | None:
        """Return a registered worker's session."""
        found = self._state.sessions.get(session)
        return None if found is None else found.view()

    def claimed(self, session: SessionId, request_id: int) -> tuple[Token, ...]:
        """Return the tokens that a claim of this session was granted and whose leases live."""
        found = self._state.sessions.get(session)
        return () if found is None else tuple(found.claims.get(request_id, ()))

    def knows(self, task_id: TaskId) -> bool:
        """Tell whether a submit of this id would be answered without adding a task."""
        state = self._state
        return (
            submitting.known_task(state, task_id) is not None
            or submitting.stub_of(state, task_id) is not None
        )

    def next_due_at_ms(self) -> int | None:
        """Return the log time at which the next timer acts, None if there is none."""
        head = self._state.timers.head()
        return None if head is None else head[0]

    def retirable(self, cursor: bytes, limit: int) -> tuple[list[TaskId], bytes]:
        """Take one step of a sweep for what RETIRE would drop.

        Args:
            cursor: Where the last step ended; empty to begin.
            limit: Records to look at, 1 or more.

        Returns:
            Ids to retire, and the next cursor: empty when the sweep is over.
        """
        return retention.retirable(self._state, cursor, limit)


def _lease(task: Task) -> Lease:
    assert task.session is not None
    return Lease(task.task_id, task.token, task.session.session, task.lease_ms)
