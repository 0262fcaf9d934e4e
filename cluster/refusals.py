"""Why a connection between nodes was refused: a closed set of reasons, each with its text."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Label of a refusal in metrics; `docs/metrics.md` explains each."""

    FOREIGN_CLUSTER = "foreign_cluster"
    """The other side belongs to another cluster."""
    NOT_A_MEMBER = "not_a_member"
    """It is unknown here, or was removed."""
    STALE_INCARNATION = "stale_incarnation"
    """It runs on an older copy of a data directory whose owner is connected."""
    VERSION = "version"
    """It speaks another version of the protocol."""
    OWN_ID = "own_id"
    """It claims this node's id, or is this node itself."""
    MISDIRECTED = "misdirected"
    """The right kind of node at the wrong address: a list of peers is wrong."""
    CERTIFICATE = "certificate"
    """Its certificate is of another authority, another node, expired, or not there."""
    TLS = "tls"
    """One side speaks TLS and the other does not, or what it speaks is broken."""
    MALFORMED = "malformed"
    """It sent bytes that are not of this protocol."""
    OVERSIZED = "oversized"
    """It announced a frame over the bound."""
    TIMEOUT = "timeout"
    """Its handshake took too long."""
    CROWDED = "crowded"
    """Too many connections are in their handshake."""
    TERM_JUMP = "term_jump"
    """It named a term beyond all reason."""
    BY_PEER = "by_peer"
    """The other side refused this node."""
    OTHER = "other"
    """None of these."""


class Refusal(str):
    """A sentence that says why and what to do, with the reason it is counted under.

    Args:
        reason: What it is counted under.
        text: The sentence.
    """

    __slots__ = ("reason",)

    reason: Reason

    def __new__(cls, reason: Reason, text: str) -> Refusal:
        """Make the sentence; a `str` in every other respect."""
        refusal = super().__new__(cls, text)
        refusal.reason = reason
        return refusal
