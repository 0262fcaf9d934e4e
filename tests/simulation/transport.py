"""Peer connections of a simulated node: `cluster.transport` and `cluster.link`, without bytes.

The same rules: the node with the higher id dials, a handshake of three frames, both sides
may refuse, a new connection that passes its handshake replaces the old one of that peer,
each live one has an epoch, nothing is delivered before it is live and nothing after it was
closed. What an old connection still brings before the new one is live is delivered.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cluster.admission import outdated
from cluster.handshake import Hello, Kind, Refused, Standing
from cluster.link import Limits, Phase
from cluster.messages import Message, decode
from cluster.refusals import Reason, Refusal
from cluster.transport import Address, PeerHandler
from cluster.vitals import Report
from cluster.wire import Decoder, encode
from tests.simulation.network import Cable

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode

_HELLO, _READY, _REFUSED = int(Kind.HELLO), int(Kind.READY), int(Kind.REFUSED)
_STATE, _PING, _MESSAGE = int(Kind.STATE), int(Kind.PING), int(Kind.MESSAGE)
_REPORT = int(Kind.REPORT)
_AFTER = 1e-6
"""Between two deliveries of one connection, seconds."""


class SimLink:
    """One end of a connection."""

    __slots__ = (
        "_decoder",
        "_held",
        "_lost_after",
        "_owner",
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
        self.other: SimLink
        self._owner = owner
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
        owner = self._owner
        network = owner.network
        if self._held or self.direction in network.cut:
            self._held.append((kind, content))
            return
        at = owner.world.now + network.delay()
        if kind == _MESSAGE and network.reordered and network.rng.random() < network.reordered:
            at += 20 * network.delay_s * network.rng.random()
        elif at <= self.out_at:
            self.out_at = at = self.out_at + _AFTER
        else:
            self.out_at = at
        other = self.other
        other.process.at(at, other.arrived, at, kind, content)
        if kind == _MESSAGE and network.duplicated and network.rng.random() < network.duplicated:
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
        self.other._lost_after = when  # noqa: SLF001 - the other half of this one
        self._held.clear()

    # ------------------------------------------------------------------------- receiving

    def arrived(self, at: float, kind: int, content: Any) -> None:
        """Take a frame, unless it was lost on the way or this end is closed."""
        if at > self._lost_after or self.phase is Phase.CLOSED:
            return
        owner = self._owner
        self.heard_at = owner.world.now
        if self.phase is Phase.LIVE:
            if kind == _MESSAGE:
                if content.__class__ is bytes:
                    content = self._decoded(content)
                owner.handler.received(self.peer, content)
            elif kind == _STATE:
                owner.handler.state_said(self.peer, content)
            elif kind == _REPORT:
                owner.handler.reported(self.peer, content)
        elif kind == _HELLO and self.phase is Phase.HELLO:
            self._take_hello(content)
        elif kind == _READY:
            self._go_live()
        else:
            owner.refusal_counts[Reason.BY_PEER] += 1
            self.end("refused")
            if self.dialled and owner.is_listening:
                owner.handler.refused_by(self.peer, content)
        owner.handler.drained()

    def _decoded(self, frame: bytes) -> Message:
        self._decoder.feed(frame)
        fields = self._decoder.next()
        assert fields is not None, "a frame of its own"
        return decode(fields[1])

    def _take_hello(self, form: list[object]) -> None:
        hello = Hello.from_list(form)
        refusal = self._owner.judge(hello)
        if refusal is not None:
            own = self._owner.handler.hello(self.peer)
            known = (own.cluster_id, own.configuration_index, own.configuration)
            self.put(_REFUSED, Refused(refusal, *known))
            self._owner.refusal_counts[refusal.reason] += 1
            self.end("refused")
            return
        self.hello = hello
        if self.dialled:
            self.put(_READY, None)
            self._go_live()
        else:
            self.put(_HELLO, self._owner.handler.hello(self.peer).to_list())
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


class SimTransport:
    """`cluster.transport.PeerTransport`: one connection to every other node."""

    def __init__(
        self,
        node: SimNode,
        *,
        addresses: Mapping[int, Address],
        handler: PeerHandler,
        limits: Limits,
    ) -> None:
        process = node.process
        assert process is not None
        self.node_id = node.node_id
        self.world = node.world
        self.network = node.world.network
        self.process = process
        self.handler = handler
        self.limits = limits
        self.refusal_counts: Counter[str] = Counter()
        self.is_listening = False
        self._rng = node.world.rng(f"dial {node.node_id}")
        self._codec = node.world.options.codec
        self._addresses = dict(addresses)
        self._live: dict[int, SimLink] = {}
        self._links: list[SimLink] = []
        self._epochs: dict[int, int] = {}
        self._pauses: dict[int, float] = {}
        self._standing: Standing | None = None
        self._encoded: tuple[Message, bytes] | None = None

    async def start(self) -> None:
        """Listen, and begin to dial."""
        self.is_listening = True
        self._dial_members()
        self._ping(self.world.now)

    async def stop(self) -> None:
        """Close everything; what was written is under way."""
        self.abort()

    def abort(self) -> None:
        """Close everything now."""
        self.is_listening = False
        for link in list(self._links):
            link.end("stopping")

    def set_members(self, addresses: Mapping[int, Address]) -> None:
        """Reach and admit exactly these nodes from now on."""
        self._addresses = dict(addresses)
        for peer in [peer for peer in self._pauses if peer not in addresses]:
            del self._pauses[peer]
        for link in list(self._links):
            if (link.dialled or link.hello is not None) and link.peer not in addresses:
                link.end(f"node {link.peer} is not a member any more")
        if self.is_listening:
            self._dial_members()

    @property
    def connected(self) -> tuple[int, ...]:
        """Peers with a live connection."""
        return tuple(sorted(self._live))

    def epoch(self, peer: int) -> int:
        """Number of the peer's live connection, 0 when there is none."""
        return self._epochs[peer] if peer in self._live else 0

    def send(self, peer: int, message: Message) -> None:
        """Send a message now, or lose it when the peer is not connected."""
        link = self._live.get(peer)
        if link is None:
            return
        if not self._codec:
            link.put(_MESSAGE, message)
            return
        if self._encoded is None or self._encoded[0] is not message:
            frame = encode([_MESSAGE, message.to_list()], self.limits.frame_max_bytes)
            self._encoded = (message, frame)
        link.put(_MESSAGE, self._encoded[1])

    def drop(self, peer: int, reason: str) -> None:
        """Close the connection to a peer; it is dialled again after a pause."""
        link = self._live.get(peer)
        if link is not None:
            link.end(reason)

    def forget_encoded(self) -> None:
        """Let go of the frame kept for the next peer."""
        self._encoded = None

    def report(self, report: Report) -> None:
        """Tell every connected peer of this node's vitals."""
        for link in list(self._live.values()):
            link.put(_REPORT, report)

    def announce(self, standing: Standing) -> None:
        """Tell everyone connected, and everyone who will be, how this node stands."""
        self._standing = standing
        for link in list(self._live.values()):
            link.put(_STATE, standing)

    def links_to(self, peer: int) -> list[SimLink]:
        """Ends towards a peer that are not closed."""
        return [link for link in self._links if link.peer == peer]

    # --------------------------------------------------------------------------- dialling

    def _dial_members(self) -> None:
        for peer in self._addresses:
            if peer < self.node_id and peer not in self._pauses:
                self._pauses[peer] = self.limits.redial_min_s
                self._dial(peer)

    def _dial(self, peer: int, waited_s: float = 0.0) -> None:
        """Try once, or go on trying: what nobody answers is repeated until it times out."""
        if not self.is_listening or peer not in self._pauses:
            return
        if any(link.dialled for link in self.links_to(peer)):
            return  # removed and added again: the first one's connection is still there
        network, node = self.network, self.world.nodes.get(peer)
        host_gone = node is None or node.is_dark
        if host_gone or not network.reaches(self.node_id, peer):
            if waited_s >= self.limits.handshake_s:
                self._again(peer)
            else:
                step_s = max(0.2, waited_s)
                self.process.after(step_s, self._dial, peer, waited_s + step_s)
        elif (listener := network.listener(peer)) is None:
            self._again(peer)
        else:
            self._connect(listener)

    def _connect(self, listener: SimTransport) -> None:
        cable = Cable()
        mine = SimLink(self, cable, listener.node_id, dialled=True)
        theirs = SimLink(listener, cable, self.node_id, dialled=False)
        cable.ends = (mine, theirs)
        mine.other, theirs.other = theirs, mine
        self._links.append(mine)
        listener._links.append(theirs)  # noqa: SLF001 - of the same class
        self.network.cables.append(cable)
        mine.put(_HELLO, self.handler.hello(listener.node_id).to_list())

    def _again(self, peer: int) -> None:
        if peer not in self._pauses:
            return  # not a member any more
        pause_s = self._pauses[peer]
        self._pauses[peer] = min(2 * pause_s, self.limits.redial_max_s)
        self.process.after(pause_s * (1 + self._rng.random() / 4), self._dial, peer)

    def _ping(self, due_at: float) -> None:
        now = self.world.now
        # A process that stood still has not read what is waiting.
        punctual = now - due_at < self.limits.ping_s
        self.process.after(self.limits.ping_s, self._ping, now + self.limits.ping_s)
        for link in list(self._live.values()):
            if punctual and now - link.heard_at > self.limits.silence_max_s:
                link.end("nothing heard")
            else:
                link.put(_PING, None)

    # -------------------------------------------------------------------- what links ask

    def judge(self, hello: Hello) -> Refusal | None:
        """Say why a peer is refused, None when it is welcome."""
        if hello.to != self.node_id:
            return Refusal(Reason.MISDIRECTED, f"this is not node {hello.to}")
        text = self.handler.judge(hello)
        if text is not None:
            return text if isinstance(text, Refusal) else Refusal(Reason.OTHER, text)
        peer = hello.node_id
        if peer not in self._addresses:
            return Refusal(Reason.NOT_A_MEMBER, f"node {peer} is not one of node {self.node_id}")
        rival = self._live.get(peer)
        return outdated(hello, rival.hello.incarnation) if rival and rival.hello else None

    def live(self, link: SimLink) -> None:
        """Make a link the one of its peer."""
        assert link.hello is not None
        rival = self._live.get(link.peer)
        if rival is not None:
            rival.end("replaced by a newer connection")
        self._live[link.peer] = link
        self._epochs[link.peer] = self._epochs.get(link.peer, 0) + 1
        if self._standing is not None:
            link.put(_STATE, self._standing)
        self.world.trace("live", self.node_id, link.peer)
        self.handler.connected(link.peer, link.hello)

    def gone(self, link: SimLink, reason: str) -> None:
        """Forget a link; its peer is told of at once."""
        self._links.remove(link)
        if link.dialled:
            if link.hello is not None and link.peer in self._pauses:
                self._pauses[link.peer] = self.limits.redial_min_s
            self._again(link.peer)
        if self._live.get(link.peer) is link:
            del self._live[link.peer]
            self.world.trace("gone", self.node_id, link.peer)
            self.handler.disconnected(link.peer, reason)
