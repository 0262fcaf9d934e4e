"""What goes into a submit and what comes out: `NewTask`, `Retry`, `Submitted`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tq.durations import Duration, milliseconds
from tq.errors import BadRequest, ConfigError
from tq.ids import TaskId
from tq.protocol import PAYLOAD_MAX_BYTES, Code, Type
from tq.request import frame_of

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What happens after a failed attempt.

    The n-th failure is followed by a pause of `base` * 2^(n-1), never more than `cap`,
    spread by jitter. A lost worker is no failure: it has a budget of its own.

    Attributes:
        max: Failures allowed beyond the first try, 0..1000.
        base: Pause after the first failure.
        cap: Longest pause.
        lost: Lost leases allowed, 0 or more.

    Raises:
        ConfigError: A value is out of range.
    """

    max: int = 5
    base: Duration = "2s"
    cap: Duration = "10m"
    lost: int = 3

    def __post_init__(self) -> None:
        if self.max < 0 or self.lost < 0:
            raise ConfigError("Retry: max and lost must be 0 or more")
        milliseconds(self.base)
        milliseconds(self.cap)

    def options(self) -> dict[str, int]:
        """Give the submit options of the wire."""
        return {
            "retry_max": self.max,
            "retry_base_ms": milliseconds(self.base),
            "retry_cap_ms": milliseconds(self.cap),
            "lost_max": self.lost,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """One task of a `submit_many`.

    Attributes:
        name: The task function's name.
        payload: Opaque bytes, up to 10 MiB.
        queue: Its line.
        task_id: Repeating a submit with the same id submits once; made if None.
        priority: 0..255, higher first; 100 if None.
        delay: Not before; at once if None.
        retry: The server's defaults if None.
        lease: How long a worker may be silent; the cluster's setting if None.
        timeout: How long an attempt may run; no limit if None.
    """

    name: str
    payload: bytes = b""
    queue: str = "default"
    task_id: TaskId | None = None
    priority: int | None = None
    delay: Duration | None = None
    retry: Retry | None = None
    lease: Duration | None = None
    timeout: Duration | None = None

    def fields(self, task_id: TaskId) -> list[object]:
        """Give the wire's form: id, queue, name, payload, options.

        Raises:
            BadRequest: The payload is over the limit.
            ConfigError: A value makes no sense.
        """
        if not isinstance(self.payload, bytes):
            raise ConfigError(f"a payload is bytes, not {type(self.payload).__name__}")
        if len(self.payload) > PAYLOAD_MAX_BYTES:
            raise too_large("payload", len(self.payload))
        return [task_id.raw, self.queue, self.name, self.payload, self._options()]

    def _options(self) -> dict[str, int]:
        options = self.retry.options() if self.retry is not None else {}
        if self.priority is not None:
            options["priority"] = self.priority
        if self.delay is not None:
            options["delay_ms"] = milliseconds(self.delay)
        if self.lease is not None:
            options["lease_ms"] = milliseconds(self.lease)
        if self.timeout is not None:
            options["timeout_ms"] = milliseconds(self.timeout)
        return options


class Submitted(NamedTuple):
    """A submit that the cluster has durably.

    Attributes:
        task_id: The task.
        log_index: Where in the log it was accepted first.
    """

    task_id: TaskId
    log_index: int


def too_large(what: str, size_bytes: int) -> BadRequest:
    """Make the error for bytes that the cluster would refuse, without sending them."""
    return BadRequest(
        Code.TOO_LARGE,
        f"{what} has {size_bytes} bytes, over the limit of {PAYLOAD_MAX_BYTES}",
    )


def sendable(fields: list[object]) -> list[object]:
    """Return the fields of a task of a batch, once it is certain that they can be sent.

    A batch that cannot be encoded would be found out after others have left.

    Args:
        fields: As `NewTask.fields` gives them.

    Raises:
        ConfigError: They hold something that the wire has no form for.
    """
    task_id, queue, name, _, options = fields
    size_bytes = len(frame_of(Type.SUBMIT_TASK, [0, task_id, queue, name, options]))
    if size_bytes > _FIELDS_MAX_BYTES:
        raise ConfigError(f"name and queue of a task of a batch: {size_bytes} bytes are too many")
    return fields


_BATCH_MAX_BYTES = 1024 * 1024
_FIELDS_MAX_BYTES = 512  # all of a task but its payload: names are short, options few


def cut(tasks: Sequence[list[object]], *, tasks_max: int) -> list[range]:
    """Cut tasks into batches of up to `tasks_max` tasks and 1 MiB.

    Args:
        tasks: As `NewTask.fields` gives them; the payload is element 3.
        tasks_max: Most tasks in one batch.

    Returns:
        The positions of each batch, in order. A task that is larger alone is one.
    """
    batches: list[range] = []
    start = 0
    size_bytes = 0
    for position, task in enumerate(tasks):
        payload = task[3]
        assert isinstance(payload, bytes)
        task_bytes = len(payload) + _FIELDS_MAX_BYTES
        full = position - start == tasks_max or size_bytes + task_bytes > _BATCH_MAX_BYTES
        if full and position > start:
            batches.append(range(start, position))
            start, size_bytes = position, 0
        size_bytes += task_bytes
    if start < len(tasks):
        batches.append(range(start, len(tasks)))
    return batches
