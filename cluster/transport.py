"""The connections to all other voters: exactly one live one per pair.

The node with the higher id dials the one with the lower id, again and again with growing
pauses. A new connection that passes its handshake replaces the old one of that peer, and
each live connection has an epoch of its own: what was meant for an earlier one is not sent,
and what an earlier one still brings is not delivered.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import random
from collections.abc import Mapping
from typing import Protocol

from cluster.faults import AddressError
from cluster.handshake import PROTOCOL_VERSION, Hello, Kind
from cluster.identity import BootstrapState
from cluster.link import Limits, Link
from cluster.messages import Message
from cluster.wire import FrameTooLargeError, encode

Address = tuple[str, int]
"""(host, port)."""

_log = logging.getLogger(__name__)


class PeerHandler(Protocol):
    """What the transport tells its user; all calls come from the event loop."""

    def hello(self, to: int) -> Hello:
        """Return this node's hello as of now."""

    def judge(self, hello: Hello) -> str | None:
        """Say why a peer of the right id and version is still refused, None otherwise."""

    def connected(self, peer: int, hello: Hello) -> None:
        """Hear that a connection is live; an earlier one of the peer was reported closed."""

    def disconnected(self, peer: int, reason: str) -> None:
        """Hear, at once, that the live connection is gone."""

    def state_said(self, peer: int, state: BootstrapState, cluster_id: bytes | None) -> None:
        """Take a bootstrap state."""

    def received(self, peer: int, message: Message) -> None:
        """Take a message; it may be queued until `drained`."""

    def drained(self) -> None:
        """Act on what one read of a socket has brought."""


