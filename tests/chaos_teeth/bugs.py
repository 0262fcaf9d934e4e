"""Bugs of real nodes that the simulation plants in another way, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.directory import DataDirectory
from cluster.disk import RocksDisk
from node.broker import Broker
from node.dispatcher import Dispatcher
from node.session import Session
from statemachine import Accepted, Refused, Reply, Submit
from statemachine.types import Code

if TYPE_CHECKING:
    from cluster.interface import Status
    from node.proposer import Request
    from statemachine import ClientCommand, TaskId

_overwrite = DataDirectory.overwrite


def syncs_nothing(disk: RocksDisk) -> int:
    """What the system was given is taken for durable."""
    disk.condition.check()
    return disk.sequence


def notes_without_sync(
    directory: DataDirectory, name: str, content: bytes, *, at_bytes: int = 0, durable: bool = False
) -> None:
    """The mark is written as carelessly as the database."""
    del durable
    _overwrite(directory, name, content, at_bytes=at_bytes)


class LeaderRemembers(Broker):
    """Which ids were submitted is kept in the leader's memory, and gone with its office.

    To be planted with a machine that knows the ids of live tasks alone.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        self._first: dict[TaskId, tuple[int, Submit]] = {}
        super().__init__(*given, **named)

    def role_changed(self, status: Status) -> None:
        super().role_changed(status)
        if not self.leadership.leads:
            self._first.clear()

    def _answer(self, request: Request, reply: Reply) -> None:
        command = request.command
        if isinstance(command, Submit) and isinstance(reply, Accepted):
            self._first.setdefault(command.task_id, (reply.log_index, command))
        super()._answer(request, reply)

    def _make_dispatcher(self) -> Dispatcher:
        dispatcher = super()._make_dispatcher()
        propose = dispatcher._propose

        def knowing(session: Session, command: ClientCommand, spliced: bytes, type_: int) -> None:
            known = self._first.get(command.task_id) if isinstance(command, Submit) else None
            if known is None or not isinstance(command, Submit):
                propose(session, command, spliced, type_)
                return
            index, first = known
            same = (command.kind, command.payload) == (first.kind, first.payload)
            self._door.arrived(command)
            reply = Accepted(index) if same else Refused(Code.CONFLICT, "the task id is taken")
            self._answers.reply(session, type_, command.request_id, reply)

        dispatcher._propose = knowing  # type: ignore[method-assign]  # the plant
        return dispatcher
