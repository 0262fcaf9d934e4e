"""One client of several independent clusters: every queue, or key, lives on one of them.

Nothing is shared between the clusters, so each adds its own throughput, and one that is down
takes its own queues with it and no others. `docs/scaling.md` says what that costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tq.client import DEADLINE_DEFAULT, IN_FLIGHT_MAX, Client
from tq.durations import Duration, seconds
from tq.errors import ConfigError, TqError
from tq.ids import TaskId
from tq.new_task import NewTask, Retry, Submitted, sendable
from tq.placement import Placement
from tq.shards import Authority, Servers, Shards, Token, clock, each_shard, kept, naming

if TYPE_CHECKING:
    import random
    from types import TracebackType

    from tq.caller import Consistency
    from tq.connection import Dial
    from tq.status import TaskStatus


class ShardedClient:
    """A client of several clusters, for one event loop.

    A task's shard follows from its queue, or from a `key` given in its place. All programs
    must know the same shards by the same names; addresses may differ and change. Each shard
    is connected to when it is first used. Every error that came from a shard names it in its
    text and in `error.shard`.

    Args:
        shards: Addresses of each cluster by its name, which decides what is placed there.
        draining: Names of shards that get nothing new, and are still asked for tasks.
        namespace: Where the queues live, on every shard.
        token: Proves who we are: one for all shards, or one for each by name.
        ca: File with the authority's certificate, for all or for each by name.
        deadline: How long a call may take unless it says otherwise.
        name: For the nodes' logs.
        in_flight_max: Requests at one time to each shard.
        rng: Draws the jitter of retries.
        dial: Makes transports; for tests.

    Raises:
        ConfigError: An argument makes no sense, or two shards share an address.

    Attributes:
        shards: The client of each shard, for what concerns one cluster alone: lists, members,
            reads with `at_least`, a task that is to go to this very shard.
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
        def client(servers: Servers, token: str | None, ca: str | Path | None) -> Client:
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

        self._placement = Placement(shards, draining=draining, namespace=namespace)
        self.shards: Mapping[str, Client] = each_shard(shards, token=token, ca=ca, make=client)
        self._shards = Shards(self.shards, self._placement)
        self.namespace = namespace
        self._deadline_s = seconds(deadline)

    def __repr__(self) -> str:
        return f"ShardedClient({', '.join(self.shards)}, namespace={self.namespace!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give up what is in flight and close the connections; not to be used again."""
        await asyncio.gather(*(client.close() for client in self.shards.values()))

    # --------------------------------------------------------------------- placement

    def place(self, key: str) -> str:
        """Return the name of the shard of a queue or key; asks nobody."""
        return self._placement.place(key)

    def new_id(self, key: str = "default") -> TaskId:
        """Make an id for a task of this queue or key, to be kept before it is submitted.

        It hints at the shard, so that one request finds the task. Ids that `submit` makes do
        so, too; any other id is good as well, and has all shards asked.
        """
        return self._placement.new_id(self.place(key))

    # ------------------------------------------------------------------------ submit

    async def submit(
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
        timeout: Duration | None = None,  # noqa: ASYNC109 -- of the task's attempts, not of this call
        deadline: Duration | None = None,
        wait_when_full: bool = False,
    ) -> Submitted:
        """Submit one task to the shard of its key; as `Client.submit` otherwise.

        With a `task_id` that hints at another shard, because shards were added since it was
        made, that shard is asked first, and gets the task if it has it already.

        Args:
            name: The task function's name.
            payload: Opaque bytes.
            key: Decides the shard, in place of the queue: spreads one queue over shards.
            queue: Its line.
            task_id: Submitting twice with the same id submits once; made if None.
            priority: 0..255, higher first.
            delay: Not before.
            retry: What happens after failures.
            lease: How long a worker may be silent.
            timeout: How long an attempt may run.
            deadline: Instead of the client's own.
            wait_when_full: Ask again, until the deadline, while the queue is full.
        """
        left_s = clock(self._limit_s(deadline))
        placed = self.place(queue if key is None else key)
        if task_id is None:
            task_id = self._placement.new_id(placed)
        else:
            placed = await self._shards.home(TaskId(task_id), placed, left_s())
        with naming(placed):
            return await self.shards[placed].submit(
                name,
                payload,
                queue=queue,
                task_id=task_id,
                priority=priority,
                delay=delay,
                retry=retry,
                lease=lease,
                timeout=timeout,
                deadline=left_s(),
                wait_when_full=wait_when_full,
            )

    async def submit_many(
        self,
        tasks: Sequence[NewTask],
        *,
        keys: Sequence[str] | None = None,
        deadline: Duration | None = None,
        wait_when_full: bool = False,
    ) -> list[Submitted | TqError]:
        """Submit many tasks, to all their shards at once; each is accepted or refused for itself.

        Args:
            tasks: In the order in which each shard should accept its own.
            keys: One for each task, in place of the queues.
            deadline: For all together, instead of the client's own.
            wait_when_full: Ask again, until the deadline, for those that found a full queue.

        Returns:
            For each task, in order, what happened to it. An `UnknownOutcome` has the
            task's id, for trying again.

        Raises:
            ConfigError: A task makes no sense, or there are more or fewer keys than tasks;
                nothing was sent.
            BadRequest: A payload is over the limit; nothing was sent.
        """
        if keys is not None and len(keys) != len(tasks):
            raise ConfigError(f"{len(keys)} keys for {len(tasks)} tasks: give one for each")
        left_s = clock(self._limit_s(deadline))
        places = [self.place(key) for key in keys or [task.queue for task in tasks]]
        made = [self._with_id(*each) for each in zip(tasks, places, strict=True)]
        results: dict[int, Submitted | TqError] = {}

        async def hand_over(shard: str, group: list[int]) -> None:
            answers = await self._shards.submit(
                shard, [made[at] for at in group], left_s(), wait_when_full=wait_when_full
            )
            results.update(zip(group, answers, strict=True))

        async def hand_over_stray(at: int, task_id: TaskId) -> None:
            try:
                shard = await self._shards.home(task_id, places[at], left_s())
            except TqError as error:
                results[at] = error
            else:
                await hand_over(shard, [at])

        groups: dict[str, list[int]] = {}
        strays: dict[int, TaskId] = {}  # one by one: those of a shard that is down stop no others
        for at, task in enumerate(tasks):
            if task.task_id and self._placement.strays(TaskId(task.task_id), places[at]):
                strays[at] = TaskId(task.task_id)
            else:
                groups.setdefault(places[at], []).append(at)
        await asyncio.gather(
            *(hand_over(*each) for each in groups.items()),
            *(hand_over_stray(*each) for each in strays.items()),
        )
        return [results[at] for at in range(len(tasks))]

    # ------------------------------------------------------------------ tasks by id

    async def status(
        self,
        task_id: TaskId | str,
        *,
        consistency: Consistency = "linearizable",
        deadline: Duration | None = None,
    ) -> TaskStatus:
        """Read a task's status, wherever it is; as `Client.status` otherwise.

        Raises:
            NotFound: Every shard was asked and none has it.
            TqError: A shard that may have it could not say; the error names it.
        """
        return await self._shards.find(
            TaskId(task_id),
            lambda client, left_s: client.status(task_id, consistency=consistency, deadline=left_s),
            limit_s=self._limit_s(deadline),
        )

    async def wait(
        self,
        task_id: TaskId | str,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- part of the wire: the server waits
    ) -> TaskStatus:
        """Wait until a task is over, wherever it is; as `Client.wait` otherwise.

        Raises:
            TaskTimeout: It is not over, as far as anybody said.
            NotFound: Every shard was asked and none has it.
        """
        return await self._shards.find(
            TaskId(task_id),
            lambda client, left_s: client.wait(task_id, timeout=left_s),
            limit_s=None if timeout is None else seconds(timeout),
        )

    async def cancel(
        self, task_id: TaskId | str, reason: str = "", *, deadline: Duration | None = None
    ) -> str:
        """Cancel a task that is not running, wherever it is; as `Client.cancel` otherwise.

        Raises:
            NotCancellable: It is running, or over.
            NotFound: Every shard was asked and none has it.
            TqError: A shard that may have it could not say; the error names it.
        """
        return await self._shards.find(
            TaskId(task_id),
            lambda client, left_s: client.cancel(task_id, reason, deadline=left_s),
            limit_s=self._limit_s(deadline),
        )

    # -------------------------------------------------------------------- all shards

    async def stats(
        self, *, deadline: Duration | None = None
    ) -> dict[str, dict[str, Any] | TqError]:
        """Return the statistics of each shard by name, or what kept it from answering."""
        return await self._shards.each(lambda client: client.stats(deadline=deadline))

    async def workers(
        self, *, deadline: Duration | None = None
    ) -> dict[str, list[dict[str, Any]] | TqError]:
        """Return the workers of each shard by name, or what kept it from answering."""
        return await self._shards.each(lambda client: client.workers(deadline=deadline))

    async def nodes(
        self, *, deadline: Duration = "1s"
    ) -> dict[str, dict[str, dict[str, Any] | TqError]]:
        """Ask every node that was named, whatever its role, about itself.

        Returns:
            For each shard by name, for each of its addresses: the node's status, or what
            kept it from answering.
        """

        async def ask(client: Client) -> dict[str, dict[str, Any] | TqError]:
            answers = [kept(client.node_status(at, deadline=deadline)) for at in client.servers]
            return dict(zip(client.servers, await asyncio.gather(*answers), strict=True))

        answers = await asyncio.gather(*(ask(client) for client in self.shards.values()))
        return dict(zip(self.shards, answers, strict=True))

    # ------------------------------------------------------------------------ inside

    def _limit_s(self, deadline: Duration | None) -> float:
        return self._deadline_s if deadline is None else seconds(deadline)

    def _with_id(self, task: NewTask, shard: str) -> NewTask:
        """Give a task an id; also tells of what makes no sense before anything is sent."""
        task_id = self._placement.new_id(shard) if task.task_id is None else TaskId(task.task_id)
        made = replace(task, task_id=task_id)
        sendable(made.fields(task_id))
        return made