class PeerTransport:
    """Keeps one connection to every other voter.

    Args:
        node_id: This node.
        addresses: Where each voter listens for peers, as this node reaches it.
        bind: Where this node listens.
        handler: Who is told.
        rng: For the jitter of the pauses.
        limits: Bounds.
        loopback_only: Refuse to listen to, or to dial, anything but this host. There is no
            encryption yet, so nothing else is safe.
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
    ) -> None:
        self.limits = limits or Limits()
        self._node_id = node_id
        self._addresses = dict(addresses)
        self._bind = bind
        self._handler = handler
        self._rng = rng
        self._loopback_only = loopback_only
        self._live: dict[int, Link] = {}
        self._links: set[Link] = set()
        self._epochs: dict[int, int] = {}
        self._said: dict[str, str] = {}
        self._state: tuple[BootstrapState, bytes | None] | None = None
        self._encoded: tuple[Message, bytes] | None = None
        self._server: asyncio.Server | None = None
        self._diallers: list[asyncio.Task[None]] = []
        self._pinger: asyncio.TimerHandle | None = None
        self._ended = False
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Listen, and begin to dial.

        Raises:
            AddressError: The address cannot be bound, or is not of this host.
        """
        others = [peer for peer in self._addresses if peer != self._node_id]
        for host, port in (self._bind, *(self._addresses[peer] for peer in others)):
            if self._loopback_only and not is_loopback(host):
                raise AddressError(
                    f"the peer address {host}:{port} is beyond loopback, and connections "
                    "between nodes are not encrypted yet: use 127.0.0.1"
                )
        host, port = self._bind
        try:
            self._server = await self._loop.create_server(lambda: Link(self, None), host, port)
        except OSError as error:
            raise AddressError(_bind_error(host, port, error)) from error
        if self._ended:  # a peer was quicker, and what it said has ended this node
            self._server.close()
            return
        for peer in others:
            if peer < self._node_id:
                self._diallers.append(self._loop.create_task(self._dial(peer)))
        self._ping(self._loop.time())

    async def stop(self) -> None:
        """Close everything; what was written has a second to leave."""
        self.abort(flush=True)
        await asyncio.gather(*self._diallers, return_exceptions=True)
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
        for dialler in self._diallers:
            dialler.cancel()
        for link in list(self._links):
            link.end("stopping", flush=flush)

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
            self._tell(f"drop {peer}", reason)
            link.end(reason)

    def forget_encoded(self) -> None:
        """Let go of the frame kept for the next peer."""
        self._encoded = None

    def announce(self, state: BootstrapState, cluster_id: bytes | None) -> None:
        """Tell everyone connected, and everyone who will be, the bootstrap state."""
        self._state = (state, cluster_id)
        for link in list(self._live.values()):
            link.say_state(state, cluster_id)

    async def _dial(self, peer: int) -> None:
        host, port = self._addresses[peer]
        pause_s = self.limits.redial_min_s
        while True:
            try:
                async with asyncio.timeout(self.limits.handshake_s):
                    _, link = await self._loop.create_connection(
                        lambda: Link(self, peer), host, port
                    )
            except OSError as error:  # a timeout is one as well
                self._tell(f"dial {peer}", f"cannot reach node {peer} at {host}:{port}: {error}")
            else:
                await link.closed
                if link.hello is not None:
                    pause_s = self.limits.redial_min_s
            await asyncio.sleep(pause_s * (1 + self._rng.random() / 4))
            pause_s = min(pause_s * 2, self.limits.redial_max_s)

    def _ping(self, due_at: float) -> None:
        now = self._loop.time()
        # A loop that stood still has not read what is waiting: silence proves nothing then.
        punctual = now - due_at < self.limits.ping_s
        for link in list(self._live.values()):
            if punctual and now - link.heard_at > self.limits.silence_max_s:
                link.end(f"nothing heard for {self.limits.silence_max_s} s")
            else:
                link.ping()
        due_at = now + self.limits.ping_s
        self._pinger = self._loop.call_at(due_at, self._ping, due_at)

    def _tell(self, subject: str, text: str) -> None:
        """Log a difficulty once, until it changes."""
        if self._said.get(subject) != text:
            self._said[subject] = text
            _log.warning("%s", text)

    # What links ask (see `LinkOwner`).

    def opened(self, link: Link) -> bool:
        """Count a connection in; False when too many are in their handshake."""
        self._links.add(link)
        strangers = len(self._links) - len(self._live)
        return link.dialled is not None or strangers <= self.limits.strangers_max

    def own_hello(self, to: int) -> Hello:
        """Return the hello of this node."""
        return self._handler.hello(to)

    def judge(self, link: Link, hello: Hello) -> str | None:
        """Say why the peer is refused, None when it is welcome."""
        me, peer = self._node_id, hello.node_id
        if hello.version != PROTOCOL_VERSION:
            return (
                f"node {peer} speaks version {hello.version}, node {me} {PROTOCOL_VERSION}: "
                "run the same version on all nodes"
            )
        if hello.nonce == self._handler.hello(peer).nonce:
            return (
                f"node {me} has reached itself: the address of a peer is its own, "
                f"{link.remote}: correct the list of peers"
            )
        if link.dialled is not None and peer != link.dialled:
            return (
                f"node {peer} answers at {link.remote}, where node {link.dialled} was expected: "
                "correct the list of peers"
            )
        if peer == me:
            return (
                f"two nodes have the id {me}; the other one is at {link.remote}: "
                "give each an id of its own"
            )
        if hello.to != me:
            return (
                f"node {peer} looks for node {hello.to} where node {me} answers: "
                f"correct the list of peers of node {peer}"
            )
        if peer not in self._addresses:
            return f"node {peer} is not a voter of node {me}: the lists of peers must be equal"
        if link.dialled is None and peer < me:
            return f"node {me} dials node {peer}, not the other way round"
        return self._handler.judge(hello) or self._judge_rival(hello)

    def _judge_rival(self, hello: Hello) -> str | None:
        rival = self._live.get(hello.node_id)
        if rival is not None and rival.hello is not None:
            connected = rival.hello.incarnation
            if hello.incarnation < connected:
                return (
                    f"node {hello.node_id} is connected in incarnation {connected}; "
                    f"this is {hello.incarnation}, of another copy of its data directory"
                )
        return None

    def live(self, link: Link) -> None:
        """Make a link the one of its peer."""
        assert link.hello is not None, "live without a hello"
        rival = self._live.get(link.peer)
        if rival is not None:
            rival.end("replaced by a newer connection")
        self._live[link.peer] = link
        self._epochs[link.peer] = self._epochs.get(link.peer, 0) + 1
        self._said.pop(f"dial {link.peer}", None)
        if self._state is not None:
            link.say_state(*self._state)
        _log.info("node %d connected to node %d at %s", self._node_id, link.peer, link.remote)
        self._handler.connected(link.peer, link.hello)

    def state_said(self, link: Link, state: BootstrapState, cluster_id: bytes | None) -> None:
        """Pass a bootstrap state on."""
        self._handler.state_said(link.peer, state, cluster_id)

    def message_came(self, link: Link, message: Message) -> None:
        """Pass a message on."""
        self._handler.received(link.peer, message)

    def drained(self) -> None:
        """Pass the end of a read on."""
        self._handler.drained()

    def refused(self, link: Link, reason: str) -> None:
        """Log a refusal, once per text."""
        self._tell(f"refusal {link.dialled}", reason)

    def gone(self, link: Link, reason: str) -> None:
        """Forget a link; its peer is told of at once."""
        self._links.discard(link)
        if link.hello is not None and self._live.get(link.peer) is link:
            del self._live[link.peer]
            _log.info(
                "node %d lost node %d at %s: %s", self._node_id, link.peer, link.remote, reason
            )
            self._handler.disconnected(link.peer, reason)
        elif reason != "refused":
            self._tell(f"link {link.dialled}", f"connection with {link.remote} ended: {reason}")


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this host alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bind_error(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the peer address {host}:{port} is in use: stop what listens there"
    return f"the peer address {host}:{port} cannot be bound: {error.strerror}"
