"""A task that was submitted, as its submitter holds it: `Handle`."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from tq.errors import TaskFailed

if TYPE_CHECKING:
    from tq.app import App
    from tq.durations import Duration
    from tq.ids import TaskId
    from tq.status import TaskStatus

R = TypeVar("R")


class Handle(Generic[R]):
    """One submitted task whose function returns `R`.

    Each verb has a blocking form and, with an `a` in front, one for coroutines;
    `await handle` is short for `await handle.aresult()`.

    Attributes:
        id: The task's id. Kept anywhere, `app.handle(id)` makes a handle of it again.
    """

    def __init__(self, app: App, task_id: TaskId) -> None:
        self._app = app
        self.id = task_id

    def __repr__(self) -> str:
        return f"<Handle {self.id}>"

    def status(self) -> TaskStatus:
        """Ask the cluster how the task is.

        Raises:
            NotFound: The cluster does not know it (any more).
        """
        return self._app.call(lambda client: client.status(self.id), hint="await handle.astatus()")

    async def astatus(self) -> TaskStatus:
        """Ask the cluster how the task is; see `status`."""
        return await self._app.acall(lambda client: client.status(self.id))

    def result(self, timeout: Duration | None = None) -> R:
        """Wait until the task is over and return what its function returned.

        The value has gone through the serializer: as JSON a tuple is a list now.

        Args:
            timeout: How long to wait; as long as it takes if left out.

        Raises:
            TaskTimeout: It was not over in time; it goes on.
            TaskFailed: It ended without a result; the error has its status.
            NotFound: The cluster does not know it (any more).
        """
        status = self._app.call(
            lambda client: client.wait(self.id, timeout=timeout), hint="await handle.aresult()"
        )
        return self._result_of(status)

    async def aresult(
        self,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- part of the wire: the server waits
    ) -> R:
        """Wait until the task is over and return what its function returned; see `result`."""
        status = await self._app.acall(lambda client: client.wait(self.id, timeout=timeout))
        return self._result_of(status)

    def __await__(self) -> Generator[Any, None, R]:
        return self.aresult().__await__()

    def cancel(self, reason: str = "") -> str:
        """Cancel the task if it does not run yet; return its state.

        Raises:
            NotCancellable: It runs already, or is over.
        """
        return self._app.call(
            lambda client: client.cancel(self.id, reason), hint="await handle.acancel()"
        )

    async def acancel(self, reason: str = "") -> str:
        """Cancel the task if it does not run yet; see `cancel`."""
        return await self._app.acall(lambda client: client.cancel(self.id, reason))

    def _result_of(self, status: TaskStatus) -> R:
        if status.state != "completed":
            raise TaskFailed(status)
        return cast("R", self._app.serializer.load_result(status.result or b""))
