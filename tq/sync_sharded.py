"""The blocking client of several clusters: `ShardedClient` for code without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tq.client import DEADLINE_DEFAULT, IN_FLIGHT_MAX
from tq.link import Link
from tq.sharded import ShardedClient
from tq.shards import Authority, Servers, Token, each_shard
from tq.sync import SyncClient

if TYPE_CHECKING:
    import random
    from types import TracebackType

    from tq.caller import Consistency
    from tq.connection import Dial
    from tq.durations import Duration
    from tq.errors import TqError
    from tq.ids import TaskId
    from tq.new_task import NewTask, Retry, Submitted
    from tq.status import TaskStatus

Answer = TypeVar("Answer")


class SyncShardedClient:
    """A blocking client of several clusters.

    It has the methods of `ShardedClient`, with the same arguments, results and errors;
    `ShardedClient` describes them. Inside a running event loop each that asks a cluster
    raises `ConfigError` instead of blocking it.

    Args:
        shards: As for `ShardedClient`, and so are all others.
        draining: Shards that get nothing new.
        namespace: Where the queues live.
        token: Proves who we are.
        ca: File with the authority's certificate.
        deadline: How long a call may take unless it says otherwise.
        name: For the nodes' logs.
        in_flight_max: Requests at one time to each shard.
        rng: Draws the jitter of retries.
        dial: Makes transports.

    Raises:
        ConfigError: An argument makes no sense.

    Attributes:
        shards: A blocking client of each shard, with a thread of its own once it is used.
    """

    def __init__(
        self,
        shards: Mapping[str, Servers],
        *,
        draining: Collection[str] = (),
        namespace: str = "default",
        token: Token = None,
        ca: Authority = None,
        deadline: Duration = DEADLINE_DEFAULT,
        name: str = "tq-client",
        in_flight_max: int = IN_FLIGHT_MAX,
        rng: random.Random | None = None,
        dial: Dial | None = None,
    ) -> None:
        told: dict[str, Any] = {
            "namespace": namespace,
            "deadline": deadline,
            "name": name,
            "in_flight_max": in_flight_max,
            "rng": rng,
            "dial": dial,
        }

        def client(servers: Servers, token: str | None, ca: str | Path | None) -> SyncClient:
            return SyncClient(servers, token=token, ca=ca, **told)

        def make() -> ShardedClient:
            return ShardedClient(shards, draining=draining, token=token, ca=ca, **told)

        # It places and makes ids, which asks nobody, and tells of wrong arguments here and now.
        self._placing = make()
        self.shards: Mapping[str, SyncClient] = each_shard(shards, token=token, ca=ca, make=client)
        self._link = Link(make)

    def __repr__(self) -> str:
        return f"Sync{self._placing!r}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up what is in flight, close the connections and end the threads."""
        self._link.close()
        for client in self.shards.values():
            client.close()

    def place(self, key: str) -> str:
        """Return the name of the shard of a queue or key; asks nobody."""
        return self._placing.place(key)

    def new_id(self, key: str = "default") -> TaskId:
        """Make an id for a task of this queue or key, to be kept before it is submitted."""
        return self._placing.new_id(key)

    def submit(
        self,
        name: str,
        payload: bytes = b"",
        *,
        key: str | None = None,
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
        """Submit one task to the shard of its key."""
        return self._do(
            "submit",
            lambda client: client.submit(
                name,
                payload,
                key=key,
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
        keys: Sequence[str] | None = None,
        deadline: Duration | None = None,
        wait_when_full: bool = False,
    ) -> list[Submitted | TqError]:
        """Submit many tasks, to all their shards at once."""
        return self._do(
            "submit_many",
            lambda client: client.submit_many(
                tasks, keys=keys, deadline=deadline, wait_when_full=wait_when_full
            ),
        )

    def status(
        self,
        task_id: TaskId | str,
        *,
        consistency: Consistency = "linearizable",
        deadline: Duration | None = None,
    ) -> TaskStatus:
        """Read a task's status, wherever it is."""
        return self._do(
            "status",
            lambda client: client.status(task_id, consistency=consistency, deadline=deadline),
        )

    def wait(self, task_id: TaskId | str, *, timeout: Duration | None = None) -> TaskStatus:
        """Wait until a task is over, wherever it is."""
        return self._do("wait", lambda client: client.wait(task_id, timeout=timeout))

    def cancel(
        self, task_id: TaskId | str, reason: str = "", *, deadline: Duration | None = None
    ) -> str:
        """Cancel a task that is not running, wherever it is."""
        return self._do("cancel", lambda client: client.cancel(task_id, reason, deadline=deadline))

    def stats(self, *, deadline: Duration | None = None) -> dict[str, dict[str, Any] | TqError]:
        """Return the statistics of each shard by name, or what kept it from answering."""
        return self._do("stats", lambda client: client.stats(deadline=deadline))

    def workers(
        self, *, deadline: Duration | None = None
    ) -> dict[str, list[dict[str, Any]] | TqError]:
        """Return the workers of each shard by name, or what kept it from answering."""
        return self._do("workers", lambda client: client.workers(deadline=deadline))

    def nodes(self, *, deadline: Duration = "1s") -> dict[str, dict[str, dict[str, Any] | TqError]]:
        """Ask every node that was named, whatever its role, about itself."""
        return self._do("nodes", lambda client: client.nodes(deadline=deadline))

    def _do(self, name: str, use: Callable[[ShardedClient], Coroutine[Any, Any, Answer]]) -> Answer:
        return self._link.call(use, hint=f"tq.ShardedClient and await its {name}()")
