"""One end of a simulated connection between nodes: `cluster.link` without bytes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from cluster.handshake import Hello, Kind, Refused
from cluster.link import Phase
from cluster.messages import Message, decode
from cluster.refusals import Reason
from cluster.wire import Decoder
from tests.simulation.network import Cable

if TYPE_CHECKING:
    from tests.simulation.transport import SimTransport

HELLO, READY, REFUSED = int(Kind.HELLO), int(Kind.READY), int(Kind.REFUSED)
STATE, PING, MESSAGE, REPORT = (
    int(Kind.STATE),
    int(Kind.PING),
    int(Kind.MESSAGE),
    int(Kind.REPORT),
)
_AFTER = 1e-6
"""Between two deliveries of one connection, seconds."""


class SimLink:
    """One end of a connection."""

    __slots__ = (
        "_decoder",
        "_held",
        "_lost_after",
        "_owner",
        "_world",
        "cable",
        "dialled",
        "direction",
        "heard_at",
        "hello",
        "other",
        "out_at",
        "peer",
        "phase",
        "process",
    )

    def __init__(self, owner: SimTransport, cable: Cable, peer: int, *, dialled: bool) -> None:
        self.cable = cable
        self.peer = peer
        self.dialled = dialled
        self.direction = (owner.node_id, peer)
        self.process = owner.process
        self.phase = Phase.HELLO
        self.hello: Hello | None = None
        self.heard_at = owner.world.now
        self.out_at = 0.0
        """When the last thing under way arrives."""
        self._owner = owner
        self._world = owner.world
        self.other: SimLink
        self._held: deque[tuple[int, Any]] = deque()
        self._lost_after = float("inf")
        self._decoder = Decoder(owner.limits.frame_max_bytes)
        self.process.after(owner.limits.handshake_s, self._late)

    def _late(self) -> None:
        if self.phase is not Phase.LIVE:
            self.end("the handshake took too long")

    # --------------------------------------------------------------------------- sending

    def put(self, kind: int, content: Any) -> None:
        """Send a frame; it vanishes if the connection is broken and nobody knows."""
        if not self.cable.intact:
            return
        world = self._world
        network = world.network
        if self._held or (network.cut and self.direction in network.cut):
            self._held.append((kind, content))
            return
        at = world.now + network.delay()
        if kind == MESSAGE and network.reordered and network.rng.random() < network.reordered:
            at += 20 * network.delay_s * network.rng.random()
        elif at <= self.out_at:
            self.out_at = at = self.out_at + _AFTER
        else:
            self.out_at = at
        other = self.other
        world.plan(at, other.process, other.arrived, (at, kind, content))
        if kind == MESSAGE and network.duplicated and network.rng.random() < network.duplicated:
            again = at + 10 * network.delay_s * network.rng.random()
            other.process.at(again, other.arrived, again, kind, content)

    def flow(self) -> None:
        """Send what a cut has held back."""
        if self.direction not in self._owner.network.cut:
            held, self._held = self._held, deque()
            for kind, content in held:
                self.put(kind, content)

    def lose_after(self, when: float) -> None:
        """What is under way from here and would arrive later is lost."""
        self.other._lost_after = when
        self._held.clear()

    # ------------------------------------------------------------------------- receiving

    def arrived(self, at: float, kind: int, content: Any) -> None:
        """Take a frame, unless it was lost on the way or this end is closed."""
        if at > self._lost_after or self.phase is Phase.CLOSED:
            return
        owner = self._owner
        handler = owner.handler
        self.heard_at = self._world.now
        if self.phase is Phase.LIVE:
            if kind == MESSAGE:
                if content.__class__ is bytes:
                    content = self._decoded(content)
                handler.received(self.peer, content)
            elif kind == STATE:
                handler.state_said(self.peer, content)
            elif kind == REPORT:
                handler.reported(self.peer, content)
        elif kind == HELLO and self.phase is Phase.HELLO:
            self._take_hello(content)
        elif kind == READY:
            self._go_live()
        else:
            owner.refusal_counts[Reason.BY_PEER] += 1
            self.end("refused")
            if self.dialled and owner.is_listening:
                handler.refused_by(self.peer, content)
        handler.drained()

    def _decoded(self, frame: bytes) -> Message:
        self._decoder.feed(frame)
        fields = self._decoder.next()
        assert fields is not None, "a frame of its own"
        return decode(fields[1])

    def _take_hello(self, form: list[object]) -> None:
        hello = Hello.from_list(form)
        refusal = self._owner.judge(hello)
        if self.phase is Phase.CLOSED:
            return  # it told this node that it is removed
        if refusal is not None:
            own = self._owner.handler.hello(self.peer)
            known = (own.cluster_id, own.configuration_index, own.configuration)
            self.put(REFUSED, Refused(refusal, *known))
            self._owner.refusal_counts[refusal.reason] += 1
            self.end("refused")
            return
        self.hello = hello
        if self.dialled:
            self.put(READY, None)
            self._go_live()
        else:
            self.put(HELLO, self._owner.handler.hello(self.peer).to_list())
            self.phase = Phase.READY

    def _go_live(self) -> None:
        self.phase = Phase.LIVE
        self._owner.live(self)

    def end(self, reason: str) -> None:
        """Close this end; the other one hears of it after what is under way."""
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        cable, owner = self.cable, self._owner
        if cable.intact:
            owner.network.forget(cable)
            if self.direction not in owner.network.cut:
                other = self.other
                at = max(self.out_at, owner.world.now + owner.network.delay())
                other.process.at(at, other.end, "closed by the other side")
        owner.gone(self, reason)
