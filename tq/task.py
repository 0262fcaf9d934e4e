"""Tasks: functions that can be sent to a worker, `Task`, and how they are sent, `Options`."""

from __future__ import annotations

import copy
import inspect
import sys
import typing
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeAlias, TypeVar, cast

from tq.context import Ctx, current_or_detached
from tq.durations import Duration, seconds
from tq.errors import ConfigError
from tq.handle import Handle
from tq.ids import TaskId
from tq.new_task import NewTask, Retry
from tq.protocol import PRIORITY_MAX, is_name

if TYPE_CHECKING:
    from tq.app import App

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a task is sent; None leaves the choice to the cluster.

    Attributes:
        queue: The line it waits in.
        priority: 0..255, higher first.
        delay: Not before so much time has passed.
        retry: How often and when to try again.
        lease: How long a worker may be silent before the task is given to another.
        timeout: How long one attempt may run.
        deadline: How long to try to hand the task over.
        task_id: The id to use; repeating a submit with the same id is harmless.
    """

    queue: str = "default"
    priority: int | None = None
    delay: Duration | None = None
    retry: Retry | None = None
    lease: Duration | None = None
    timeout: Duration | None = None
    deadline: Duration | None = None
    task_id: TaskId | None = None

    def __post_init__(self) -> None:
        """Refuse here, at the line that says it, what the cluster would refuse later."""
        if not is_name(self.queue):
            raise ConfigError(f"queue {self.queue!r} is no name: use A-Z a-z 0-9 _ . : -")
        if self.priority is not None and not 0 <= self.priority <= PRIORITY_MAX:
            raise ConfigError(f"priority {self.priority} is not in 0..{PRIORITY_MAX}")
        for duration in (self.delay, self.lease, self.timeout, self.deadline):
            if duration is not None:
                seconds(duration)

    def on_the_wire(self) -> dict[str, Any]:
        """Return what belongs to the task, under the names the client has for it."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "deadline"}

    def but(self, **changes: Any) -> Options:  # noqa: ANN401 -- one type per option
        """Return a copy with every change that is not None."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})


@dataclass(frozen=True)
class Call(Generic[R]):
    """A task with its arguments, ready to be sent.

    Attributes:
        name: The task's name on the wire.
        payload: The arguments, serialized.
        options: How it is sent.
    """

    name: str
    payload: bytes
    options: Options

    def as_new_task(self) -> NewTask:
        """Return it as one of many for `Client.submit_many`."""
        return NewTask(name=self.name, payload=self.payload, **self.options.on_the_wire())


class Task(Generic[P, R]):
    """A function that takes `P`, gives `R`, and can be sent to a worker.

    Made by `@app.task`. Calling it runs the function here, as if it were undecorated;
    a first parameter annotated `Ctx` is filled in.

    Attributes:
        app: The app it belongs to.
        name: Its name on the wire.
        function: What was decorated.
        is_async: Whether that is a coroutine function.
    """

    def __init__(
        self, app: App, function: Callable[..., Any], *, name: str | None, options: Options
    ) -> None:
        self.app = app
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self.name = name or name_of(function)
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self._takes_ctx = takes_ctx(function)
        self._options = options
        self.__signature__ = _signature_to_send(function, without_first=self._takes_ctx)
        if not is_name(self.name):
            raise ConfigError(
                f"{self.name!r} cannot be a task's name: a function inside another one needs name="
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def send(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Submit the task and return once a majority of the cluster has it on disk.

        Raises:
            TypeError: The arguments do not fit the function.
            SerializationError: The arguments cannot be written as bytes.
            ConfigError: Called where an event loop is running; use `asend` there.
            TqError: As `Client.submit` raises.
        """
        return self.app.send(self.call(*args, **kwargs), hint=f"await {self.__name__}.asend(...)")

    async def asend(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Submit the task from a coroutine; see `send`."""
        return await self.app.asend(self.call(*args, **kwargs))

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Put the task and its arguments together, to be sent with others by `App.map`.

        Raises:
            TypeError: The arguments do not fit the function.
            SerializationError: The arguments cannot be written as bytes.
        """
        self.__signature__.bind(*args, **kwargs)
        return Call(self.name, self.app.serializer.dump_call(args, kwargs), self._options)

    def map(self, arguments: Iterable[Sequence[Any]]) -> list[Handle[R]]:
        """Submit the task once for each tuple of positional arguments, in as few steps as possible.

        Raises:
            PartlySubmitted: Some were refused; it has the outcome of each.
            TqError: As `send` raises.
        """
        return self.app.map(self._calls(arguments))

    async def amap(self, arguments: Iterable[Sequence[Any]]) -> list[Handle[R]]:
        """Submit many from a coroutine; see `map`."""
        return await self.app.amap(self._calls(arguments))

    def using(
        self,
        *,
        queue: str | None = None,
        priority: int | None = None,
        delay: Duration | None = None,
        retry: Retry | None = None,
        lease: Duration | None = None,
        timeout: Duration | None = None,
        deadline: Duration | None = None,
        task_id: TaskId | None = None,
    ) -> Self:
        """Return a copy of this task that is sent with other options; see `Options`."""
        other = copy.copy(self)
        other._options = self._options.but(  # noqa: SLF001 -- a copy of this very object
            queue=queue,
            priority=priority,
            delay=delay,
            retry=retry,
            lease=lease,
            timeout=timeout,
            deadline=deadline,
            task_id=task_id,
        )
        return other

    def invoke(self, payload: bytes) -> Any:  # noqa: ANN401 - R, or a coroutine of it
        """Call the function with the arguments in a payload; for workers.

        Raises:
            SerializationError: The payload is not a call.
        """
        args, kwargs = self.app.serializer.load_call(payload)
        return self._run(*args, **kwargs)

    def dump_result(self, value: object) -> bytes:
        """Write what the function returned; for workers."""
        return self.app.serializer.dump_result(value)

    def _run(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the function takes
        first = (current_or_detached(),) if self._takes_ctx else ()
        return self.function(*first, *args, **kwargs)

    def _calls(self, arguments: Iterable[Sequence[Any]]) -> list[Call[R]]:
        # What the tuples hold cannot be expressed as types: `bind` checks it here.
        call = cast("Callable[..., Call[R]]", self.call)
        return [call(*each) for each in arguments]


class PlainTask(Task[P, R]):
    """A task made of a plain function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now."""
        return cast("R", self._run(*args, **kwargs))


class AsyncTask(Task[P, R]):
    """A task made of a coroutine function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the function's coroutine, to be awaited here."""
        return cast("Coroutine[Any, Any, R]", self._run(*args, **kwargs))


AnyTask: TypeAlias = Task[..., Any]


def name_of(function: Callable[..., Any]) -> str:
    """Return `module:qualname`, the name under which other processes know a function.

    A script's module is called `__main__` only while it runs, so it goes by its real name.
    """
    module = function.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        module = spec.name if spec else Path(getattr(main, "__file__", module)).stem
    return f"{module}:{function.__qualname__}"


def takes_ctx(function: Callable[..., Any]) -> bool:
    """True when the function's first parameter is annotated `Ctx`."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        return False
    annotation = parameters[0].annotation
    if isinstance(annotation, str):
        annotation = _evaluated(function, parameters[0].name, annotation)
    return annotation is Ctx


def _evaluated(function: Callable[..., Any], parameter: str, text: str) -> object:
    """Resolve a postponed annotation, by its text if the names in it exist for checkers only."""
    try:
        return typing.get_type_hints(function).get(parameter)
    except (NameError, TypeError, AttributeError):
        return Ctx if text in {"Ctx", "tq.Ctx"} else None


def _signature_to_send(function: Callable[..., Any], *, without_first: bool) -> inspect.Signature:
    signature = inspect.signature(function)
    if not without_first:
        return signature
    return signature.replace(parameters=list(signature.parameters.values())[1:])
