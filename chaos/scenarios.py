"""What may be done to a cluster in one go, and in which order."""

from __future__ import annotations

import difflib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.cluster import Equipment
from chaos.faults import FAULTS

DISK_MIB: Final = 256
TASK_KIB: Final = 2
"""Twice what a task leaves on each disk: all are kept to the end of a run, however long."""


class UnknownScenarioError(Exception):
    """There is no scenario of that name; the text names those there are."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A handful of faults that belong together.

    Attributes:
        name: As it is asked for.
        about: One line for people.
        kinds: Faults, by kind.
        calm_s: Time between two faults in which nothing is done, shortest and longest.
        opening: These come first, in this order; then all of `kinds` in an order drawn, and
            so on round by round.
        hold_s: How long each fault lasts, shortest and longest; None: as it says itself.
        times: So many faults, and it is over; 0: until it is told to stop.
        gap_p99_max_ms: How long at most, 99 times of 100, nobody may be able to submit because
            of a fault; 0: nobody says.
    """

    name: str
    about: str
    kinds: tuple[str, ...]
    calm_s: tuple[float, float] = (0.5, 2.0)
    opening: tuple[str, ...] = ()
    hold_s: tuple[float, float] | None = None
    times: int = 0
    gap_p99_max_ms: float = 0

    @property
    def gap_max_ms(self) -> dict[str, float]:
        """How long nobody may be able to submit, by kind of fault; only where there is a bound."""
        bounds = {kind: FAULTS[kind]().gap_max_ms for kind in self.kinds}
        return {kind: bound for kind, bound in bounds.items() if bound is not None}

    def schedule(self, rng: random.Random) -> Iterator[str]:
        """Give kinds of faults without end: each once, in an order drawn, then again."""
        yield from self.opening
        while True:
            yield from rng.sample(self.kinds, len(self.kinds))


_ALL: Final = (
    Scenario(
        "kill",
        "nodes die and come back",
        ("kill leader", "kill follower", "kill minority", "kill majority", "kill all"),
        opening=("kill leader", "kill all"),
    ),
    Scenario(
        "leader-kills",
        "the leader dies, again and again",
        ("kill leader",),
        calm_s=(0.2, 0.5),
        # Longer than an election, shorter than usual: a hundred of them are to be had.
        hold_s=(0.5, 1.5),
        gap_p99_max_ms=2_000,
    ),
    Scenario(
        "pause",
        "nodes stand still and go on as if nothing had been",
        ("pause leader", "pause follower", "pause minority", "pause majority", "pause all"),
        opening=("pause leader",),
    ),
    Scenario(
        "partition",
        "nodes are cut off, or the leader from its clients",
        ("partition leader", "partition node", "partition halves", "partition clients"),
        opening=("partition halves", "partition clients"),
    ),
    Scenario(
        "partial-partition",
        "some links fail, some in one direction",
        (
            *("partition bridge", "partition ring", "partition one way"),
            *("partition deaf leader", "partition mute leader"),
        ),
    ),
    Scenario(
        "network",
        "links are slow, flap, are reset or half open",
        ("slow network", "slow drip", "flapping links", "resets", "half-open connections"),
    ),
    Scenario("restart", "all nodes are restarted in turn", ("rolling restart",)),
    Scenario(
        "power",
        "power goes, and with it what was not synced",
        ("power all", "power majority", "power minority"),
        opening=("power all",),
    ),
    Scenario("power-all", "all nodes lose power at once, again and again", ("power all",)),
    Scenario(
        "damage",
        "files of one node are torn or have flipped bits",
        ("torn tail", "flip wal", "flip table", "flip manifest", "flip mark", "damaged witness"),
        opening=("damaged witness", "torn tail", "flip wal"),
    ),
    Scenario(
        "disk-full",
        "disks have no room, and then have it again",
        ("disk full leader", "disk full follower", "disk full all"),
        opening=("disk full all",),
    ),
    Scenario(
        "disk-error",
        "fsync fails, dawdles or never returns",
        ("fsync error", "fsync takes 50 ms", "fsync takes 2000 ms", "fsync hangs"),
        opening=("fsync error",),
    ),
    Scenario(
        "clock",
        "wall clocks jump and drift",
        ("clock jump", "clock jump leader", "clock drift", "clock strobe"),
        opening=("clock jump leader",),
    ),
    Scenario(
        "clients",
        "workers stand still past their lease, clients vanish",
        ("worker frozen", "vanishing clients"),
        opening=("worker frozen",),
    ),
    Scenario(
        "members",
        "a member is replaced, while leaders die",
        ("replace member", "kill leader", "partition node"),
        opening=("replace member",),
    ),
    Scenario(
        "packet-loss",
        "packets are lost below TCP (--tier namespaces)",
        ("packet loss 5 %", "packet loss 20 %"),
        opening=("packet loss 5 %", "packet loss 20 %"),
    ),
    Scenario("packet-delay", "packets are late (--tier namespaces)", ("packet delay",)),
    Scenario(
        "packet-reorder",
        "packets are overtaken or come twice (--tier namespaces)",
        ("packets overtaken", "packets doubled"),
    ),
    Scenario(
        "packet-oneway",
        "one direction loses packets (--tier namespaces)",
        (
            *("packets lost one way", "half the packets lost one way"),
            *("packets of clients lost one way", "large packets lost one way"),
        ),
    ),
    Scenario("mix", "everything, in an order drawn", tuple(FAULTS)),
)

