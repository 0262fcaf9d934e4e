"""The connections to all other voters: exactly one live one per pair.

The node with the higher id dials the one with the lower id, again and again with growing
pauses. A new connection that passes its handshake replaces the old one of that peer, and
each live connection has an epoch of its own: what was meant for an earlier one is not sent,
and what an earlier one still brings is not delivered.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping

from cluster.addresses import Address, bind_error, is_loopback
from cluster.admission import Claim, misfit, outdated
from cluster.complaints import Complaints
from cluster.dialler import Dialler
from cluster.faults import AddressError
from cluster.handshake import Hello, Kind, Refused, Standing
from cluster.link import Limits, Link
from cluster.messages import Message
from cluster.peer_handler import PeerHandler
from cluster.refusals import Reason, Refusal
from cluster.tls import PeerTls, Session
from cluster.vitals import Report
from cluster.wire import FrameTooLargeError, encode

__all__ = ["Address", "PeerHandler", "PeerTransport", "is_loopback"]

_log = logging.getLogger(__name__)


class PeerTransport:
    """Keeps one connection to every other member.

    Args:
        node_id: This node.
        addresses: Where each member listens for peers, as this node reaches it.
        bind: Where this node listens.
        handler: Who is told.
        rng: For the jitter of the pauses.
        limits: Bounds.
        loopback_only: Refuse to listen to, or to dial, anything but this host without TLS.
        tls: Certificates; None speaks in the clear.
    """

    def __init__(
        self,
        *,
        node_id: int,
        addresses: Mapping[int, Address],
        bind: Address,
        handler: PeerHandler,
        rng: random.Random,
        limits: Limits | None = None,
        loopback_only: bool = True,
        tls: PeerTls | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._node_id = node_id
        self._addresses = dict(addresses)
        self._bind = bind
        self._handler = handler
        self._tls = tls
        self._loopback_only = loopback_only and tls is None
        self._live: dict[int, Link] = {}
        self._links: set[Link] = set()
        self._epochs: dict[int, int] = {}
        self._complaints = Complaints()
        self._standing: Standing | None = None
        self._encoded: tuple[Message, bytes] | None = None
        self._server: asyncio.Server | None = None
        self._dialler = Dialler(
            limits=self.limits, rng=rng, connect=self._connect, failed=self._unreachable
        )
        ask_s = self.limits.ask_s
        self._asker = Dialler(
            limits=self.limits._replace(redial_min_s=ask_s, redial_max_s=ask_s),
            rng=rng,
            connect=self._connect,
            failed=lambda _peer, _error: None,
            patience_s=ask_s,
            wants=lambda peer: peer not in self._live,
        )
        self._pinger: asyncio.TimerHandle | None = None
        self._ended = False
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Listen, and begin to dial.

        Raises:
            AddressError: The address cannot be bound, or is not of this host.
        """
        for host, port in (self._bind, *self._others().values()):
            if not self._safe(host):
                raise AddressError(
                    f"the peer address {host}:{port} is beyond loopback, where nodes must speak "
                    "TLS: make certificates with 'tq-node certificates', name them in raft.tls"
                )
        host, port = self._bind
        try:
            self._server = await self._loop.create_server(lambda: Link(self, None), host, port)
        except OSError as error:
            raise AddressError(bind_error(host, port, error)) from error
        if self._ended:  # a peer was quicker, and what it said has ended this node
            self._server.close()
            return
        self._dial_members()
        self._ping(self._loop.time())

    async def stop(self) -> None:
        """Close everything; what was written has a second to leave."""
        self.abort(flush=True)
        await self._dialler.stopped()
        await self._asker.stopped()
        closing = [link.closed for link in self._links]
        if closing:
            await asyncio.wait(closing, timeout=1.0)
        for link in list(self._links):
            link.end("stopping")

    def abort(self, *, flush: bool = False) -> None:
        """Close everything now."""
        self._ended = True
        if self._pinger is not None:
            self._pinger.cancel()
        if self._server is not None:
            self._server.close()
        self._dialler.keep(())
        self._asker.keep(())
        for link in list(self._links):
            link.end("stopping", flush=flush)

    def set_members(self, addresses: Mapping[int, Address]) -> None:
        """Reach and admit exactly these nodes from now on.

        Connections with nodes that are not among them end once what was written has left;
        a changed address counts from the next time it is dialled.

        Args:
            addresses: Where each member listens, as this node reaches it; this node's own
                entry is not needed.
        """
        self._addresses = dict(addresses)
        for link in list(self._links):
            whose = link.dialled if link.hello is None else link.hello.node_id
            if whose is not None and whose not in addresses:
                link.end(f"node {whose} is not a member any more", flush=True)
        if self._server is not None and not self._ended:
            self._dial_members()

    @property
    def refusal_counts(self) -> Mapping[str, int]:
        """Connections refused since the start, by reason (`cluster.refusals.Reason`)."""
        return self._complaints.counts

    @property
    def connected(self) -> tuple[int, ...]:
        """Peers with a live connection."""
        return tuple(sorted(self._live))

    def epoch(self, peer: int) -> int:
        """Number of the peer's live connection, 0 when there is none."""
        return self._epochs[peer] if peer in self._live else 0

    def send(self, peer: int, message: Message) -> None:
        """Send a message now, or lose it when the peer is not connected.

        A message given to several peers one after the other is encoded once.
        """
        link = self._live.get(peer)
        if link is None:
            return
        if self._encoded is None or self._encoded[0] is not message:
            try:
                frame = encode([int(Kind.MESSAGE), message.to_list()], self.limits.frame_max_bytes)
            except FrameTooLargeError as error:
                link.end(f"a message does not fit: {error}")
                return
            self._encoded = (message, frame)
        link.send(self._encoded[1])

    def drop(self, peer: int, reason: str) -> None:
        """Close the connection to a peer; it is dialled again after a pause."""
        link = self._live.get(peer)
        if link is not None:
            self._complaints.tell(f"drop {peer}", reason)
            link.end(reason)

    def forget_encoded(self) -> None:
        """Let go of the frame kept for the next peer."""
        self._encoded = None

    def report(self, report: Report) -> None:
        """Tell every connected peer of this node's vitals."""
        if self._live:
            frame = encode([int(Kind.REPORT), *report.to_list()])
            for link in list(self._live.values()):
                link.send(frame)

    def announce(self, standing: Standing) -> None:
        """Tell everyone connected, and everyone who will be, how this node stands."""
        self._standing = standing
        for link in list(self._live.values()):
            link.say_state(standing)

    def _others(self) -> dict[int, Address]:
        return {peer: at for peer, at in self._addresses.items() if peer != self._node_id}

    def _safe(self, host: str) -> bool:
        return not self._loopback_only or is_loopback(host)

    def _dial_members(self) -> None:
        safe: list[int] = []
        for peer, (host, port) in self._others().items():
            if self._safe(host):
                safe.append(peer)
            elif peer < self._node_id:
                text = f"node {peer} at {host}:{port} is beyond loopback: set raft.tls"
                self._complaints.tell(f"dial {peer}", text)
        self._dialler.keep(peer for peer in safe if peer < self._node_id)
        # Who should dial this node and does not may have removed it: it says so when asked.
        self._asker.keep(peer for peer in safe if peer > self._node_id)

    async def _connect(self, peer: int) -> Link:
        host, port = self._addresses[peer]
        _, link = await self._loop.create_connection(lambda: Link(self, peer), host, port)
        return link

    def _unreachable(self, peer: int, error: Exception) -> None:
        host, port = self._addresses.get(peer, ("", 0))
        text = f"cannot reach node {peer} at {host}:{port}: {error}"
        self._complaints.tell(f"dial {peer}", text)

    def _ping(self, due_at: float) -> None:
        now = self._loop.time()
        # A loop that stood still has not read what is waiting: silence proves nothing then.
        punctual = now - due_at < self.limits.ping_s
        due_at = now + self.limits.ping_s
        # First: a look that raises must not be the last one.
        self._pinger = self._loop.call_at(due_at, self._ping, due_at)
        for link in list(self._live.values()):
            if punctual and now - link.heard_at > self.limits.silence_max_s:
                link.end(f"nothing heard for {self.limits.silence_max_s} s")
            else:
                link.ping()

    # What links ask (see `LinkOwner`).

    def opened(self, link: Link) -> bool:
        """Count a connection in; False when too many are in their handshake."""
        self._links.add(link)
        strangers = len(self._links) - len(self._live)
        return link.dialled is not None or strangers <= self.limits.strangers_max

    def session(self, *, dialled: bool) -> Session | None:
        """Return the TLS of a new connection, None when nodes speak in the clear."""
        return self._tls.session(dialled=dialled) if self._tls else None

    def own_hello(self, to: int) -> Hello:
        """Return the hello of this node."""
        return self._handler.hello(to)

    def judge(self, link: Link, hello: Hello) -> Refusal | None:
        """Say why the peer is refused, None when it is welcome."""
        me, peer = self._node_id, hello.node_id
        nonce = self._handler.hello(peer).nonce
        certified = (link.certified or 0) if link.is_proved else None
        refusal = misfit(Claim(hello, me, nonce, link.dialled, link.remote, certified))
        if refusal is not None:
            return refusal
        text = self._handler.judge(hello)
        if text is not None:
            return text if isinstance(text, Refusal) else Refusal(Reason.OTHER, text)
        if peer not in self._addresses:
            text = f"node {peer} is not a voter of node {me}: the lists of peers must be equal"
            return Refusal(Reason.NOT_A_MEMBER, text)
        if link.dialled is None and peer < me:
            text = f"node {me} dials node {peer}, not the other way round"
            return Refusal(Reason.MISDIRECTED, text)
        rival = self._live.get(peer)
        return outdated(hello, rival.hello.incarnation) if rival and rival.hello else None

    def live(self, link: Link) -> None:
        """Make a link the one of its peer."""
        assert link.hello is not None, "live without a hello"
        rival = self._live.get(link.peer)
        if rival is not None:
            rival.end("replaced by a newer connection")
        self._live[link.peer] = link
        self._epochs[link.peer] = self._epochs.get(link.peer, 0) + 1
        self._complaints.settle(f"dial {link.peer}")
        if self._standing is not None:
            link.say_state(self._standing)
        _log.info("node %d connected to node %d at %s", self._node_id, link.peer, link.remote)
        self._handler.connected(link.peer, link.hello)

    def state_said(self, link: Link, standing: Standing) -> None:
        """Pass on how a peer stands."""
        self._handler.state_said(link.peer, standing)

    def message_came(self, link: Link, message: Message) -> None:
        """Pass a message on."""
        self._handler.received(link.peer, message)

    def reported(self, link: Link, report: Report) -> None:
        """Pass a report on."""
        self._handler.reported(link.peer, report)

    def drained(self) -> None:
        """Pass the end of a read on."""
        self._handler.drained()

    def refused(self, link: Link, refusal: Refusal) -> None:
        """Count a refusal, and log it once per text."""
        self._complaints.count(refusal)
        self._complaints.tell(f"refusal {link.dialled or link.remote}", refusal)

    def refused_by(self, link: Link, refusal: Refused) -> None:
        """Pass on what a peer said with its refusal."""
        if link.dialled is not None and not self._ended:
            self._handler.refused_by(link.dialled, refusal)

    def gone(self, link: Link, reason: str) -> None:
        """Forget a link; its peer is told of at once."""
        self._links.discard(link)
        if isinstance(reason, Refusal):
            self._complaints.count(reason)
        if link.hello is not None and self._live.get(link.peer) is link:
            del self._live[link.peer]
            _log.info(
                "node %d lost node %d at %s: %s", self._node_id, link.peer, link.remote, reason
            )
            self._handler.disconnected(link.peer, reason)
        elif reason not in ("refused", "asked"):
            text = f"the connection with {link.remote} ended: {reason}"
            self._complaints.tell(f"link {link.dialled or link.remote}", text)
