"""The SDK of tq, a distributed task queue that replicates itself.

`App` turns functions into tasks that can be sent, `Worker` runs them. Below that,
`Client` is asynchronous and `SyncClient` has the same methods for code that blocks;
`ShardedClient` and `SyncShardedClient` spread queues over several clusters.
Durations are `"30s"`, seconds or a `timedelta`. Each call has a deadline (10 s unless
said otherwise) and raises one of the errors drawn in `tq.errors`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tq.app import App, PartlySubmitted
    from tq.client import Client
    from tq.context import Ctx, Discard, current
    from tq.durations import Duration
    from tq.errors import (
        BadRequest,
        ChangeRefused,
        ConfigError,
        Conflict,
        DiskFull,
        Forbidden,
        FrameTooLarge,
        LeaseLost,
        NotCancellable,
        NotFound,
        ProtocolError,
        QueueFull,
        RateLimited,
        Rejected,
        TaskFailed,
        TaskTimeout,
        TooNew,
        TooOld,
        TqError,
        Unauthenticated,
        Unavailable,
        UnknownOutcome,
        UnknownSession,
    )
    from tq.handle import Handle
    from tq.ids import TaskId
    from tq.listing import LogPage, TaskPage
    from tq.new_task import NewTask, Retry, Submitted
    from tq.serialization import SerializationError
    from tq.sharded import ShardedClient
    from tq.status import TaskStatus
    from tq.sync import SyncClient
    from tq.sync_sharded import SyncShardedClient
    from tq.task import Call, Task
    from tq.worker import Worker

__all__ = [
    # tasks
    "App",
    "Call",
    "Ctx",
    "Discard",
    "Handle",
    "Task",
    "Worker",
    "current",
    # clients
    "Client",
    "ShardedClient",
    "SyncClient",
    "SyncShardedClient",
    # what goes in and comes out
    "Duration",
    "LogPage",
    "NewTask",
    "Retry",
    "Submitted",
    "TaskId",
    "TaskPage",
    "TaskStatus",
    # errors
    "BadRequest",
    "ChangeRefused",
    "ConfigError",
    "Conflict",
    "DiskFull",
    "Forbidden",
    "FrameTooLarge",
    "LeaseLost",
    "NotCancellable",
    "NotFound",
    "PartlySubmitted",
    "ProtocolError",
    "QueueFull",
    "RateLimited",
    "Rejected",
    "SerializationError",
    "TaskFailed",
    "TaskTimeout",
    "TooNew",
    "TooOld",
    "TqError",
    "Unauthenticated",
    "Unavailable",
    "UnknownOutcome",
    "UnknownSession",
]


_HOMES = {
    "App": "tq.app",
    "Call": "tq.task",
    "Client": "tq.client",
    "Ctx": "tq.context",
    "Discard": "tq.context",
    "Duration": "tq.durations",
    "Handle": "tq.handle",
    "LogPage": "tq.listing",
    "NewTask": "tq.new_task",
    "Retry": "tq.new_task",
    "ShardedClient": "tq.sharded",
    "Submitted": "tq.new_task",
    "SyncClient": "tq.sync",
    "SyncShardedClient": "tq.sync_sharded",
    "Task": "tq.task",
    "TaskId": "tq.ids",
    "TaskPage": "tq.listing",
    "TaskStatus": "tq.status",
    "Worker": "tq.worker",
    "current": "tq.context",
    "PartlySubmitted": "tq.app",
    "SerializationError": "tq.serialization",
}
"""Module of each public name; what is not here lives in `tq.errors`."""


if not TYPE_CHECKING:  # a checker must not think that every name exists

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for: commands start quickly that way."""
        if name not in __all__:
            raise AttributeError(f"module 'tq' has no attribute {name!r}")
        value: object = getattr(import_module(_HOMES.get(name, "tq.errors")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
