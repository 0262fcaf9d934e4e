"""Everything that can be done to a cluster, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from chaos.faults.clients import VanishingClients
from chaos.faults.clock import ClockDrift, ClockJump, ClockStrobe
from chaos.faults.damage import DamagedWitness, Flip, TornTail
from chaos.faults.disk_error import FsyncError, SlowFsync
from chaos.faults.disk_full import DiskFull
from chaos.faults.fault import Fault, FaultError, MissedError, Record
from chaos.faults.kill import Kill
from chaos.faults.members import ReplaceMember
from chaos.faults.network import Drip, Flapping, Resets, SlowNetwork
from chaos.faults.packets import LOST, Everywhere, OneWay
from chaos.faults.partition import Partition
from chaos.faults.pause import Pause
from chaos.faults.power import PowerCut
from chaos.faults.restart import RollingRestart
from chaos.faults.workers import FreezeWorker
from chaos.links import Impairment

__all__ = ["FAULTS", "Fault", "FaultError", "MissedError", "Record"]

LEASE_S: Final = 4.0
"""Of the cluster's settings."""

# Where the rest can go on by themselves, a bound is shorter than the fault: a cluster that waits
# for its end is told. It is at least twice what sound nodes took on a busy machine.
_FAULTS: Final[tuple[Callable[[], Fault], ...]] = (
    lambda: Kill("leader", gap_max_ms=5_000),
    lambda: Kill("follower", gap_max_ms=2_000),
    lambda: Kill("minority", gap_max_ms=5_000),
    lambda: Kill("majority", gap_max_ms=15_000),
    lambda: Kill("all", gap_max_ms=15_000),
    # Clients leave a silent leader, and the others elect one, within 2 s on an idle machine.
    lambda: Pause("leader", gap_max_ms=3_000),
    lambda: Pause("follower", gap_max_ms=2_000),
    lambda: Pause("minority", gap_max_ms=3_000),
    lambda: Pause("majority", gap_max_ms=12_000),
    lambda: Pause("all", gap_max_ms=12_000),
    lambda: Partition("node", hold_s=(5.0, 8.0), gap_max_ms=4_000),
    lambda: Partition("leader", hold_s=(5.0, 8.0), gap_max_ms=4_000),
    lambda: Partition("halves", hold_s=(9.0, 12.0), gap_max_ms=8_000),
    lambda: Partition("bridge", hold_s=(5.0, 8.0), gap_max_ms=4_000),
    lambda: Partition("ring", hold_s=(5.0, 8.0), gap_max_ms=4_000),
    # It is heard until it notices itself that it hears nobody.
    lambda: Partition("deaf leader", hold_s=(6.0, 9.0), gap_max_ms=5_000),
    lambda: Partition("mute leader", hold_s=(4.0, 8.0), gap_max_ms=3_000),
    lambda: Partition("one way", hold_s=(6.0, 9.0), gap_max_ms=5_000),
    # Nothing may be done about it: the leader is sound, and leads.
    lambda: Partition("clients", hold_s=(2.0, 4.0), gap_max_ms=8_000),
    SlowNetwork,
    Drip,
    Flapping,
    Resets,
    lambda: Resets(half=True),
    lambda: RollingRestart(gap_max_ms=3_000),
    lambda: PowerCut("minority", gap_max_ms=6_000),
    lambda: PowerCut("majority", gap_max_ms=20_000),
    lambda: PowerCut("all", gap_max_ms=20_000),
    TornTail,
    lambda: Flip("wal"),
    lambda: Flip("table"),
    lambda: Flip("manifest"),
    lambda: Flip("mark"),
    DamagedWitness,
    # New tasks are refused as long as the leader has no room, or most have none.
    lambda: DiskFull("leader"),
    lambda: DiskFull("follower", gap_max_ms=2_000),
    lambda: DiskFull("all"),
    lambda: FsyncError(gap_max_ms=5_000),
    lambda: SlowFsync(50, gap_max_ms=2_000),
    lambda: SlowFsync(2_000, gap_max_ms=4_000),
    lambda: SlowFsync(0, gap_max_ms=4_000),
    ClockJump,
    lambda: ClockJump("leader"),
    ClockDrift,
    ClockStrobe,
    lambda: FreezeWorker(lease_s=LEASE_S),
    VanishingClients,
    ReplaceMember,
    # TCP sends again what is lost, and waits twice as long each time: gaps outlive the fault.
    lambda: Everywhere("packet loss 5 %", Impairment(loss=0.05), gap_max_ms=3_000),
    lambda: Everywhere("packet loss 20 %", Impairment(loss=0.2), gap_max_ms=6_000),
    lambda: Everywhere("packet delay", Impairment(low_ms=20, high_ms=120), gap_max_ms=3_000),
    lambda: Everywhere("packets overtaken", Impairment(reorder=0.2), gap_max_ms=2_000),
    lambda: Everywhere("packets doubled", Impairment(duplicate=0.3), gap_max_ms=2_000),
    lambda: OneWay("packets lost one way", LOST, hold_s=(7.0, 10.0), gap_max_ms=6_000),
    lambda: OneWay(
        "half the packets lost one way", Impairment(loss=0.5), hold_s=(7.0, 10.0), gap_max_ms=6_000
    ),
    # Nothing may be done about it, as above.
    lambda: OneWay(
        "packets of clients lost one way",
        LOST,
        peer="clients",
        hold_s=(2.0, 4.0),
        gap_max_ms=10_000,
    ),
    # Small ones pass, heartbeats among them; entries do not.
    lambda: OneWay(
        "large packets lost one way",
        Impairment(size_max=600),
        sender="leader",
        hold_s=(7.0, 10.0),
        gap_max_ms=6_000,
    ),
)

FAULTS: Final[dict[str, Callable[[], Fault]]] = {make().kind: make for make in _FAULTS}
"""Kind of fault -> makes one."""
