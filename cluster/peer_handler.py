"""What the connections to peers tell their user."""

from __future__ import annotations

from typing import Protocol

from cluster.handshake import Hello, Refused, Standing
from cluster.messages import Message
from cluster.vitals import Report


class PeerHandler(Protocol):
    """What the transport tells its user; all calls come from the event loop."""

    def hello(self, to: int) -> Hello:
        """Return this node's hello as of now."""

    def judge(self, hello: Hello) -> str | None:
        """Say why a peer of the right id and version is still refused, None otherwise.

        A `cluster.refusals.Refusal` is counted under its own reason.
        """

    def connected(self, peer: int, hello: Hello) -> None:
        """Hear that a connection is live; an earlier one of the peer was reported closed."""

    def disconnected(self, peer: int, reason: str) -> None:
        """Hear, at once, that the live connection is gone."""

    def refused_by(self, peer: int, refusal: Refused) -> None:
        """Hear that a peer that was dialled has refused this node."""

    def state_said(self, peer: int, standing: Standing) -> None:
        """Take a bootstrap state and the configuration the peer knows."""

    def received(self, peer: int, message: Message) -> None:
        """Take a message; it may be queued until `drained`."""

    def reported(self, peer: int, report: Report) -> None:
        """Take what a peer says of itself."""

    def drained(self) -> None:
        """Act on what one read of a socket has brought."""
