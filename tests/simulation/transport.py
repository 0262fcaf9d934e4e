"""Peer connections of a simulated node: `cluster.transport` and `cluster.link`, without bytes.

The same rules: the node with the higher id dials, a handshake of three frames, both sides
may refuse, a new connection that passes its handshake replaces the old one of that peer,
each live one has an epoch, nothing is delivered before it is live and nothing after it was
closed. What an old connection still brings before the new one is live is delivered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cluster.admission import outdated
from cluster.handshake import Hello, Standing
from cluster.link import Limits
from cluster.messages import Message
from cluster.refusals import Reason, Refusal
from cluster.transport import Address, PeerHandler
from cluster.vitals import Report
from cluster.wire import encode
from tests.simulation.network import Cable
from tests.simulation.peer_links import HELLO, MESSAGE, PING, REPORT, STATE, SimLink

if TYPE_CHECKING:
    from tests.simulation.network import Network
    from tests.simulation.nodes import SimNode
    from tests.simulation.process import Process
    from tests.simulation.world import World


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
        self.node_id: int = node.node_id
        self.world: World = node.world
        self.network: Network = node.world.network
        self.process: Process = process
        self.handler: PeerHandler = handler
        self.limits: Limits = limits
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
            link.put(MESSAGE, message)  # as it is: messages are immutable
            return
        if self._encoded is None or self._encoded[0] is not message:
            frame = encode([MESSAGE, message.to_list()], self.limits.frame_max_bytes)
            self._encoded = (message, frame)
        link.put(MESSAGE, self._encoded[1])

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
            link.put(REPORT, report)

    def announce(self, standing: Standing) -> None:
        """Tell everyone connected, and everyone who will be, how this node stands."""
        self._standing = standing
        for link in list(self._live.values()):
            link.put(STATE, standing)

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
        listener._links.append(theirs)
        self.network.cables.append(cable)
        mine.put(HELLO, self.handler.hello(listener.node_id).to_list())

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
            elif link.out_at < now - self.limits.ping_s / 2:
                link.put(PING, None)  # nothing else tells the other end that this one lives

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
            link.put(STATE, self._standing)
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
