"""Shapes of partitions: who hears whom.

Whole ones and partial ones: a bridge, a ring, halves, a node that is heard and does not
hear, one that hears and is not heard, and a pair that has lost sight of each other (as in
Cloudflare's outage of 2020-11-02).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

Direction = tuple[int, int]


def cut_off(node_id: int, nodes: Sequence[int]) -> tuple[Direction, ...]:
    """Every direction between a node and the others."""
    return tuple(
        direction
        for other in nodes
        if other != node_id
        for direction in ((node_id, other), (other, node_id))
    )


def between(some: Sequence[int], others: Sequence[int]) -> tuple[Direction, ...]:
    """Every direction between two groups."""
    return tuple(
        direction for one in some for other in others for direction in ((one, other), (other, one))
    )


def drawn_shape(
    nodes: Sequence[int], leader: int | None, rng: random.Random
) -> tuple[str, tuple[Direction, ...]]:
    """Draw a name and what is cut.

    Args:
        nodes: All of them, two at least.
        leader: Who leads, if anybody.
        rng: Draws.
    """
    mixed = list(nodes)
    rng.shuffle(mixed)
    half = len(mixed) // 2
    name = rng.choice(("bridge", "ring", "halves", "one way out", "one way in", "one pair"))
    if name == "bridge" and len(mixed) >= 3:
        # One in the middle reaches both sides, which do not reach each other.
        return name, between(mixed[:half], mixed[half + 1 :])
    if name == "ring" and len(mixed) >= 4:
        return name, tuple(
            direction
            for at, one in enumerate(mixed)
            for other in mixed[at + 2 : len(mixed) - (at == 0)]
            for direction in ((one, other), (other, one))
        )
    if name == "halves":
        return name, between(mixed[:half], mixed[half:])
    one = mixed[0] if leader is None or rng.random() < 0.5 else leader
    others = [other for other in mixed if other != one]
    if name == "one way out":
        return name, tuple((one, other) for other in others)
    if name == "one way in":
        return name, tuple((other, one) for other in others)
    return "one pair", between([one], others[:1])
