"""Whether a connection is what it says it is: judged by its hello, before anything else."""

from __future__ import annotations

from typing import NamedTuple

from cluster.handshake import PROTOCOL_VERSION, Hello
from cluster.refusals import Reason, Refusal


class Claim(NamedTuple):
    """A hello and how it came here.

    Attributes:
        hello: What the other side says.
        me: This node.
        nonce: Of this process; whoever meets it has dialled itself.
        dialled: The node that was meant, None when the other side dialled.
        remote: Where the other side is, for the text.
        certified: The node its certificate names, None when nodes speak in the clear; 0
            when it names none.
    """

    hello: Hello
    me: int
    nonce: bytes
    dialled: int | None
    remote: str
    certified: int | None = None


def misfit(claim: Claim) -> Refusal | None:
    """Say why two nodes do not fit together whoever is a member, None when they do."""
    hello, me, peer, remote = claim.hello, claim.me, claim.hello.node_id, claim.remote
    if claim.certified is not None and claim.certified != peer:
        named = f"node {claim.certified}" if claim.certified else "no node"
        return Refusal(
            Reason.CERTIFICATE,
            f"{remote} says it is node {peer} and shows the certificate of {named}: "
            "give each node a certificate of its own",
        )
    if hello.version != PROTOCOL_VERSION:
        return Refusal(
            Reason.VERSION,
            f"node {peer} speaks version {hello.version}, node {me} {PROTOCOL_VERSION}: "
            "run the same version on all nodes",
        )
    if hello.nonce == claim.nonce:
        return Refusal(
            Reason.OWN_ID,
            f"node {me} has reached itself: the address of a peer is its own, "
            f"{remote}: correct the list of peers",
        )
    if claim.dialled is not None and peer != claim.dialled:
        return Refusal(
            Reason.MISDIRECTED,
            f"node {peer} answers at {remote}, where node {claim.dialled} was expected: "
            "correct the list of peers",
        )
    if peer == me:
        return Refusal(
            Reason.OWN_ID,
            f"two nodes have the id {me}; the other one is at {remote}: give each an id of its own",
        )
    if hello.to != me:
        return Refusal(
            Reason.MISDIRECTED,
            f"node {peer} looks for node {hello.to} where node {me} answers: "
            f"correct the list of peers of node {peer}",
        )
    return None


def outdated(hello: Hello, connected: int) -> Refusal | None:
    """Say why a node that is connected already is not let in a second time.

    Args:
        hello: Of the second connection.
        connected: Incarnation of the first.
    """
    if hello.incarnation >= connected:
        return None
    return Refusal(
        Reason.STALE_INCARNATION,
        f"node {hello.node_id} is connected in incarnation {connected}; "
        f"this is {hello.incarnation}, of another copy of its data directory",
    )
