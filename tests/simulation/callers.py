"""A client's way to the leader, as `docs/protocol.md` tells a stranger to write it.

One `Caller` has one connection at a time. It says HELLO, follows REDIRECT, goes on to the
next node when a connection ends or its patience does, and sends whatever has no answer
again, byte for byte, until its deadline. It keeps apart what was certainly not accepted
from what nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.history import GAVE_UP, Operation
from tq.protocol import VERSION, Code, Type, encode, unpack

if TYPE_CHECKING:
    from tests.simulation.world import ClientLink, World

Done = Callable[[Operation], None]

WATCH_S: Final = 0.5
"""How often a caller looks at its clock."""
HELLO_S: Final = 2.0
KEEP_ALIVE_S: Final = 12.0
_PAUSE_MIN_S: Final = 0.08
_PAUSE_MAX_S: Final = 0.5

READING: Final = frozenset({"read", "stale", "wait", "heartbeat"})
"""Operations that change no task: a refusal of the last sending says it all."""
_ELSEWHERE: Final = frozenset(
    {Code.NO_QUORUM, Code.SHUTTING_DOWN, Code.TOO_MANY_CONNECTIONS, Code.BEHIND}
)
"""Not accepted, and another node may do better."""


class Call:
    """An operation on its way."""

    __slots__ = (
        "again_at", "done", "frame", "operation", "patience_s", "sent_at", "until", "wait_s",
    )  # fmt: skip

    def __init__(
        self,
        operation: Operation,
        frame: bytes,
        *,
        until: float,
        patience_s: float,
        wait_s: float,
        done: Done,
    ) -> None:
        self.operation = operation
        self.frame = frame
        self.until = until
        self.patience_s = patience_s
        self.wait_s = wait_s
        self.done = done
        self.sent_at: float | None = None
        """When it was sent on the present connection; None if it was not."""
        self.again_at = 0.0
        """Not to be sent before: the node asked for a rest."""


class Line:
    """One connection of a caller, from dialling to its end."""

    __slots__ = (
        "_caller", "clear_since", "dialled_at", "hello", "is_last", "link", "node_id",
        "outstanding", "ready",
    )  # fmt: skip

    def __init__(self, caller: Caller, node_id: int, now: float) -> None:
        self._caller = caller
        self.node_id = node_id
        self.link: ClientLink | None = None
        self.ready = False
        self.is_last = False
        """Nothing more is asked here: the answers that are due are waited for."""
        self.hello = 0
        self.dialled_at = now
        self.clear_since = now
        """Nothing has been in the way of answers since."""
        self.outstanding: dict[int, float] = {}
        """Requests without an answer on this connection, and from when on one is due."""

    def opened(self, link: ClientLink) -> None:
        """Say HELLO, unless nobody waits for this connection any more."""
        if self._caller.line is self:
            self.link = link
            self._caller.greet(self)
        else:
            link.close()

    def came(self, message_type: int, body: bytes) -> None:
        """Pass on one answer."""
        if self._caller.line is self:
            self._caller.came(self, message_type, unpack(body))

    def closed(self) -> None:
        """Tell the caller that it is alone again."""
        if self._caller.line is self:
            self._caller.lost()

    def send(self, number: int, frame: bytes, due_at: float) -> None:
        """Send one request whose answer is due at some time, at once as a rule."""
        assert self.link is not None
        self.outstanding[number] = due_at
        self.link.send(frame)

    def late(self, now: float, patience_s: float) -> list[int]:
        """Requests whose answer has been due for so long, with nothing in its way."""
        link = self.link
        if link is None or not link.is_open or not link.is_clear:
            self.clear_since = now
            return []
        since = self.clear_since
        return [
            number for number, at in self.outstanding.items() if now - max(at, since) > patience_s
        ]


class Caller:
    """Calls of one actor.

    Args:
        world: Where.
        name: Of the actor; its stream of chance has this name too.
        patience_s: How long an answer may take before another node is tried.
        anywhere: Any node will do: do not look for the leader.
        faithful: It leaves no connection on which an answer is due, so that one which never
            comes is noticed.
    """

    def __init__(
        self,
        world: World,
        name: str,
        *,
        patience_s: float,
        anywhere: bool = False,
        faithful: bool = False,
    ) -> None:
        self._world = world
        self._history = world.history
        self.name = name
        self.rng = world.rng(f"caller {name}")
        self.patience_s = patience_s
        self._anywhere = anywhere
        self._faithful = faithful
        self.line: Line | None = None
        self.calls: dict[int, Call] = {}
        self._node_ids: list[int] = []
        self._pause_s = 0.0
        self._hops = 0
        self._lines = 0
        self._spoke_at = 0.0

    def start(self) -> None:
        """Connect, and keep looking at the clock."""
        self._connect(self._next_node())
        self._world.after(WATCH_S * self.rng.random(), self._watch)

    def call(
        self,
        kind: str,
        type_: Type,
        what: tuple[Any, ...],
        done: Done,
        *,
        within_s: float,
        wait_s: float = 0.0,
    ) -> Operation:
        """Ask for something; `done` is called once, when it is known or given up.

        Args:
            kind: Name of the operation.
            type_: Of the message.
            what: The fields after the request id.
            done: Gets the operation.
            within_s: When to give up.
            wait_s: How long the node may keep it before it answers.
        """
        now = self._world.now
        operation = self._history.begin(self.name, kind, what, now)
        frame = encode(type_, (operation.number, *what))
        call = Call(
            operation,
            frame,
            until=now + within_s,
            patience_s=self.patience_s + wait_s,
            wait_s=wait_s,
            done=done,
        )
        self.calls[operation.number] = call
        line = self.line
        if line is not None and line.ready and not line.is_last:
            self._send(line, call)
        return operation

    # ------------------------------------------------------------------- connections

    def _next_node(self) -> int:
        if not self._node_ids:
            self._node_ids = list(self._world.nodes)
            self.rng.shuffle(self._node_ids)
        return self._node_ids.pop()

    def _connect(self, node_id: int) -> None:
        self._lines += 1
        self.line = Line(self, node_id, self._world.now)
        self._history.lines[self.name] = self.line
        self._world.dial(node_id, self.line)

    def _leave(self, node_id: int | None = None) -> None:
        """Close the connection; go to a node at once, or to the next one after a pause."""
        line, self.line = self.line, None
        if line is not None and line.link is not None:
            line.link.close()
        self._doubt()
        if node_id is not None:
            self._connect(node_id)
        else:
            self._pause()

    def _pause(self) -> None:
        self._hops = 0
        self._world.after(self._pause_s * (0.5 + self.rng.random()), self._go_on)
        self._pause_s = min(_PAUSE_MAX_S, max(_PAUSE_MIN_S, 2 * self._pause_s))

    def _go_on(self) -> None:
        if self.line is None:
            self._connect(self._next_node())

    def lost(self) -> None:
        """The connection has ended, or was never made."""
        self.line = None
        self._doubt()
        self._pause()

    def _doubt(self) -> None:
        """What was sent and not answered may have taken effect, or may yet."""
        for call in self.calls.values():
            if call.sent_at is not None:
                call.sent_at = None
                call.operation.doubts += 1

    def greet(self, line: Line) -> None:
        """Say HELLO on a new connection."""
        line.hello = self._history.next_number()
        frame = encode(Type.HELLO, (line.hello, VERSION, self.name, {}))
        self._spoke_at = self._world.now
        line.send(line.hello, frame, self._world.now)

    def _welcomed(self, line: Line, leader: str) -> None:
        line.ready = True
        node_id = self._world.node_at(leader) if leader else None
        if not self._anywhere and node_id not in (None, line.node_id) and self._hops < 2:
            self._hops += 1
            self._leave(node_id)
            return
        self._flush(line)

    # ---------------------------------------------------------------------- requests

    def _send(self, line: Line, call: Call) -> None:
        now = self._world.now
        call.sent_at = self._spoke_at = now
        operation = call.operation
        operation.sends += 1
        operation.sent_at = now
        operation.line = self._lines
        line.send(operation.number, call.frame, now + call.wait_s)

    def _flush(self, line: Line) -> None:
        if line.is_last:
            return
        now = self._world.now
        for call in list(self.calls.values()):
            if call.sent_at is None and call.again_at <= now:
                self._send(line, call)

    def _watch(self) -> None:
        """Look at the clock: deadlines, patience, a connection that is quiet."""
        self._world.after(WATCH_S, self._watch)
        now = self._world.now
        for call in [call for call in self.calls.values() if call.until <= now]:
            self._give_up(call)
        line = self.line
        if line is None:
            return
        if not line.ready:
            if now - line.dialled_at > HELLO_S:
                self._leave()
            return
        for call in self.calls.values():
            if call.sent_at is not None and now - call.sent_at > call.patience_s:
                self._leave()
                return
        if now - self._spoke_at > KEEP_ALIVE_S and not line.is_last:
            self._spoke_at = now
            number = self._history.next_number()
            line.send(number, encode(Type.HEARTBEAT, (number, 0, ())), now)
        self._flush(line)

    def _give_up(self, call: Call) -> None:
        operation = call.operation
        if call.sent_at is not None:
            operation.doubts += 1
        operation.code = GAVE_UP
        self._end(call)

    def _end(self, call: Call) -> None:
        operation = call.operation
        del self.calls[operation.number]
        if not operation.code:
            outcome = "ok"
        else:
            certain = not operation.doubts or operation.kind in READING
            outcome = "fail" if certain else "info"
        self._history.end(operation, outcome, self._world.now)  # type: ignore[arg-type]  # one of three
        call.done(operation)

    # ----------------------------------------------------------------------- answers

    def came(self, line: Line, message_type: int, fields: list[Any]) -> None:
        """Take in one answer."""
        number = fields[0]
        if line.outstanding.pop(number, None) is None:
            self._history.troubles.append(
                f"{self.name}: node {line.node_id} answers {number}, which is not open: {fields}"
            )
            return
        if number == line.hello:
            self._greeted(line, message_type, fields)
            return
        self._answered(line, message_type, fields)
        if line.is_last and not line.outstanding and self.line is line:
            self._leave()

    def _answered(self, line: Line, message_type: int, fields: list[Any]) -> None:
        call = self.calls.get(fields[0])
        if call is None or call.sent_at is None:
            return  # given up, or a sign of life
        call.operation.node_id = line.node_id
        if message_type == Type.ACK:
            call.operation.answer = fields[1:]
            self._pause_s = 0.0
            self._end(call)
        elif message_type == Type.REDIRECT:
            call.sent_at = None
            self._redirected(line, call, fields[1])
        else:
            call.sent_at = None
            self._refused(line, call, fields[1], fields[3])

    def _greeted(self, line: Line, message_type: int, fields: list[Any]) -> None:
        if message_type == Type.ACK:
            self._welcomed(line, fields[1]["leader"])
        else:
            self._leave()

    def _redirected(self, line: Line, call: Call, leader: str) -> None:
        node_id = self._world.node_at(leader) if leader else None
        if node_id == line.node_id or self._hops >= 3:
            node_id = None
        if node_id is not None:
            self._hops += 1
        self._go_elsewhere(line, call, node_id)

    def _go_elsewhere(self, line: Line, call: Call, node_id: int | None = None) -> None:
        if self._faithful and line.outstanding:
            line.is_last = True
        else:
            self._leave(node_id)

    def _refused(self, line: Line, call: Call, code: str, retry_after_ms: int | None) -> None:
        operation = call.operation
        if code in _ELSEWHERE:
            call.again_at = self._world.now + (retry_after_ms or 0) / 1000
            self._go_elsewhere(line, call)
        elif code == Code.UNKNOWN_OUTCOME:
            operation.doubts += 1
            self._world.reached("UNKNOWN_OUTCOME answered")
            call.again_at = self._world.now + _PAUSE_MIN_S
        elif code == Code.RATE_LIMITED and operation.kind != "progress":
            call.again_at = self._world.now + (retry_after_ms or 100) / 1000
        else:
            operation.code = code
            self._end(call)
