"""Lists: the tasks of a namespace and the log of a node, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tq.caller import Caller
from tq.durations import Duration
from tq.errors import ConfigError, ProtocolError
from tq.protocol import LIST_DEFAULT, LIST_MAX, Type
from tq.status import TaskStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tq.caller import Consistency


class TaskPage(NamedTuple):
    """A part of the list of tasks.

    Attributes:
        tasks: In order of id, without their histories.
        after: What to ask for to go on; None at the end of the list. A page may be short, or
            empty, and not be the last.
        applied_index: Log index of the state that all of it shows.
    """

    tasks: list[TaskStatus]
    after: str | None
    applied_index: int


class LogPage(NamedTuple):
    """A part of a node's log: what is the same on all nodes.

    Attributes:
        first_index: First entry that the node still keeps.
        last_index: Last one that it knows to be committed.
        entries: (index, term, CRC-32) of some entries, in order, without a gap.
    """

    first_index: int
    last_index: int
    entries: list[tuple[int, int, int]]


class ListCalls(Caller):
    """What lists things. `tq.Client` has these methods."""

    async def list_tasks(
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
        """Return one page of the tasks of the namespace, in order of id.

        Args:
            queue: Of the tasks; all if None.
            states: Of the tasks; all if None.
            after: As the page before said; the beginning if None. May be a task's id.
            limit: Tasks at most, 1..1000.
            consistency: As for `status`.
            at_least: As for `status`.
            node: `host:port` of a node that is to answer itself, whatever its role; its
                answer is a stale one.
            deadline: Instead of the client's own.

        Raises:
            BadRequest: There is no such state, or a value is out of range.
            Unavailable: No leader answered; for a stale answer, no node that has applied as
                much as `at_least` and as earlier answers showed.
            ConfigError: There is no such consistency, or `after` is no id.
        """
        if consistency not in ("linearizable", "stale") or (
            at_least and consistency != "stale" and node is None
        ):
            raise ConfigError(
                "consistency is 'linearizable' or 'stale', and at_least goes with 'stale'"
            )
        options: dict[str, object] = {"limit": limit}
        if queue is not None:
            options["queue"] = queue
        if states is not None:
            options["states"] = list(states)
        if after is not None:
            options["after"] = _cursor(after)
        if node is not None:
            options |= {"consistency": "stale", "at_least": at_least}
            answer = await self._ask_node(
                node, Type.LIST_TASKS, [options], deadline=deadline or self._deadline_s, size=4
            )
            return _task_page(answer, is_stale=True)
        if consistency == "linearizable":
            answer = await self._call(Type.LIST_TASKS, [options], deadline=deadline, size=4)
            return _task_page(answer)
        options |= {"consistency": "stale", "at_least": max(at_least, self._seen_index)}
        answer = await self._call(
            Type.LIST_TASKS, [options], deadline=deadline, size=4, channel=self._readers
        )
        page = _task_page(answer, is_stale=True)
        self._seen_index = max(self._seen_index, page.applied_index)
        return page

    async def tasks(
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
    ) -> AsyncIterator[TaskStatus]:
        """Give the tasks of the namespace in order of id, page by page.

        A task that is there from the first page to the last is given once, with the state
        it has when its page is read; `limit` is of a page, and so is `deadline`. Otherwise
        as `list_tasks`.
        """
        while True:
            page = await self.list_tasks(
                queue=queue,
                states=states,
                after=after,
                limit=limit,
                consistency=consistency,
                at_least=at_least,
                node=node,
                deadline=deadline,
            )
            for status in page.tasks:
                yield status
            after = page.after
            if after is None:
                return

    async def node_log(
        self, address: str, *, start: int = 0, limit: int = LIST_MAX, deadline: Duration = "10s"
    ) -> LogPage:
        """Ask one node for checksums of its log as far as it is committed.

        Args:
            address: `host:port` of the node.
            start: First index; what is not kept any more is left out.
            limit: Entries at most, 1..1000; there may be fewer.
            deadline: For everything together.

        Raises:
            Unavailable: It did not answer; the text says why.
            Forbidden: The token's role is not `admin`.
        """
        answer = await self._ask_node(
            address, Type.LOG_HASHES, [start, limit], deadline=deadline, size=4
        )
        try:
            entries = [(int(index), int(term), int(crc)) for index, term, crc in answer[3]]
            return LogPage(int(answer[1]), int(answer[2]), entries)
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"the answer to LOG_HASHES makes no sense: {error}") from None


def _cursor(after: str) -> bytes:
    try:
        cursor = bytes.fromhex(after.replace("-", ""))
    except (AttributeError, ValueError):
        raise ConfigError(f"after {after!r} is no id of a task") from None
    return cursor


def _task_page(answer: list[Any], *, is_stale: bool = False) -> TaskPage:
    match answer:
        case [_, [*maps], bytes() as cursor, int() as index, *_]:
            seen_at = index if is_stale else None
            tasks = [TaskStatus.from_map(one, applied_index=seen_at) for one in maps]
            return TaskPage(tasks, cursor.hex() or None, index)
    raise ProtocolError("the answer to LIST_TASKS makes no sense")
