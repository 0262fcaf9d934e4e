"""What a running task can see of itself, and say: `Ctx`, `current()`, `Discard`."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

from tq.ids import TaskId
from tq.protocol import NOTE_MAX_BYTES

Progress = tuple[int, str]
"""What is reported: permille done (0..1000) and a note."""


class Discard(Exception):  # noqa: N818 - it is raised as an order, not as an error
    """Raise it in a task to fail at once, without another try.

    The task becomes a dead letter with the reason as its error.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Ctx:
    """One attempt at one task, as the task itself sees it.

    A function whose first parameter is annotated `Ctx` gets it from the worker;
    anything deeper in the call asks `tq.current()`. All of it may be used from any
    thread.

    Attributes:
        task_id: The task's id.
        name: The name the task was submitted under.
        queue: The queue it came from.
        token: The fencing token of this attempt. It grows with every claim of any
            task, so a store that remembers the highest one it has seen can refuse a
            worker that lost its lease without knowing it.
        attempt: 1 at the first try.
    """

    def __init__(
        self,
        *,
        task_id: TaskId,
        token: int,
        attempt: int,
        name: str = "",
        queue: str = "",
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.task_id = task_id
        self.name = name
        self.queue = queue
        self.token = token
        self.attempt = attempt
        self._on_progress = on_progress
        self._cancelled = threading.Event()
        self._lost = False

    @property
    def fence(self) -> int:
        """The fencing token, to send along with writes to other systems."""
        return self.token

    @property
    def cancelled(self) -> bool:
        """True once nobody will take this attempt's result: stop as soon as you can.

        The lease was lost, the execution timeout has passed, or the worker is leaving.
        An async task gets `CancelledError` as well; a plain function has to look.
        """
        return self._cancelled.is_set()

    @property
    def lost(self) -> bool:
        """True once the lease is lost: another worker may be running this task now."""
        return self._lost

    def wait_cancelled(self, timeout_s: float | None = None) -> bool:
        """Block a plain function until `cancelled` is true, or the time is over.

        Returns:
            `cancelled`.
        """
        return self._cancelled.wait(timeout_s)

    def progress(self, fraction: float, note: str = "") -> None:
        """Report how far the task is; never blocks.

        Reports leave at most once a second, so call it as often as you like: the
        newest one wins.

        Args:
            fraction: Part done, from 0.0 to 1.0; cut to that range. What is no number is 0.
            note: A few words for people; cut to 1 KiB.
        """
        if self._on_progress is not None:
            permille = round(min(fraction, 1.0) * 1000) if fraction > 0 else 0
            note = note.encode(errors="replace")[:NOTE_MAX_BYTES].decode(errors="ignore")
            self._on_progress((permille, note))

    def mark_cancelled(self, *, lost: bool = False) -> None:
        """Tell the task to stop; for the worker, and for tests of tasks."""
        self._lost = self._lost or lost
        self._cancelled.set()


_current: contextvars.ContextVar[Ctx] = contextvars.ContextVar("tq_current")


def current() -> Ctx:
    """Return the context of the task that is running here.

    Raises:
        RuntimeError: No task is running in this thread or coroutine.
    """
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("tq.current() was called outside of a running task") from None


def current_or_detached() -> Ctx:
    """Return the running task's context, or one that reports to nobody.

    With it a task that wants a `Ctx` can be called like a plain function, in tests too.
    """
    try:
        return _current.get()
    except LookupError:
        return Ctx(task_id=TaskId.from_bytes(bytes(16)), token=0, attempt=1)


def bind(ctx: Ctx) -> contextvars.Context:
    """Return a fresh execution context in which `current()` gives `ctx`."""
    context = contextvars.copy_context()
    context.run(_current.set, ctx)
    return context
