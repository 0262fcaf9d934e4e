"""Calls of the SDK, recorded: one call is one operation.

Every beginning goes to the file at once, so that what a client had under way when its process
was killed is on record as well: it may have had its effect. `merge` makes one history of the
files of all processes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from chaos.history import HistoryWriter, Operation, Outcome, RecordError, to_line
from tq import Rejected, TqError, Unavailable, UnknownOutcome

_NUMBER: Final = re.compile(rb'\{"n":(\d+),')
_PERHAPS: Final = frozenset({"heartbeat"})
"""What the SDK calls unavailable also when it was sent and never answered, and has effects."""

Answer = TypeVar("Answer")


class Journal(HistoryWriter):
    """A history that notes each beginning at once, and survives the end of its process.

    Args:
        path: File to write; what was there is replaced.
        first: Number of the first operation.
    """

    def __init__(self, path: Path, *, first: int = 1) -> None:
        super().__init__(path)
        self._numbers = itertools.count(first)

    def begin(
        self, who: str, kind: str, task: str = "", arguments: Mapping[str, Any] | None = None
    ) -> Operation:
        """Note that a client calls now."""
        operation = super().begin(who, kind, task, arguments)
        self._write(operation)
        return operation

    def _write(self, operation: Operation) -> None:
        self._file.write(to_line(operation))
        self._file.flush()


class Recorder:
    """Calls for one process of clients.

    Args:
        path: File of its journal.
        first: Number of its first operation.

    Attributes:
        refused: How often each code was heard, and `unknown`.
    """

    def __init__(self, path: Path, *, first: int = 1) -> None:
        self._journal = Journal(path, first=first)
        self.refused: dict[str, int] = {}

    async def call(
        self,
        who: str,
        kind: str,
        calling: Callable[[], Awaitable[Answer]],
        *,
        told: Callable[[Answer], object],
        task: str = "",
        arguments: Mapping[str, Any] | None = None,
        absent: Callable[[TqError], object | None] = lambda _: None,
    ) -> Answer | TqError:
        """Make one call.

        Args:
            who: The client.
            kind: Of operation.
            calling: The call.
            told: Makes the recorded value of its answer.
            task: Hexadecimal id.
            arguments: As they are recorded.
            absent: Makes a recorded value of an error that is an answer; None if it is none.

        Returns:
            The answer, or what was raised instead of it.

        Raises:
            TqError: What no cluster may answer, whatever is done to it.
        """
        operation = self._journal.begin(who, kind, task, arguments)
        try:
            answer = await calling()
        except TqError as error:
            value = absent(error)
            if value is not None:
                self._journal.end(operation, "ok", value)
            else:
                self.end(operation, error)
            return error
        self._journal.end(operation, "ok", told(answer))
        return answer

    def begin(
        self, who: str, kind: str, task: str, arguments: Mapping[str, Any] | None
    ) -> Operation:
        """Note the beginning of one of several calls that are made as one."""
        return self._journal.begin(who, kind, task, arguments)

    def accept(self, operation: Operation, value: object) -> None:
        """Note the answer to it."""
        self._journal.end(operation, "ok", value)

    def end(self, operation: Operation, error: TqError) -> None:
        """Note how a call ended that was not answered as it should be.

        Raises:
            TqError: What no cluster may answer, whatever is done to it.
        """
        outcome, value = outcome_of(operation.kind, error)
        said = value.get("code", outcome)
        self.refused[said] = self.refused.get(said, 0) + 1
        self._journal.end(operation, outcome, value)
        if isinstance(error, Rejected | Unavailable | UnknownOutcome):
            return
        raise error

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def outcome_of(kind: str, error: TqError) -> tuple[Outcome, dict[str, str]]:
    """Return the outcome and value that stand for an error of the SDK."""
    if isinstance(error, Rejected):
        return "fail", {"code": error.code}
    if isinstance(error, Unavailable) and kind not in _PERHAPS:
        return "fail", {"code": "UNAVAILABLE"}
    return "unknown", {"why": f"{type(error).__name__}: {error}"[:200]}


def merge(journals: Iterable[Path], history: Path) -> int:
    """Make one history of journals: of each operation its end, or the beginning it was left at.

    Returns:
        How many operations there are.

    Raises:
        RecordError: A line is none of a journal; the text names file and line.
    """
    count = 0
    with history.open("wb") as target:
        for journal in journals:
            count += _copy(journal, target)
    return count


def _copy(journal: Path, target: IO[bytes]) -> int:
    begun: dict[bytes, bytes] = {}
    count = 0
    with journal.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break  # its process was killed while it wrote
            found = _NUMBER.match(line)
            if found is None:
                raise RecordError(f"{journal}, line {number}: no operation")
            if begun.pop(found[1], None) is None:
                begun[found[1]] = line
            else:
                target.write(line)
                count += 1
    target.writelines(begun.values())
    return count + len(begun)
