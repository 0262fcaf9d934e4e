"""Everything a run has left behind, as the checkers read it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from chaos.history import Operation, RecordError, read_history
from chaos.stories import Story, cut

VERSION: Final = 1
"""Of the files of a run."""
TERMINAL: Final = frozenset({"completed", "dead_letter", "cancelled"})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to the cluster.

    Attributes:
        at: When it began, nanoseconds.
        to: When it was taken back; None if it is over at once.
        kind: For example `kill leader`.
        nodes: Whom it hit.
        detail: For people.
        scenario: That it belongs to.
    """

    at: int
    to: int | None
    kind: str
    nodes: tuple[int, ...] = ()
    detail: str = ""
    scenario: str = ""


@dataclass(slots=True)
class Sample:
    """What a node said of itself at a moment.

    Attributes:
        at: The moment, nanoseconds.
        node: Its id.
        up: It answered.
        role: `leader`, `follower`, `candidate`, or "".
        term: 0 if unknown.
        leader: Whom it follows; None if nobody.
        commit: Commit index.
        applied: Applied index.
        ready: Claimable tasks: of all queues, or by queue.
        disk_low: It takes no new tasks for want of room.
        digest: Of its state at each checkpoint up to `digest_index`; "" if it says none.
        digest_index: Index of its last checkpoint.
    """

    at: int
    node: int
    up: bool
    role: str = ""
    term: int = 0
    leader: int | None = None
    commit: int = 0
    applied: int = 0
    ready: int | Mapping[str, int] = 0
    disk_low: bool = False
    digest: str = ""
    digest_index: int = 0


@dataclass(frozen=True, slots=True)
class Export:
    """The state of a node when all work was done.

    Attributes:
        node: Its id.
        applied: Index of the last entry in the state.
        digest: Of the state at `digest_index`.
        tasks: By id: the fields of each.
        log: Index -> (term, CRC) of each entry that is kept.
        whole: It tells of every task; otherwise of none, and of its digest alone.
    """

    node: int
    applied: int
    digest: str
    digest_index: int
    tasks: Mapping[str, Mapping[str, Any]]
    log: Mapping[int, tuple[int, int]]
    whole: bool = True


@dataclass
class Evidence:
    """What a run has left behind.

    Attributes:
        history: Operations in order of their beginning.
        faults: In order of time.
        samples: In order of time.
        exports: One of each node that could give one.
        settings: Of the run. The checkers read, all optional: `nodes`, `retry_max`,
            `lost_max`, `lease_ms` (the cluster's), `drained`, `exports_min`,
            `claim_within_ms`, `settle_ms`, `restart_ms`, `silent_max_ms`, `gap_max_ms`,
            `gap_p99_max_ms`, `room_max_ms`, `queue_max`.
        began_ns: Moment that counts as 0 in what is told.
    """

    history: list[Operation]
    faults: list[Fault] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    began_ns: int | None = None

    @classmethod
    def from_directory(cls, path: Path) -> Self:
        """Read the folder of a run.

        Raises:
            RecordError: A file is not what was written; the text names file and line.
            FileNotFoundError: There is no `run.json` or no `history.jsonl`.
        """
        run = _read_run(path / "run.json")
        settings = dict(run.get("settings") or {})
        nodes = run.get("nodes")
        if nodes is not None:
            settings.setdefault("nodes", nodes if isinstance(nodes, int) else len(nodes))
        exports = (_read_export(found) for found in sorted(path.glob("export-*.jsonl")))
        return cls(
            read_history(path / "history.jsonl"),
            sorted(_read(path / "faults.jsonl", _fault), key=lambda fault: fault.at),
            sorted(_read(path / "samples.jsonl", _sample), key=lambda sample: sample.at),
            list(exports),
            settings,
            run.get("began_ns"),
        )

    @cached_property
    def stories(self) -> dict[str, Story]:
        """The history by task."""
        return cut(self.history)

    @cached_property
    def origin_ns(self) -> int:
        """Moment that counts as 0 in what is told."""
        if self.began_ns is not None:
            return self.began_ns
        return self.history[0].at if self.history else 0

    @property
    def nodes(self) -> int:
        """How many nodes there are, as far as is known."""
        seen = {sample.node for sample in self.samples} | {one.node for one in self.exports}
        return int(self.settings.get("nodes", len(seen)))

    def describe(self, operation: Operation) -> str:
        """Say an operation in one line."""
        return operation.describe(self.origin_ns)

    def second(self, at_ns: float) -> str:
        """Say a moment: seconds since the run began."""
        return f"{(at_ns - self.origin_ns) / 1e9:.6f} s"


