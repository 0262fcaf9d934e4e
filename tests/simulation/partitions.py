"""Partial partitions: does a cluster that can reach a quorum serve, and keep its leader?

    python -m tests.simulation.partitions --seeds 20

plays the shapes that have stopped clusters elsewhere, on clean links and with 2 % late
messages, and prints for each the share of one-second slots in which a submit was
acknowledged, and by how much the term rose. Exit status 1 when a bound does not hold.

The shapes: one link lost (Cloudflare, 2020-11-02), a bridge and overlapping majorities (as
Jepsen's nemeses draw them), two servers at the edge (Howard and Abraham, "Raft does not
guarantee liveness in the face of network faults", 2020), and a leader that loses all of its
followers but one, or all, or keeps but a hub through which the others are joined.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, NamedTuple

from cluster.state import LEADER
from tests.simulation.options import Options
from tests.simulation.shapes import Direction, between, cut_off
from tests.simulation.show import say
from tests.simulation.world import ClientLink, Parts, World
from tq.protocol import VERSION, Type, encode, unpack

PARTED_S: Final = 60.0
_PROBE_S: Final = 0.1
_ELECTION_MAX_S: Final = 20.0
_SETTLED_S: Final = 2.0
_LATE_SHARE: Final = 0.02
_LATE_S: Final = (0.05, 1.2)
_HELLO: Final = 1
"""Request id of the introduction."""
_EPOCH_MS: Final = 1_700_000_000_000

Cut = Callable[[int, Sequence[int]], tuple[Direction, ...]]
"""From the leader and the others to what is cut."""


class Shape(NamedTuple):
    """A partition.

    Attributes:
        name: Short.
        nodes: How many.
        cut: What is cut.
        bumps_max: Terms that may pass on clean links.
        lost_max: Slots that may be lost on clean links: the leader has to find out.
    """

    name: str
    nodes: int
    cut: Cut
    bumps_max: int = 0
    lost_max: int = 0


def _one_link(leader: int, others: Sequence[int]) -> tuple[Direction, ...]:
    return between([leader], others[:1])


def _bridge(leader: int, others: Sequence[int]) -> tuple[Direction, ...]:
    return between([leader, others[0]], others[2:])


def _ring(leader: int, others: Sequence[int]) -> tuple[Direction, ...]:
    round_ = [leader, *others]
    kept = {frozenset((round_[at - 1], one)) for at, one in enumerate(round_)}
    pairs = [(one, other) for one in round_ for other in round_ if one != other]
    return tuple(pair for pair in pairs if frozenset(pair) not in kept)


def _edges(leader: int, others: Sequence[int]) -> tuple[Direction, ...]:
    first, second, edge, other_edge = others
    return (
        *between([edge], [leader, second]),
        *between([other_edge], [first, second]),
        *between([edge], [other_edge]),
    )


def _all_but_one(leader: int, others: Sequence[int]) -> tuple[Direction, ...]:
    return between([leader], others[1:])


def _isolated(leader: int, others: Sequence[int]) -> tuple[Direction, ...]:
    return cut_off(leader, [leader, *others])


def _hub(leader: int, others: Sequence[int]) -> tuple[Direction, ...]:
    spokes = [leader, *others[1:]]
    return tuple((one, other) for one in spokes for other in spokes if one != other)


SHAPES: Final = (
    Shape("one link", 3, _one_link),
    Shape("bridge", 5, _bridge),
    Shape("majorities ring", 5, _ring),
    Shape("two edges", 5, _edges),
    Shape("leader keeps one", 5, _all_but_one, bumps_max=1),
    Shape("leader isolated", 3, _isolated, bumps_max=1),
    # Only the hub can be elected, and it hears its leader until that one gives up.
    Shape("hub", 5, _hub, bumps_max=1, lost_max=3),
)


class Probe:
    """A client of one node: submits, and goes by what is acknowledged."""

    def __init__(self, world: World, node_id: int, acknowledged: Callable[[], None]) -> None:
        self._world = world
        self._node_id = node_id
        self._acknowledged = acknowledged
        self._rng = world.rng(f"probe {node_id}")
        self._link: ClientLink | None = None
        self._number = _HELLO
        self._dial()

    def _dial(self) -> None:
        self._world.dial(self._node_id, self)

    def opened(self, link: ClientLink) -> None:
        """Introduce itself and begin."""
        self._link = link
        link.send(encode(Type.HELLO, (_HELLO, VERSION, "probe", {})))
        self._submit(link)

    def came(self, message_type: int, body: bytes) -> None:
        """Count an acknowledgement that is not of the introduction."""
        if message_type == Type.ACK and unpack(body)[0] != _HELLO:
            self._acknowledged()

    def closed(self) -> None:
        """Try again."""
        self._link = None
        self._world.after(_PROBE_S, self._dial)

    def _submit(self, link: ClientLink) -> None:
        if self._link is not link:
            return
        self._number += 1
        stamp = int(self._world.now * 1000) + _EPOCH_MS
        chance = self._rng.getrandbits(62) | 2 << 62
        task_id = (stamp << 80 | 7 << 76 | chance).to_bytes(16, "big")
        link.send(encode(Type.SUBMIT_TASK, (self._number, task_id, "probes", "probe", b"", {})))
        self._world.after(_PROBE_S, self._submit, link)


@dataclass(frozen=True)
class Parted:
    """What became of one shape and seed.

    Attributes:
        slots: Seconds of the partition.
        served: Those in which a submit was acknowledged.
        bumps: By how much the highest term rose.
    """

    slots: int
    served: int
    bumps: int


def _leader(world: World) -> int | None:
    engines = [(n, node.engine) for n, node in world.nodes.items() if node.engine is not None]
    leading = [(engine.term, n) for n, engine in engines if engine.role == LEADER]
    return max(leading)[1] if leading else None


def _term(world: World) -> int:
    return max(node.engine.term for node in world.nodes.values() if node.engine is not None)


def part(
    shape: Shape,
    seed: int,
    *,
    late: bool = False,
    parts: Parts | None = None,
    parted_s: float = PARTED_S,
) -> Parted:
    """Elect a leader, cut what the shape says, and see for a minute what is served."""
    options = replace(Options(nodes=shape.nodes, kinds=(), late=0.0), drift=0.0002)
    world = World(seed, options, parts=parts)
    if late:
        _make_late(world)
    for node in world.nodes.values():
        node.start()
    deadline = world.now + _ELECTION_MAX_S
    while _leader(world) is None and world.now < deadline:
        world.run_until(world.now + 0.1)
    world.run_until(world.now + _SETTLED_S + world.rng("cut").random())
    leader = _leader(world)
    assert leader is not None, "nobody was elected"
    others = [node_id for node_id in world.nodes if node_id != leader]
    world.rng("cut").shuffle(others)
    began_at, term = world.now, _term(world)
    served: set[int] = set()
    for node_id in world.nodes:
        Probe(world, node_id, lambda: served.add(int(world.now - began_at)))
    world.run_until(began_at + 1.0)
    world.network.block(shape.cut(leader, others), parted_s)
    world.run_until(began_at + 1.0 + parted_s)
    slots = int(parted_s)
    return Parted(slots, len(served & set(range(1, slots + 1))), _term(world) - term)


def _make_late(world: World) -> None:
    network = world.network
    punctual, draw = network.delay, network.rng.random
    low_s, high_s = _LATE_S

    def delay() -> float:
        seconds = punctual()
        return seconds + low_s + (high_s - low_s) * draw() if draw() < _LATE_SHARE else seconds

    network.delay = delay  # type: ignore[method-assign]  # another network


def played(what: tuple[str, int, bool]) -> tuple[str, int, bool, Parted]:
    """Play in a worker process."""
    logging.disable(logging.CRITICAL)
    gc.freeze()
    name, seed, late = what
    shape = next(shape for shape in SHAPES if shape.name == name)
    return (*what, part(shape, seed, late=late))


def judge(shape: Shape, seen: Iterable[Parted], *, late: bool) -> str | None:
    """Say what bound does not hold, None if all do."""
    seen = list(seen)
    slots, served = sum(one.slots for one in seen), sum(one.served for one in seen)
    if late:
        return None if served >= 0.8 * slots else "less than 80 % of the slots"
    if any(one.slots - one.served > shape.lost_max for one in seen):
        return "a slot was lost"
    return "the term rose" if any(one.bumps > shape.bumps_max for one in seen) else None


HEADER: Final = (
    f"{'shape':<18} {'links':<6} {'seeds':>5} {'slots served':>13} {'bumps: mean':>12} max"
)


def row(shape: Shape, seen: Sequence[Parted], *, late: bool) -> tuple[str, bool]:
    """Return one line of the report, and whether its bounds hold."""
    trouble = judge(shape, seen, late=late)
    share = sum(one.served for one in seen) / sum(one.slots for one in seen)
    bumps = [one.bumps for one in seen]
    line = (
        f"{shape.name:<18} {'late' if late else 'clean':<6} {len(seen):>5} {share:>13.2%} "
        f"{sum(bumps) / len(bumps):>12.2f} {max(bumps):>3}  {trouble or ''}"
    )
    return line.rstrip(), trouble is None


def main(arguments: list[str] | None = None) -> int:
    """Play all shapes; print each row of the table once it is known."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.partitions")
    parser.add_argument("--seeds", type=int, default=20, help="how many of each")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    rows = [(shape, late) for shape in SHAPES for late in (False, True)]
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    fine = True
    with ProcessPoolExecutor(chosen.processes) as pool:
        # All at once, so that no process waits for the end of another's row.
        played_by_row = pool.map(
            played, ((s.name, seed, late) for s, late in rows for seed in seeds)
        )
        say(HEADER)
        for shape, late in rows:
            seen = [parted for *_, parted in islice(played_by_row, len(seeds))]
            line, holds = row(shape, seen, late=late)
            say(line)
            fine = fine and holds
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
