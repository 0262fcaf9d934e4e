"""A world that is nothing but its fields, to show an invariant a history made by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from cluster.state import FOLLOWER
from statemachine import (
    POSITION_BITS,
    Accepted,
    Code,
    CommandType,
    Done,
    Expire,
    Grant,
    Granted,
    Outcome,
    Recorded,
    Refused,
    Registered,
    Reply,
    TaskState,
    command_prefix,
    encode_internal,
    join_entry,
)
from tests.simulation.history import History, Operation
from tests.simulation.invariants.rule import Invariant
from tq.protocol import Type, encode

A, B, C = (bytes([0] * 6 + [0x70, 0, 0x80] + [0] * 6 + [number]) for number in (1, 2, 3))
LOST = Refused(Code.LEASE_LOST, "")
SESSION = 1 << POSITION_BITS


class Log:
    """The log of one node."""

    def __init__(self, *terms: int, entries: Sequence[bytes] = (), base: int = 0) -> None:
        shown = list(entries) or [b"%d" % number for number in range(len(terms))]
        self.base_index = base
        self.entries = [(b"", base, 0)]
        self.entries += [
            (entry, base + at, term)
            for at, (entry, term) in enumerate(zip(shown, terms, strict=True), 1)
        ]
        self.last_index = base + len(terms)
        self.configuration_index = 0

    @property
    def last_term(self) -> int:
        return self.entries[-1][2]

    def term_at(self, index: int) -> int | None:
        at = index - self.base_index
        return self.entries[at][2] if 0 <= at < len(self.entries) else None


def node_of(node_id: int, log: Log | None = None, *, life: int = 1, **engine: Any) -> Any:
    """A node with an engine that is nothing but its fields."""
    log = log or Log()
    fields: dict[str, Any] = {
        "role": FOLLOWER,
        "term": 1,
        "log": log,
        "commit_index": 0,
        "applied_index": 0,
        "durable_index": log.last_index,
        "amnesiac": False,
        "voted_for": None,
        "voters": (1, 2, 3),
        **engine,
    }
    machine = SimpleNamespace(digest_chain=(0, b""), digest=lambda: b"", status=lambda *_: None)
    return SimpleNamespace(
        node_id=node_id, life=life, engine=SimpleNamespace(**fields), machine=machine, broker=None
    )


class Scene:
    """A world that is nothing but its fields, and one invariant in it."""

    def __init__(self, rule: type[Invariant], *nodes: Any) -> None:
        self.now = 1000.0
        self.history = History()
        self.ledger = self.history.ledger
        self.nodes = {node.node_id: node for node in nodes}
        self.options = SimpleNamespace(nodes=3, drift=0.0, retention_ms=604_800_000)
        self.sometimes: Counter[str] = Counter()
        self.index = 0
        self.rule = rule(self)  # type: ignore[arg-type]  # all that is asked of a world

    def trace(self, *what: object) -> None:
        """Nobody reads it."""

    def step(self, node: Any) -> None:
        self.nodes[node.node_id] = node
        self.rule.stepped(node)

    def apply(self, *spliced: bytes, replies: Sequence[Reply], index: int = 0) -> None:
        """Put an entry into the log, with what a machine made of it."""
        self.index = index or self.index + 1
        outcome = Outcome(list(replies), [], [], False)
        self.ledger.take(self.index, join_entry(0, spliced), outcome, self.now)

    def told(
        self, kind: str, *what: Any, answer: Any = (), code: str = "", **more: Any
    ) -> Operation:
        """An operation that has ended."""
        operation = self.history.begin("client", kind, what, self.now)
        operation.sends = 1
        operation.sent_at = self.now
        operation.answer, operation.code = list(answer), code
        for name, value in more.items():
            setattr(operation, name, value)
        outcome: Any = more.get("outcome") or ("fail" if code else "ok")
        operation.outcome = "open"
        self.history.end(operation, outcome, more.get("returned", self.now))
        return operation

    # the commands of a short story

    def register(self, *, number: int = 1, session: int = SESSION) -> None:
        spliced = command(Type.REGISTER_WORKER, number, bytes(16), "w", [], {})
        index = session >> POSITION_BITS
        self.apply(spliced, replies=[Registered(session, 1000)], index=index)

    def submit(self, task_id: bytes = A, **options: int) -> None:
        self.apply(submitted(0, task_id, **options), replies=[Accepted(self.index + 1)])

    def claim(self, *task_ids: bytes, attempt: int = 1, token: int = 0) -> int:
        """Lease tasks; return the first token."""
        first = token or (self.index + 1) << POSITION_BITS
        grants = [
            Grant(task_id, first + at, "q", "work", attempt, 1000, 0, self.place(task_id))
            for at, task_id in enumerate(task_ids)
        ]
        spliced = command(Type.CLAIM_TASK, 7, SESSION, ["q"], 3, 0)
        self.apply(spliced, replies=[Granted(grants)])
        return first

    def place(self, task_id: bytes) -> int:
        story = self.ledger.tasks.get(task_id)
        return 0 if story is None else story.place

    def result(self, token: int, reply: Reply, *, task_id: bytes = A, outcome: int = 0) -> None:
        spliced = command(Type.TASK_RESULT, 8, task_id, token, outcome, b"", "")
        self.apply(spliced, replies=[reply])

    def release(self, token: int, reply: Reply) -> None:
        self.apply(command(Type.RELEASE, 9, A, token), replies=[reply])

    def cancel(self, reply: Reply, *, task_id: bytes = A) -> None:
        self.apply(command(Type.CANCEL_TASK, 10, task_id, ""), replies=[reply])

    def expire(self, token: int, *, task_id: bytes = A) -> None:
        self.apply(encode_internal(Expire(((task_id, token),))), replies=[Done()])


def command(type_: Type, *payload: Any) -> bytes:
    prefix = command_prefix(CommandType(type_), "default", "")
    return prefix + encode(type_, payload)[5:]


def submitted(number: int, task_id: bytes, **options: int) -> bytes:
    return command(Type.SUBMIT_TASK, number, task_id, "q", "work", b"", options)


def status(state: str, attempt: int = 0, failures: int = 0, lost: int = 0) -> dict[str, Any]:
    return {"state": state, "attempt": attempt, "failures": failures, "lost": lost}


COMPLETED = Recorded(TaskState.COMPLETED)


def leased(rule: type[Invariant]) -> tuple[Scene, int]:
    """A scene with a task that was just leased, and its token."""
    scene = Scene(rule)
    scene.register()
    scene.submit(lease_ms=1000)
    return scene, scene.claim(A)
