"""The blocking client: the same methods, for code without an event loop.

One background thread runs one event loop with one `Client`; each method hands its
call over and waits. Any thread may use it, and a forked child starts its own thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from tq.client import DEADLINE_DEFAULT, IN_FLIGHT_MAX, Client
from tq.link import Link
from tq.protocol import LIST_DEFAULT, LIST_MAX

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from tq.caller import Consistency
    from tq.connection import Dial
    from tq.durations import Duration
    from tq.errors import TqError
    from tq.ids import TaskId
    from tq.listing import LogPage, TaskPage
    from tq.new_task import NewTask, Retry, Submitted
    from tq.node_info import NodeInfo
    from tq.status import TaskStatus
    from tq.worker_calls import Grant, WorkerSession

Answer = TypeVar("Answer")


class SyncClient:
    """A blocking client of one cluster.

    It has the methods of `Client`, with the same arguments, results and errors;
    `Client` describes them. Inside a running event loop each raises `ConfigError`
    instead of blocking it.

    Args:
        servers: As for `Client`, and so are all others.
        namespace: Where the queues live.
        token: Proves who we are.
        ca: File with the certificate of the cluster's authority.
        deadline: How long a call may take unless it says otherwise.
        name: For the nodes' logs.
        in_flight_max: Requests at one time; more wait for room.
        rng: Draws the jitter of retries.
        dial: Makes transports.

    Raises:
        ConfigError: An argument makes no sense.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        namespace: str = "default",
        token: str | None = None,
        ca: str | Path | None = None,
        deadline: Duration = DEADLINE_DEFAULT,
        name: str = "tq-client",
        in_flight_max: int = IN_FLIGHT_MAX,
        rng: random.Random | None = None,
        dial: Dial | None = None,
    ) -> None:
        def make() -> Client:
            return Client(
                servers,
                namespace=namespace,
                token=token,
                ca=ca,
                deadline=deadline,
                name=name,
                in_flight_max=in_flight_max,
                rng=rng,
                dial=dial,
            )

        self._shown = f"Sync{make()!r}"  # also tells of wrong arguments here and now
        self._link = Link(make)

    def __repr__(self) -> str:
        return self._shown

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up what is in flight, close the connection and end the thread."""
        self._link.close()

    def connect(self, *, deadline: Duration | None = None) -> None:
        """Find the leader now, rather than with the first call."""
        self._do("connect", lambda client: client.connect(deadline=deadline))

    def submit(
        self,
        name: str,
        payload: bytes = b"",
        *,
        queue: str = "default",
        task_id: TaskId | None = None,
        priority: int | None = None,
        delay: Duration | None = None,
        retry: Retry | None = None,
        lease: Duration | None = None,
        timeout: Duration | None = None,
        deadline: Duration | None = None,
        wait_when_full: bool = False,
    ) -> Submitted:
        """Submit one task; returns when a quorum has it on disk."""
        return self._do(
            "submit",
            lambda client: client.submit(
                name,
                payload,
                queue=queue,
                task_id=task_id,
                priority=priority,
                delay=delay,
                retry=retry,
                lease=lease,
                timeout=timeout,
                deadline=deadline,
                wait_when_full=wait_when_full,
            ),
        )

    def submit_many(
        self,
        tasks: Sequence[NewTask],
        *,
        deadline: Duration | None = None,
        wait_when_full: bool = False,
    ) -> list[Submitted | TqError]:
        """Submit many tasks; each is accepted or refused for itself."""
        return self._do(
            "submit_many",
            lambda client: client.submit_many(
                tasks, deadline=deadline, wait_when_full=wait_when_full
            ),
        )

    def status(
        self,
        task_id: TaskId | str,
        *,
        consistency: Consistency = "linearizable",
        at_least: int = 0,
        deadline: Duration | None = None,
    ) -> TaskStatus:
        """Read a task's status; linearizable unless told that a stale one will do."""
        return self._do(
            "status",
            lambda client: client.status(
                task_id, consistency=consistency, at_least=at_least, deadline=deadline
            ),
        )

    def list_tasks(
        self,
        *,
        queue: str | None = None,
        states: Sequence[str] | None = None,
        after: str | None = None,
        limit: int = LIST_DEFAULT,
        consistency: Consistency = "linearizable",
        at_least: int = 0,
        node: str | None = None,
        deadline: Duration | None = None,
    ) -> TaskPage:
        """Return one page of the tasks of the namespace, in order of id."""
        return self._do(
            "list_tasks",
            lambda client: client.list_tasks(
                queue=queue,
                states=states,
                after=after,
                limit=limit,
                consistency=consistency,
                at_least=at_least,
                node=node,
                deadline=deadline,
            ),
        )

    def tasks(
        self,
        *,
        queue: str | None = None,
        states: Sequence[str] | None = None,
        after: str | None = None,
        limit: int = LIST_MAX,
        consistency: Consistency = "linearizable",
        at_least: int = 0,
        node: str | None = None,
        deadline: Duration | None = None,
    ) -> Iterator[TaskStatus]:
        """Give the tasks of the namespace in order of id, page by page."""
        while True:
            page = self.list_tasks(
                queue=queue,
                states=states,
                after=after,
                limit=limit,
                consistency=consistency,
                at_least=at_least,
                node=node,
                deadline=deadline,
            )
            yield from page.tasks
            after = page.after
            if after is None:
                return

    def wait(
        self,
        task_id: TaskId | str,
        *,
        timeout: Duration | None = None,
    ) -> TaskStatus:
        """Wait until a task is over, across changes of leader."""
        return self._do("wait", lambda client: client.wait(task_id, timeout=timeout))

    def cancel(
        self, task_id: TaskId | str, reason: str = "", *, deadline: Duration | None = None
    ) -> str:
        """Cancel a task that is not running."""
        return self._do("cancel", lambda client: client.cancel(task_id, reason, deadline=deadline))

    def node_info(self, *, deadline: Duration | None = None) -> NodeInfo:
        """Return what the node that leads said of itself; connects if nothing did yet."""
        return self._do("node_info", lambda client: client.node_info(deadline=deadline))

    def stats(self, *, deadline: Duration | None = None) -> dict[str, Any]:
        """Count tasks by state and queue, and workers; linearizable."""
        return self._do("stats", lambda client: client.stats(deadline=deadline))

    def workers(self, *, deadline: Duration | None = None) -> list[dict[str, Any]]:
        """List the workers that have a session."""
        return self._do("workers", lambda client: client.workers(deadline=deadline))

    def add_node(self, node_id: int, address: str, *, deadline: Duration | None = None) -> int:
        """Let a node that was started with `--join` into the cluster, as a learner."""
        return self._do(
            "add_node", lambda client: client.add_node(node_id, address, deadline=deadline)
        )

    def promote_node(self, node_id: int, *, deadline: Duration | None = None) -> int:
        """Make a learner that has caught up a voter."""
        return self._do(
            "promote_node", lambda client: client.promote_node(node_id, deadline=deadline)
        )

    def remove_node(self, node_id: int, *, deadline: Duration | None = None) -> int:
        """Remove a voter or a learner; a leader hands over first."""
        return self._do(
            "remove_node", lambda client: client.remove_node(node_id, deadline=deadline)
        )

    def node_status(self, address: str, *, deadline: Duration = "1s") -> dict[str, Any]:
        """Ask one node about itself, whatever its role."""
        return self._do(
            "node_status", lambda client: client.node_status(address, deadline=deadline)
        )

    def node_digest(self, address: str, *, deadline: Duration = "10s") -> tuple[int, bytes]:
        """Have one node compute the digest over its whole state."""
        return self._do(
            "node_digest", lambda client: client.node_digest(address, deadline=deadline)
        )

    def node_log(
        self, address: str, *, start: int = 0, limit: int = LIST_MAX, deadline: Duration = "10s"
    ) -> LogPage:
        """Ask one node for checksums of its log as far as it is committed."""
        return self._do(
            "node_log",
            lambda client: client.node_log(address, start=start, limit=limit, deadline=deadline),
        )

    def register_worker(
        self,
        worker_id: bytes,
        *,
        name: str,
        queues: Sequence[str],
        capabilities: Mapping[str, str] | None = None,
        deadline: Duration | None = None,
    ) -> WorkerSession:
        """Open a session."""
        return self._do(
            "register_worker",
            lambda client: client.register_worker(
                worker_id, name=name, queues=queues, capabilities=capabilities, deadline=deadline
            ),
        )

    def deregister_worker(self, session: int, *, deadline: Duration | None = None) -> None:
        """End a session; what it had claimed goes back. Ending it twice is no error."""
        self._do(
            "deregister_worker", lambda client: client.deregister_worker(session, deadline=deadline)
        )

    def heartbeat(
        self,
        session: int,
        tokens: Sequence[int] = (),
        stats: Mapping[str, object] | None = None,
        *,
        deadline: Duration | None = None,
    ) -> list[int]:
        """Keep a session and its leases alive."""
        return self._do(
            "heartbeat", lambda client: client.heartbeat(session, tokens, stats, deadline=deadline)
        )

    def claim(
        self,
        session: int,
        queues: Sequence[str],
        count: int,
        *,
        wait: Duration = 0,
        deadline: Duration | None = None,
    ) -> list[Grant]:
        """Claim up to `count` tasks, highest priority first."""
        return self._do(
            "claim",
            lambda client: client.claim(session, queues, count, wait=wait, deadline=deadline),
        )

    def complete(
        self,
        task_id: TaskId | str,
        token: int,
        result: bytes = b"",
        *,
        deadline: Duration | None = None,
    ) -> str:
        """Say that an attempt succeeded."""
        return self._do(
            "complete", lambda client: client.complete(task_id, token, result, deadline=deadline)
        )

    def fail(
        self,
        task_id: TaskId | str,
        token: int,
        error: str,
        *,
        retry: bool = True,
        detail: bytes = b"",
        deadline: Duration | None = None,
    ) -> str:
        """Say that an attempt failed."""
        return self._do(
            "fail",
            lambda client: client.fail(
                task_id, token, error, retry=retry, detail=detail, deadline=deadline
            ),
        )

    def extend(
        self,
        task_id: TaskId | str,
        token: int,
        lease: Duration,
        *,
        deadline: Duration | None = None,
    ) -> None:
        """Change the length of one lease, from now on."""
        self._do("extend", lambda client: client.extend(task_id, token, lease, deadline=deadline))

    def progress(
        self,
        task_id: TaskId | str,
        token: int,
        permille: int,
        note: str = "",
        *,
        deadline: Duration | None = None,
    ) -> None:
        """Say how far an attempt is."""
        self._do(
            "progress",
            lambda client: client.progress(task_id, token, permille, note, deadline=deadline),
        )

    def release(
        self, task_id: TaskId | str, token: int, *, deadline: Duration | None = None
    ) -> None:
        """Give a claimed task back; it keeps its place in the line."""
        self._do("release", lambda client: client.release(task_id, token, deadline=deadline))

    def _do(self, name: str, use: Callable[[Client], Coroutine[Any, Any, Answer]]) -> Answer:
        return self._link.call(use, hint=f"tq.Client and await its {name}()")