def run_folder(place: Path) -> Path:
    """Return a place that is the folder of a run.

    Raises:
        RecordError: It is none; the text says why, and what to name instead.
    """
    if not place.exists():
        why = f"there is no {place}"
    elif not place.is_dir():
        why = f"{place} is not a folder"
    elif not (place / "run.json").exists():
        why = f"{place} has no run.json, so it is not the folder of a run"
    else:
        return place
    raise RecordError(f"{why}; name the folder that a run told when it began (chaos/out/...)")


def unreadable(error: OSError) -> str:
    """Say which file of a run the system does not let us read, and why."""
    return f"{error.filename} cannot be read: {error.strerror}"


def _read_run(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_bytes())
    except ValueError as error:
        raise RecordError(f"{path}: {error}") from error
    if not isinstance(run, dict):
        raise RecordError(f"{path}: not a map")
    if run.get("version", VERSION) != VERSION:
        raise RecordError(
            f"{path}: a run of version {run['version']}, and this reads version {VERSION}; "
            "check it with the commit it names"
        )
    return run


def _read(path: Path, make: Callable[[dict[str, Any]], _T]) -> Iterator[_T]:
    """Give what the lines of a file stand for; nothing if there is no such file."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                made = make(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                why = f"no field {error}" if isinstance(error, KeyError) else str(error)
                raise RecordError(f"{path}, line {number}: {why}") from error
            yield made


def _fault(record: dict[str, Any]) -> Fault:
    return Fault(
        int(record["at"]),
        None if record["to"] is None else int(record["to"]),
        str(record["kind"]),
        tuple(record.get("nodes") or ()),
        str(record.get("detail", "")),
        str(record.get("scenario", "")),
    )


def _sample(record: dict[str, Any]) -> Sample:
    ready = record.get("ready") or 0
    return Sample(
        int(record["at"]),
        int(record["node"]),
        bool(record["up"]),
        str(record.get("role") or ""),
        int(record.get("term") or 0),
        record.get("leader") or None,
        int(record.get("commit") or 0),
        int(record.get("applied") or 0),
        dict(ready) if isinstance(ready, dict) else int(ready),
        bool(record.get("disk_low")),
        str(record.get("digest") or ""),
        int(record.get("digest_index") or 0),
    )


def _read_export(path: Path) -> Export:
    lines = _read(path, dict)
    head = next(lines, None)
    if head is None or "node" not in head:
        raise RecordError(f"{path}, line 1: says of no node")
    tasks: dict[str, Mapping[str, Any]] = {}
    log: dict[int, tuple[int, int]] = {}
    for number, record in enumerate(lines, start=2):
        if "task" in record:
            tasks[record["task"]] = record
        elif {"log", "term", "crc"} <= record.keys():
            log[record["log"]] = (record["term"], record["crc"])
        else:
            raise RecordError(f"{path}, line {number}: neither a task nor a log entry")
    try:
        return Export(
            int(head["node"]),
            int(head["applied"]),
            str(head["digest"]),
            int(head["digest_index"]),
            tasks,
            log,
            bool(head.get("whole", True)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}, line 1: {error!r}") from error