SCENARIOS: Final[dict[str, Scenario]] = {one.name: one for one in _ALL}

DEFAULT: Final = (
    *("kill", "pause", "partition", "partial-partition", "power", "damage", "disk-full"),
    *("disk-error", "clock", "clients", "members", "network", "restart"),
)
"""About five minutes: each comes once."""

PACKETS: Final = ("packet-loss", "packet-delay", "packet-reorder", "packet-oneway")
"""Of the tier of namespaces: each comes once."""

LONG: Final = (*DEFAULT, "mix")
LONG_PACKETS: Final = (*PACKETS, "mix")
"""For as many minutes as one has."""


def find(name: str) -> Scenario:
    """Return a scenario.

    Raises:
        UnknownScenarioError: There is none of that name.
    """
    if name in SCENARIOS:
        return SCENARIOS[name]
    close = difflib.get_close_matches(name, SCENARIOS, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    listed = "\n".join(f"  {one.name:<18} {one.about}" for one in _ALL)
    raise UnknownScenarioError(f"there is no scenario {name!r}{hint}; there are\n{listed}")


def equipment(names: Iterable[str], *, packets: bool = False, tasks: float = 0) -> Equipment:
    """Return what nodes need so that all of these scenarios have something to work with.

    Args:
        names: Of the scenarios.
        packets: In the tier of namespaces.
        tasks: As many are submitted, about.
    """
    kinds = [kind for name in names for kind in find(name).kinds]
    needs = {need for kind in kinds for need in FAULTS[kind]().needs}
    return Equipment(
        disk_mib=DISK_MIB + int(tasks * TASK_KIB / 1024) if "disk" in needs else 0,
        power="power" in needs,
        clock="clock" in needs,
        packets=packets,
    )


def gap_bounds(names: Sequence[str]) -> dict[str, float]:
    """Return the bounds on availability of all of these, by kind of fault."""
    return {kind: bound for name in names for kind, bound in find(name).gap_max_ms.items()}


def tail_bounds(names: Sequence[str]) -> dict[str, float]:
    """Return their bounds on the 99th percentile of gaps, by kind of fault."""
    scenarios = [find(name) for name in names]
    return {
        kind: one.gap_p99_max_ms for one in scenarios if one.gap_p99_max_ms for kind in one.kinds
    }
