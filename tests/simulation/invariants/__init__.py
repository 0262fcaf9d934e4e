"""What must hold in every world: one rule a file, each checked as it happens."""

from __future__ import annotations

from typing import Final

from tests.simulation.invariants.acknowledged import Acknowledged
from tests.simulation.invariants.answered import EveryCallerAnswered
from tests.simulation.invariants.claim_order import ClaimOrder
from tests.simulation.invariants.completeness import LeaderCompleteness
from tests.simulation.invariants.configurations import Configurations
from tests.simulation.invariants.digests import EqualDigests
from tests.simulation.invariants.fences import Fences
from tests.simulation.invariants.lease_times import LeaseTimes
from tests.simulation.invariants.linearizable import Linearizable
from tests.simulation.invariants.matching import LogMatching
from tests.simulation.invariants.once import Once
from tests.simulation.invariants.one_leader import OneLeader
from tests.simulation.invariants.outsiders import Outsiders
from tests.simulation.invariants.progress import Progress
from tests.simulation.invariants.reads import Reads
from tests.simulation.invariants.repeats import Repeats
from tests.simulation.invariants.rule import Invariant
from tests.simulation.invariants.same_entries import SameEntries
from tests.simulation.invariants.sessions import Sessions
from tests.simulation.violation import Violation

__all__ = ["ALL", "Invariant", "Violation"]

ALL: Final[tuple[type[Invariant], ...]] = (
    OneLeader,
    LogMatching,
    LeaderCompleteness,
    Outsiders,
    Configurations,
    SameEntries,  # shows each entry to the ledger, which those after it look at
    Once,
    Fences,
    ClaimOrder,
    Repeats,
    LeaseTimes,
    Sessions,
    Acknowledged,
    Reads,
    EqualDigests,
    EveryCallerAnswered,
    Progress,
    Linearizable,
)
"""All of them, in the order in which they are asked."""
