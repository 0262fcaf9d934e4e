"""Several clusters by name, and the ways to ask them: one, the one that knows a task, or all.

What `tq.ShardedClient` stands on. Errors that come from a shard name it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from tq.addresses import parse_servers
from tq.errors import (
    ConfigError,
    NotCancellable,
    NotFound,
    ProtocolError,
    TqError,
    UnknownOutcome,
)
from tq.protocol import Code

if TYPE_CHECKING:
    from tq.client import Client
    from tq.ids import TaskId
    from tq.new_task import NewTask, Submitted
    from tq.placement import Placement

Answer = TypeVar("Answer")
Made = TypeVar("Made")

Servers: TypeAlias = str | Sequence[str]
Token: TypeAlias = str | Mapping[str, str] | None
Authority: TypeAlias = str | Path | Mapping[str, str | Path] | None


class Shards:
    """The clients of several clusters.

    Args:
        clients: By name.
        placement: Of the same names.
    """

    def __init__(self, clients: Mapping[str, Client], placement: Placement) -> None:
        self.clients = clients
        self._placement = placement

    async def home(self, task_id: TaskId, placed: str, deadline_s: float) -> str:
        """Return the shard that has a task already, as its id hints, else where it is placed."""
        for shard in self._placement.strays(task_id, placed):
            with naming(shard):
                try:
                    await self.clients[shard].status(task_id, deadline=deadline_s)
                except NotFound:
                    continue
                return shard
        return placed

    async def submit(
        self, shard: str, tasks: list[NewTask], deadline_s: float, *, wait_when_full: bool
    ) -> list[Submitted | TqError]:
        """Submit to one shard; what goes wrong there goes wrong for each of its tasks."""
        try:
            with naming(shard):
                answers = await self.clients[shard].submit_many(
                    tasks, deadline=deadline_s, wait_when_full=wait_when_full
                )
        except ProtocolError as error:  # it was sent, and the answer says nothing
            return [_unknown(error, task) for task in tasks]
        except TqError as error:
            return [error] * len(tasks)
        for answer in answers:
            if isinstance(answer, TqError):
                _name(answer, shard)
        return answers

    async def find(
        self,
        task_id: TaskId,
        ask: Callable[[Client, float | None], Coroutine[object, object, Answer]],
        *,
        limit_s: float | None,
    ) -> Answer:
        """Ask the shards that an id hints at, and the others only if those do not know it.

        Args:
            task_id: The task.
            ask: Asks one shard, within so many seconds.
            limit_s: For everything together; None sets none.

        Raises:
            NotFound: No shard knows the task.
            TqError: None of those that could say knows it, and this one could not.
        """
        left_s = None if limit_s is None else clock(limit_s)
        hinted = self._placement.hinted(task_id)
        others = [name for name in self.clients if name not in hinted]
        for names in filter(None, (hinted, others)):
            try:
                return await self._first(names, lambda c: ask(c, left_s() if left_s else None))
            except NotFound:
                pass
        raise NotFound(Code.NOT_FOUND, f"no such task on the shards {', '.join(self.clients)}")

    async def each(
        self, ask: Callable[[Client], Coroutine[object, object, Answer]]
    ) -> dict[str, Answer | TqError]:
        """Ask all shards; one that does not answer gives its error."""
        answers = await asyncio.gather(*(kept(self._one(name, ask)) for name in self.clients))
        return dict(zip(self.clients, answers, strict=True))

    async def _first(
        self, names: Sequence[str], ask: Callable[[Client], Coroutine[object, object, Answer]]
    ) -> Answer:
        """Return what the first shard says that knows the task."""
        asked = [asyncio.create_task(self._one(name, ask)) for name in names]
        trouble: TqError | None = None
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    return await answer
                except NotFound:
                    pass
                except NotCancellable:  # says that the task is there
                    raise
                except TqError as error:
                    trouble = trouble or error
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise trouble or NotFound(Code.NOT_FOUND, "no such task")

    async def _one(
        self, name: str, ask: Callable[[Client], Coroutine[object, object, Answer]]
    ) -> Answer:
        with naming(name):
            return await ask(self.clients[name])


def each_shard(
    shards: Mapping[str, Servers],
    *,
    token: Token,
    ca: Authority,
    make: Callable[[Servers, str | None, str | Path | None], Made],
) -> Mapping[str, Made]:
    """Make something of each shard's addresses, token and authority.

    Raises:
        ConfigError: Two shards share an address, or what is given by name names no shard.
    """
    owners: dict[str, str] = {}
    made: dict[str, Made] = {}
    for given in (token, ca):
        if isinstance(given, Mapping) and (unknown := set(given).difference(shards)):
            raise ConfigError(f"there is no shard {min(unknown)!r} for the token or ca given to it")
    for name, servers in shards.items():
        try:
            addresses = parse_servers(servers)
            its_token = token.get(name) if isinstance(token, Mapping) else token
            its_ca = ca.get(name) if isinstance(ca, Mapping) else ca
            made[name] = make(servers, its_token, its_ca)
        except ConfigError as error:
            raise ConfigError(f"shard {name}: {error}") from error
        for address in addresses:
            if owners.setdefault(address, name) != name:
                raise ConfigError(f"the shards {owners[address]} and {name} share {address}")
    return MappingProxyType(made)


@contextmanager
def naming(shard: str) -> Iterator[None]:
    """Have the cluster's errors name their shard; a wrong argument is nobody's."""
    try:
        yield
    except ConfigError:
        raise
    except TqError as error:
        _name(error, shard)
        raise


def _name(error: TqError, shard: str) -> None:
    if error.shard is None:  # one error may stand for many tasks
        error.args = (f"shard {shard}: {error}",)
        error.shard = shard


async def kept(asking: Coroutine[object, object, Answer]) -> Answer | TqError:
    """Return an error of the SDK instead of raising it."""
    try:
        return await asking
    except TqError as error:
        return error


def clock(limit_s: float) -> Callable[[], float]:
    """Start a deadline; the function tells how many seconds are left, 0 or more."""
    loop = asyncio.get_running_loop()
    ends_at_s = loop.time() + limit_s
    return lambda: round(max(0.0, ends_at_s - loop.time()), 6)


def _unknown(error: TqError, task: NewTask) -> UnknownOutcome:
    unknown = UnknownOutcome(str(error))
    unknown.task_id, unknown.shard = task.task_id, error.shard
    return unknown
