"""Bounds of the connections between nodes."""

from __future__ import annotations

from typing import NamedTuple

from cluster.wire import FRAME_MAX_BYTES


class Limits(NamedTuple):
    """Bounds of the peer connections.

    Attributes:
        frame_max_bytes: Largest body of one frame between nodes that know each other.
        outbox_max_bytes: Bytes that may wait for a slow peer before it is dropped (one
            larger frame may wait alone).
        handshake_s: A connection that is not live by then ends.
        ping_s: Interval of signs of life.
        silence_max_s: A live connection that brought nothing for so long ends.
        redial_min_s: First pause before dialling again; it doubles.
        redial_max_s: Longest pause, before the jitter of a quarter.
        ask_s: A node that is not dialled by a peer that should do so dials it by itself after
            so long, and hears why.
        strangers_max: Connections that may be in their handshake at once.
    """

    frame_max_bytes: int = FRAME_MAX_BYTES
    outbox_max_bytes: int = 64 << 20
    handshake_s: float = 5.0
    ping_s: float = 1.0
    silence_max_s: float = 5.0
    redial_min_s: float = 0.05
    redial_max_s: float = 0.8
    ask_s: float = 5.0
    strangers_max: int = 32
