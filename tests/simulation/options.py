"""What one world is made of, drawn from its seed: each option at random, kinds of faults by coin.

Worlds that differ in kind find more than one world with everything in it: a fault that is
off cannot hide another one's effect. All of it is printed, so that a failing seed can be
understood without being run.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from cluster.interface import Timing

KINDS = (
    "kill",
    "power",
    "outage",
    "pause",
    "restart",
    "wipe",
    "break",
    "cut",
    "isolate",
    "shape",
    "stall",
    "eio",
    "full",
    "flip",
    "clock",
    "transfer",
    "clients",
    "member",
)
"""Kinds of faults, see `tests.simulation.nemesis`."""

CHAOS_S = 60.0
"""Simulated seconds of faults."""

HEAL_MAX_S = 60.0
"""Simulated seconds a healed cluster may take to converge."""


@dataclass(frozen=True)
class Options:
    """One world.

    Attributes:
        nodes: Voters at the start.
        kinds: Kinds of faults that happen, a subset of `KINDS`.
        faults_per_s: Faults of the chaos phase, on average.
        delay_s: One way between two processes, on average.
        late: Share of messages that take longer, up to `late_s`.
        late_s: The longest they take.
        duplicated: Share of peer messages delivered twice (not what TCP does).
        reordered: Share of peer messages that overtake others (not what TCP does).
        codec: Peer messages travel as bytes; otherwise as the immutable objects they are.
        sync_s: An fsync, on average.
        sync_slow_s: The longest of the few slow ones.
        wal_records: Records in the write-ahead log before a sync moves them to tables.
        checkpoint_entries: Log entries between two checkpoints; fewer than a node's
            configuration may say, as a world has fewer entries than a cluster.
        retention_ms: How long ended tasks are kept.
        compaction_s: Between two sweeps for them.
        ballast_bytes: Of the file that is given up when the disk is full.
        disk_low_bytes: Below so much room no new tasks are taken.
        depth_max: Queue depth from which submits are refused.
        lease_ms: Length of a lease.
        drift: Clock rates differ from true time by up to this share.
        wall_spread_s: Wall clocks begin off true time by up to this.
        clients: Clients that submit, cancel and ask.
        workers: Clients that claim and answer.
        operations_per_s: Operations of all clients together, about.
        burst: Operations that a client sends at once, and tasks that a worker takes and
            answers at once, on average; 1 is one at a time.
        beat_s: Clients and workers act at multiples of it; 0 lets each have its own time.
        turn_s: Between two looks of a node's event loop at its clients, as when it is busy;
            what has come by then is one turn. 0 is a turn for each.
        crash_points: Kills fall within a turn, at a call of the disk, and not between turns.
        timing: The engine's durations and bounds.
    """

    nodes: int = 3
    kinds: tuple[str, ...] = KINDS
    faults_per_s: float = 0.5
    delay_s: float = 0.001
    late: float = 0.02
    late_s: float = 0.1
    duplicated: float = 0.0
    reordered: float = 0.0
    codec: bool = False
    sync_s: float = 0.002
    sync_slow_s: float = 0.05
    wal_records: int = 500
    checkpoint_entries: int = 100
    retention_ms: int = 604_800_000
    compaction_s: float = 20.0
    ballast_bytes: int = 0
    disk_low_bytes: int = 0
    depth_max: int = 100_000
    lease_ms: int = 5_000
    drift: float = 0.0
    wall_spread_s: float = 0.0
    clients: int = 3
    workers: int = 3
    operations_per_s: float = 25.0
    burst: int = 6
    beat_s: float = 0.0
    turn_s: float = 0.0
    crash_points: bool = False
    timing: Timing = field(default_factory=Timing)

    @property
    def is_harsh(self) -> bool:
        """The network does what no TCP connection does."""
        return self.duplicated > 0 or self.reordered > 0

    @classmethod
    def drawn(cls, seed: int) -> Options:
        """Draw the options of a seed."""
        rng = random.Random(f"options {seed}")
        pick = rng.choice
        nodes = pick((1, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 5))
        harsh = nodes > 1 and rng.random() < 0.1
        burst = pick((1, 4, 4, 6, 6, 6, 6, 8, 8, 8, 8, 10, 10, 10, 10, 12, 12, 12, 12, 12))
        return cls(
            nodes=nodes,
            kinds=tuple(kind for kind in KINDS if rng.random() < 0.5),
            faults_per_s=pick((0.2, 0.5, 1.0, 2.0)),
            delay_s=pick((0.0003, 0.001, 0.003, 0.01)),
            late=pick((0.0, 0.0, 0.02, 0.05)),
            late_s=pick((0.05, 0.3, 1.2)),
            duplicated=0.1 if harsh else 0.0,
            reordered=pick((0.02, 0.2)) if harsh else 0.0,
            codec=rng.random() < 0.125,
            sync_s=pick((0.0005, 0.002, 0.005, 0.02, 0.05)),
            sync_slow_s=pick((0.0, 0.1, 0.5)),
            wal_records=pick((5, 50, 500, 5000)),
            checkpoint_entries=pick((20, 40, 40, 200)),
            retention_ms=pick((604_800_000, 60_000, 5_000)),
            compaction_s=pick((1.0, 5.0, 60.0)),
            ballast_bytes=pick((0, 100_000)),
            disk_low_bytes=pick((0, 20_000, 200_000)),
            depth_max=pick((100_000, 100_000, 20)),
            lease_ms=pick((1_000, 3_000, 3_000, 5_000, 5_000, 10_000)),
            drift=pick((0.0, 0.0002, 0.02)),
            wall_spread_s=pick((0.0, 0.5, 1.5)),
            clients=pick((2, 3, 5)),
            workers=pick((2, 2, 3, 3, 5)),
            operations_per_s=pick((20.0, 20.0, 24.0, 28.0)),
            burst=burst,
            beat_s=pick((0.0, 0.2, 0.2, 0.5, 0.5)) if burst > 1 else 0.0,
            turn_s=pick((0.0, 0.005, 0.02)),
            crash_points=rng.random() < 0.5,
            timing=_timing(rng),
        )


def _timing(rng: random.Random) -> Timing:
    pick = rng.choice
    slow = pick((1.0, 2.0, 3.0, 3.0))
    return Timing(
        election_min_s=0.4 * slow,
        election_max_s=0.8 * slow,
        heartbeat_s=0.1 * slow,
        check_quorum_s=1.4 * slow,
        spread_s=pick((0.005, 0.05, 0.2, 0.2)),
        append_max_bytes=pick((200, 2000, 1 << 20)),
        flight_max=pick((1, 4, 256)),
        flight_max_bytes=pick((1000, 16 << 20)),
        chunk_max_bytes=pick((2000, 20_000, 1 << 20)),
        chunk_flight_max=pick((1, 2)),
        apply_max_bytes=pick((500, 1 << 18)),
        log_tail_bytes=pick((0, 1000, 20_000)),
        log_pin_bytes=pick((100_000, 1 << 20)),
    )
