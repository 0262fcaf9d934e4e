"""A history cut into what happened to each task, as its clients saw it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from chaos.history import Operation

POSITION_BITS: Final = 20
"""A token, place or session is the index of its log entry, shifted by so many bits, and a
position in the entry (docs/guarantees.md, S3)."""

FINAL: Final = "final"
"""Who asks for the state of every task when all work is done."""

REPORTS: Final = frozenset({"complete", "fail", "release", "extend", "progress"})


class Grant(NamedTuple):
    """One task of an answered claim."""

    operation: Operation
    token: int
    attempt: int
    lease_ms: int
    place: int
    queue: str

    @property
    def session(self) -> int:
        """The worker's session that holds it."""
        return int(self.operation.arguments.get("session", 0))


class Story:
    """What was asked and told of one task, each list in order of beginning.

    Attributes:
        task: Its id, hexadecimal.
        submits: Every submit of the id.
        grants: Every time it was granted to someone who heard of it.
        reports: `complete`, `fail`, `release`, `extend` and `progress`.
        beats: Heartbeats that were told the token lives, with the token.
        losses: Heartbeats that were told the token is lost, with the token.
        cancels: Every cancellation.
        reads: Linearizable reads, the last ones included.
        stale: Reads that may be old.
    """

    __slots__ = (
        "beats",
        "cancels",
        "grants",
        "losses",
        "reads",
        "reports",
        "stale",
        "submits",
        "task",
    )

    def __init__(self, task: str) -> None:
        self.task = task
        self.submits: list[Operation] = []
        self.grants: list[Grant] = []
        self.reports: list[Operation] = []
        self.beats: list[tuple[Operation, int]] = []
        self.losses: list[tuple[Operation, int]] = []
        self.cancels: list[Operation] = []
        self.reads: list[Operation] = []
        self.stale: list[Operation] = []

    def accepted(self) -> Operation | None:
        """Return the first submit that was acknowledged."""
        for submit in self.submits:
            if submit.outcome == "ok":
                return submit
        return None

    def final(self) -> Operation | None:
        """Return the read after all work was done that was answered, if there is one."""
        for read in reversed(self.reads):
            if read.who == FINAL and (read.outcome == "ok" or read.code == "NOT_FOUND"):
                return read
        return None


def cut(history: Iterable[Operation]) -> dict[str, Story]:
    """Return the story of each task that an operation names, by id."""
    stories: dict[str, Story] = {}
    owners: dict[int, Story] = {}
    beats: list[Operation] = []
    for operation in history:
        kind = operation.kind
        if kind == "claim":
            if operation.outcome == "ok":
                _note_grants(operation, stories, owners)
        elif kind == "heartbeat":
            if operation.outcome == "ok":
                beats.append(operation)
        elif operation.task:
            story = stories.get(operation.task)
            if story is None:
                story = stories[operation.task] = Story(operation.task)
            _note(operation, kind, story)
    for beat in beats:
        _note_beat(beat, owners)
    return stories


def _note_beat(beat: Operation, owners: dict[int, Story]) -> None:
    lost = frozenset(beat.value["lost"])
    for token in beat.arguments["tokens"]:
        owner = owners.get(token)
        if owner is not None:
            (owner.losses if token in lost else owner.beats).append((beat, token))


def _note(operation: Operation, kind: str, story: Story) -> None:
    if kind in REPORTS:
        story.reports.append(operation)
    elif kind == "submit":
        story.submits.append(operation)
    elif kind == "get":
        is_stale = operation.arguments.get("consistency") == "stale"
        (story.stale if is_stale else story.reads).append(operation)
    elif kind == "cancel":
        story.cancels.append(operation)


def _note_grants(operation: Operation, stories: dict[str, Story], owners: dict[int, Story]) -> None:
    for told in operation.value["grants"]:
        task = told["task"]
        story = stories.get(task)
        if story is None:
            story = stories[task] = Story(task)
        token = told["token"]
        owners[token] = story
        story.grants.append(
            Grant(operation, token, told["attempt"], told["lease_ms"], told["place"], told["queue"])
        )
