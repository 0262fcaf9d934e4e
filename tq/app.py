"""The app: tasks by name, and the way to the cluster they are sent to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from tq.client import Client
from tq.context import Ctx
from tq.durations import Duration, seconds
from tq.environment import ca_of_environment, servers_of_environment, token_of_environment
from tq.errors import ConfigError, TqError
from tq.handle import Handle
from tq.ids import TaskId
from tq.link import Link
from tq.new_task import NewTask, Retry, Submitted
from tq.serialization import JsonSerializer, Serializer
from tq.status import TaskStatus
from tq.task import AnyTask, AsyncTask, Call, Options, PlainTask

P = ParamSpec("P")
R = TypeVar("R")
Answer = TypeVar("Answer")


class PartlySubmitted(TqError):  # noqa: N818 -- says what happened, as in tq.errors
    """Some tasks of a `map` were refused; the others are on their way.

    Attributes:
        outcomes: A handle or an error for each, in the order given. An app does not travel:
            in another process the task's id stands in place of its handle.
    """

    def __init__(self, outcomes: Sequence[Handle[Any] | TaskId | TqError]) -> None:
        errors = [outcome for outcome in outcomes if isinstance(outcome, TqError)]
        super().__init__(f"{len(errors)} of {len(outcomes)} tasks refused, first: {errors[0]}")
        self.outcomes = list(outcomes)

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to make this error again, in another process."""
        told = [one.id if isinstance(one, Handle) else one for one in self.outcomes]
        return type(self), (told,), {**self.__dict__, "outcomes": told}


class SubmitClient(Protocol):
    """What an app asks of a client; `tq.Client` and `tq.ShardedClient` are some."""

    async def close(self) -> None: ...  # noqa: D102 - each as in `tq.Client`
    async def submit(  # noqa: D102
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
        timeout: Duration | None = None,  # noqa: ASYNC109 -- of the task's attempts, not of this call
        deadline: Duration | None = None,
    ) -> Submitted: ...
    async def submit_many(  # noqa: D102
        self, tasks: Sequence[NewTask], *, deadline: Duration | None = None
    ) -> list[Submitted | TqError]: ...
    async def status(self, task_id: TaskId) -> TaskStatus: ...  # noqa: D102
    async def wait(  # noqa: D102
        self,
        task_id: TaskId,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- part of the wire: the server waits
    ) -> TaskStatus: ...
    async def cancel(self, task_id: TaskId, reason: str = "") -> str: ...  # noqa: D102


