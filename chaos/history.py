"""What the clients of a run asked and were answered: one operation per line.

Times are those of CLOCK_MONOTONIC in nanoseconds, of one machine. An operation that was
answered with success is `ok`; one that certainly had no effect is `fail`, and its value is
`{"code": ...}`; all others are `unknown`, and may take effect at any time after they began,
or never. Payloads are told by their CRC, results as hexadecimal, as a node exports them.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self, TextIO

Outcome = Literal["ok", "fail", "unknown"]

_SHOWN_MAX: Final = 160
_OUTCOMES: Final = frozenset({"ok", "fail", "unknown"})


class RecordError(ValueError):
    """A line of a recorded file cannot be what was written."""


@dataclass(slots=True, eq=False)
class Operation:
    """One call of one client.

    Attributes:
        number: Unique in its run.
        who: The client that called.
        kind: `submit`, `claim`, `heartbeat`, `extend`, `progress`, `release`, `complete`,
            `fail`, `cancel`, `get`, `list`; perhaps `register` and `deregister`.
        task: Id of the task, hexadecimal; "" if it is about none or about several.
        arguments: What was asked for.
        at: When the client called, nanoseconds.
        to: When it had its answer or gave up; None if it never did.
        outcome: See the module.
        value: The answer.
    """

    number: int
    who: str
    kind: str
    task: str
    arguments: dict[str, Any]
    at: int
    to: int | None = None
    outcome: Outcome = "unknown"
    value: Any = field(default=None)

    @property
    def code(self) -> str:
        """The code of a refusal, "" of any other answer."""
        if self.outcome != "fail" or not isinstance(self.value, dict):
            return ""
        return str(self.value.get("code", ""))

    def describe(self, origin_ns: int = 0) -> str:
        """Say it in one line, with times in seconds since `origin_ns`."""
        began = f"{(self.at - origin_ns) / 1e9:.6f}"
        ended = "never" if self.to is None else f"{(self.to - origin_ns) / 1e9:.6f}"
        asked = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        said = "" if self.value is None else " " + json.dumps(self.value, default=str)
        text = f"#{self.number} {self.who} {self.kind}({asked[:_SHOWN_MAX]}) {began}..{ended} s"
        return f"{text} {self.outcome}{said[:_SHOWN_MAX]}"


class HistoryWriter:
    """Writes operations as they end; to be used by one thread.

    Args:
        path: File to write; what was there is replaced.
        clock_ns: The monotonic clock, nanoseconds.
    """

    def __init__(self, path: Path, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._clock_ns = clock_ns
        self._numbers = itertools.count(1)
        self._open: dict[int, Operation] = {}

    def begin(
        self, who: str, kind: str, task: str = "", arguments: Mapping[str, Any] | None = None
    ) -> Operation:
        """Note that a client calls now."""
        operation = Operation(
            next(self._numbers), who, kind, task, dict(arguments or {}), self._clock_ns()
        )
        self._open[operation.number] = operation
        return operation

    def end(self, operation: Operation, outcome: Outcome, value: object = None) -> None:
        """Note that a client knows now what came of its call, or gave up.

        Raises:
            ValueError: It has ended before.
        """
        if self._open.pop(operation.number, None) is None:
            raise ValueError(f"operation {operation.number} has ended before")
        operation.to = self._clock_ns()
        operation.outcome = outcome
        operation.value = value
        self._write(operation)

    def close(self) -> None:
        """Write what has not ended as unknown, and close the file."""
        for operation in self._open.values():
            self._write(operation)
        self._open.clear()
        self._file.close()

    def _write(self, operation: Operation) -> None:
        self._file.write(to_line(operation))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def to_line(operation: Operation) -> str:
    """Return the line that stands for an operation, with its end of line."""
    record = {
        "n": operation.number,
        "who": operation.who,
        "op": operation.kind,
        "task": operation.task,
        "args": operation.arguments,
        "at": operation.at,
        "to": operation.to,
        "out": operation.outcome,
        "value": operation.value,
    }
    return json.dumps(record, separators=(",", ":")) + "\n"


def read_history(path: Path) -> list[Operation]:
    """Return the operations of a file, in order of their beginning.

    Raises:
        RecordError: A line is not an operation; the text names file and line.
    """
    operations: list[Operation] = []
    numbers: set[int] = set()
    with path.open("rb") as lines:
        for line_number, line in enumerate(lines, start=1):
            try:
                operation = _from_record(json.loads(line), numbers)
            except (ValueError, TypeError, KeyError) as error:
                why = f"no field {error}" if isinstance(error, KeyError) else str(error)
                raise RecordError(f"{path}, line {line_number}: {why}") from error
            operations.append(operation)
    operations.sort(key=lambda operation: operation.at)
    return operations


def _from_record(record: dict[str, Any], numbers: set[int]) -> Operation:
    """Make the operation of a record whose number is not among `numbers`, and add it."""
    operation = Operation(
        record["n"],
        record["who"],
        record["op"],
        record["task"],
        record["args"],
        record["at"],
        record["to"],
        record["out"],
        record["value"],
    )
    at, to = operation.at, operation.to
    if type(at) is not int or type(operation.number) is not int:
        raise TypeError("number and times are integers")
    if operation.outcome not in _OUTCOMES:
        raise ValueError(f"outcome {operation.outcome!r} is none of ok, fail, unknown")
    if to is None:
        if operation.outcome != "unknown":
            raise ValueError("answered, and no time of the answer")
    elif type(to) is not int or to < at:
        raise ValueError(f"it ends at {to}, before it begins at {at}")
    if type(operation.arguments) is not dict or type(operation.task) is not str:
        raise TypeError("args is a map, and task is text")
    if operation.number in numbers:
        raise ValueError(f"operation {operation.number} is there twice")
    numbers.add(operation.number)
    return operation