class App:
    """Tasks, and the cluster they are sent to.

    Making one opens nothing: the first `send` connects.

    Args:
        servers: `"tq://n1:7401,n2:7401"` or a list of addresses. Left out, the
            environment's TQ_SERVERS is read when the first connection is made.
        namespace: Where the app's queues live.
        token: Proves who is calling; left out, TQ_TOKEN or the file that TQ_TOKEN_FILE names
            is read like TQ_SERVERS.
        ca: File with the certificate of the cluster's authority, where the cluster speaks
            TLS with clients; left out, TQ_CA is read like TQ_SERVERS.
        deadline: How long each call tries before it raises.
        serializer: How arguments and results become bytes.
        client: Makes the client that submits, in place of `tq.Client`: a `tq.ShardedClient` of
            the same namespace, or one for tests.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        namespace: str = "default",
        token: str | None = None,
        ca: str | Path | None = None,
        deadline: Duration = "10s",
        serializer: Serializer | None = None,
        client: Callable[[], SubmitClient] | None = None,
    ) -> None:
        self.namespace = namespace
        self.serializer: Serializer = serializer or JsonSerializer()
        self._servers = servers
        self._token = token
        self._ca = ca
        self._deadline = deadline
        self._tasks: dict[str, AnyTask] = {}
        self._link: Link[SubmitClient] = Link(client or self.make_client)

    # -------------------------------------------------------------------------- tasks

    @property
    def task(self) -> TaskDecorator:
        """Make a task of a function: `@app.task`, or `@app.task(queue="mail", ...)`."""
        return TaskDecorator(self, Options(), name=None)

    @property
    def tasks(self) -> MappingProxyType[str, AnyTask]:
        """The tasks by their names on the wire; read only."""
        return MappingProxyType(self._tasks)

    def register(self, task: AnyTask) -> None:
        """Add a task.

        Raises:
            ConfigError: Another task has that name.
        """
        if task.name in self._tasks:
            raise ConfigError(f"two tasks are called {task.name!r}: give one of them name=")
        self._tasks[task.name] = task

    def handle(self, task_id: str) -> Handle[Any]:
        """Make a handle of an id that was kept somewhere; asks nobody.

        Raises:
            ConfigError: The text is not a task id.
        """
        return Handle(self, TaskId(task_id))

    # --------------------------------------------------------------------------- sends

    def send(self, call: Call[R], *, hint: str = "await app.asend(...)") -> Handle[R]:
        """Submit one call; see `Task.send`."""
        return self.call(self._sending(call), hint=hint)

    async def asend(self, call: Call[R]) -> Handle[R]:
        """Submit one call from a coroutine; see `Task.send`."""
        return await self.acall(self._sending(call))

    def map(self, calls: Iterable[Call[R]]) -> list[Handle[R]]:
        """Submit many calls in as few steps as possible, not atomically.

        The longest deadline among them counts for all.

        Returns:
            A handle for each, in the order given.

        Raises:
            PartlySubmitted: Some were refused; it has the outcome of each.
        """
        return self.call(self._sending_many(list(calls)), hint="await app.amap(...)")

    async def amap(self, calls: Iterable[Call[R]]) -> list[Handle[R]]:
        """Submit many calls from a coroutine; see `map`."""
        return await self.acall(self._sending_many(list(calls)))

    def _sending(self, call: Call[R]) -> Callable[[SubmitClient], Coroutine[Any, Any, Handle[R]]]:
        async def send(client: SubmitClient) -> Handle[R]:
            options = call.options
            submitted = await client.submit(
                call.name, call.payload, deadline=options.deadline, **options.on_the_wire()
            )
            return Handle(self, submitted.task_id)

        return send

    def _sending_many(
        self, calls: list[Call[R]]
    ) -> Callable[[SubmitClient], Coroutine[Any, Any, list[Handle[R]]]]:
        async def send(client: SubmitClient) -> list[Handle[R]]:
            deadlines = [c.options.deadline for c in calls if c.options.deadline is not None]
            answers = await client.submit_many(
                [call.as_new_task() for call in calls],
                deadline=max(deadlines, key=seconds, default=None),
            )
            outcomes: list[Handle[R] | TqError] = [
                answer if isinstance(answer, TqError) else Handle(self, answer.task_id)
                for answer in answers
            ]
            handles = [outcome for outcome in outcomes if isinstance(outcome, Handle)]
            if len(handles) < len(outcomes):
                raise PartlySubmitted(outcomes)
            return handles

        return send

    # --------------------------------------------------------------------- connections

    def make_client(
        self,
        *,
        servers: str | Sequence[str] | None = None,
        token: str | None = None,
        ca: str | Path | None = None,
        name: str = "tq-app",
    ) -> Client:
        """Make an unconnected client for the app's cluster and namespace.

        Args:
            servers: In place of the app's, and so are the next two.
            token: Proves who is calling.
            ca: File with the certificate of the cluster's authority.
            name: For the nodes' logs.

        Raises:
            ConfigError: Neither the app nor the environment says where the cluster is, or a
                file cannot be used.
        """
        where = servers or self._servers or servers_of_environment()
        if not where:
            raise ConfigError("no servers: give App(servers) or set TQ_SERVERS=host:7401,host:7401")
        return Client(
            where,
            namespace=self.namespace,
            token=token or self._token or token_of_environment(),
            ca=ca or self._ca or ca_of_environment(),
            deadline=self._deadline,
            name=name,
        )

    def call(
        self, use: Callable[[SubmitClient], Coroutine[Any, Any, Answer]], *, hint: str
    ) -> Answer:
        """Use the app's client and block; the hint says what a coroutine should use."""
        return self._link.call(use, hint=hint)

    async def acall(self, use: Callable[[SubmitClient], Coroutine[Any, Any, Answer]]) -> Answer:
        """Use the app's client from any event loop."""
        return await self._link.acall(use)

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        self._link.close()


class _Unpassable:
    """No caller has one, so a parameter that takes it takes anything, `Ctx` included."""


class TaskDecorator:
    """Makes tasks of functions; see `App.task`."""

    def __init__(self, app: App, options: Options, *, name: str | None) -> None:
        self._app = app
        self._options = options
        self._name = name

    # The order tells a checker more than it may believe: `def f(x: object)` would match
    # "takes a Ctx first" as well, so what takes anything is recognised before it.
    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine function is a plain one, too
        self, function: Callable[Concatenate[_Unpassable, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[Concatenate[Any, P], R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[_Unpassable, P], R], /
    ) -> PlainTask[Concatenate[Any, P], R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine function is a plain one, too
        self, function: Callable[Concatenate[Ctx, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Ctx, P], R], /) -> PlainTask[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine function is a plain one, too
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> PlainTask[P, R]: ...
    @overload
    def __call__(
        self,
        function: None = None,
        /,
        *,
        queue: str = "default",
        priority: int | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        lease: Duration | None = None,
        name: str | None = None,
    ) -> TaskDecorator: ...
    def __call__(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        queue: str | None = None,
        priority: int | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        lease: Duration | None = None,
        name: str | None = None,
    ) -> AnyTask | TaskDecorator:
        """Make a task of a function, or a decorator with these options.

        Args:
            function: What the worker is to run.
            queue: The line its tasks wait in; `default` unless given.
            priority: 0..255, higher first; 100 unless given.
            retry: How often and when to try again.
            timeout: How long one attempt may run.
            lease: How long a worker may be silent before the task is given to another.
            name: Its name on the wire; `module:qualname` unless given.

        Raises:
            ConfigError: An option makes no sense, or the name is taken.
        """
        if function is None:
            options = self._options.but(
                queue=queue, priority=priority, retry=retry, timeout=timeout, lease=lease
            )
            return TaskDecorator(self._app, options, name=name)
        kind = AsyncTask if inspect.iscoroutinefunction(function) else PlainTask
        task: AnyTask = kind(self._app, function, name=self._name, options=self._options)
        self._app.register(task)
        return task
