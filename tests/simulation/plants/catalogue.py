"""All planted bugs that a simulated cluster must notice, and where to look for each.

A plant is one rule taken out: another class for a part of the nodes, or another function in
the place of one of the product's, for as long as one world plays. Its options are narrowed
so that the fault it needs is likely; the product itself must pass with the same options.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from cluster import recovery
from cluster.engine import Engine
from node import broker, dispatcher
from node.claims import Claims
from node.door import Door
from statemachine import claiming, commands, machine, submitting
from statemachine.checkpoint import Changes
from statemachine.state import State
from tests.simulation.plants import consensus, members, plots, queue, service
from tests.simulation.plants.plant import Place, Plant
from tests.simulation.world import Parts


def _engine(
    engine: type[Engine], breaks: str, control: Parts | None = None, **options: Any
) -> Plant:
    control = control or Parts()
    planted = replace(control, engine=engine)
    return Plant(engine.__name__, breaks, planted, control, options={"nodes": 3, **options})


def _parted(engine: type[Engine], breaks: str, shape: str) -> Plant:
    return Plant(engine.__name__, breaks, Parts(engine=engine), shape=shape)


def _machine(name: str, breaks: str, place: Place, value: Any, **options: Any) -> Plant:
    return Plant(name, breaks, places=((place, value),), options={**_CLIENTS, **options})


_HANDLERS: Final = machine._HANDLERS  # who answers which command
_CLIENTS: Final[dict[str, Any]] = {
    "nodes": 3,
    "kinds": ("kill", "isolate", "transfer", "clients", "pause"),
    "faults_per_s": 0.5,
}
_LEADERS: Final[dict[str, Any]] = {
    "kinds": ("kill", "isolate", "transfer", "break", "cut"),
    "faults_per_s": 1.0,
}
_TAILS: Final[dict[str, Any]] = {
    "kinds": ("isolate", "cut", "shape", "pause"),
    "faults_per_s": 1.0,
    "operations_per_s": 40.0,
}
_SNAPSHOTS: Final[dict[str, Any]] = {
    **_TAILS,
    "checkpoint_entries": 40,
    "timing": {"log_tail_bytes": 0, "chunk_max_bytes": 2000},
}
_DARK: Final[dict[str, Any]] = {
    "kinds": ("outage",),
    "faults_per_s": 2.0,
    "operations_per_s": 40.0,
    "delay_s": 0.0003,
    "late": 0.0,
    "sync_s": 0.05,
    "wal_records": 5000,
}
_LONG_IN_OFFICE: Final[dict[str, Any]] = {
    "kinds": ("isolate",),
    "faults_per_s": 1.0,
    "operations_per_s": 40.0,
    "timing": {"check_quorum_s": 3.0},
}
_PATIENT: Final[dict[str, Any]] = {
    "check_quorum_s": 3.0,
    "election_min_s": 0.4,
    "election_max_s": 0.8,
    "heartbeat_s": 0.1,
    "flight_max": 256,
    "append_max_bytes": 1 << 20,
    "flight_max_bytes": 1 << 20,
}
_PLOT: Final[dict[str, Any]] = {
    "kinds": (),
    "operations_per_s": 20.0,
    "delay_s": 0.001,
    "late": 0.0,
    "sync_s": 0.002,
    "sync_slow_s": 0.0,
    "crash_points": False,
    "timing": _PATIENT,
}
_EAGER: Final = Parts(machine=queue.EagerMachine)
_TIGHT: Final = Parts(broker=service.OutOfMemory, setup=service.note_node)

CONSENSUS: Final = (
    Plant("SyncsNothing", "H1a P6", Parts(syncs=False), options={"nodes": 3, **_DARK}),
    _engine(consensus.SpeaksEarly, "H1a P6", **_DARK),
    _engine(consensus.VotesEarly, "H1b P6", **{**_DARK, "faults_per_s": 3.0, "sync_s": 0.2}),
    _engine(consensus.CountsItselfEarly, "H1a", **_DARK, sync_slow_s=0.5),
    _engine(consensus.StockTruncation, "H2 P1", **_TAILS, duplicated=0.1, reordered=0.2),
    _engine(consensus.BelievesCommitIndex, "H2 P2", **_TAILS),
    _engine(
        consensus.SplitsCheckpoint,
        "H4a",
        _EAGER,
        **{**_DARK, "kinds": ("outage", "power"), "timing": {"log_tail_bytes": 0}, "burst": 1},
    ),
    _engine(consensus.ReadsAtOnce, "H5b P7", **_LONG_IN_OFFICE),
    _engine(consensus.ReadsBeforeItsNoOp, "H5b P7", **_LEADERS),
    _engine(
        consensus.IgnoresReplyTerm,
        "H3 P3",
        Parts(setup=plots.old_answers),
        **{**_PLOT, "nodes": 5, "operations_per_s": 40.0},
    ),
    _engine(
        consensus.CommitsOlderTerms,
        "commit by count",
        Parts(setup=plots.figure_eight),
        **{
            **_PLOT,
            "nodes": 5,
            "delay_s": 0.02,
            "timing": {**_PATIENT, "append_max_bytes": 200, "flight_max": 1},
        },
    ),
    _engine(consensus.VouchesAtOnce, "memory", Parts(setup=plots.stale_witness), **_PLOT),
    _engine(consensus.SkipsWhatRaises, "H7a", _TIGHT, kinds=()),
    _engine(consensus.ChunkMovesCommit, "H9a P2", **_SNAPSHOTS),
    _engine(consensus.AcceptsAnyChunk, "H9b", **{**_SNAPSHOTS, "reordered": 0.3, "delay_s": 0.01}),
    _engine(consensus.NeverRewinds, "H9c P5", **_TAILS),
    _engine(consensus.ForgetsCallers, "H9g", **_LEADERS),
    _engine(consensus.TrustsCommitIndex, "H9h", kinds=("kill", "isolate"), faults_per_s=1.0),
    _engine(
        consensus.CountsRepliesOfAny,
        "H9i P4",
        Parts(engine=consensus.NoPreVote),
        nodes=5,
        kinds=("isolate", "shape", "kill"),
        faults_per_s=1.0,
        duplicated=0.5,
        delay_s=0.003,
    ),
    _engine(
        consensus.ForgetsItsVote,
        "one vote",
        nodes=5,
        kinds=("kill", "isolate"),
        faults_per_s=2.0,
        delay_s=0.04,
    ),
    _engine(consensus.VotesForAnyLog, "complete logs", **_LEADERS),
    _engine(consensus.AmnesiacVotes, "memory", kinds=("wipe", "kill", "isolate"), faults_per_s=1.0),
    _parted(consensus.NoPreVote, "H5a P7", "one link"),
    _parted(consensus.StaysInOffice, "H5b P7", "hub"),
    Plant(
        "IgnoresTheMark",
        "H1c",
        places=(((recovery.Storage, "_check_mark"), service.ignores_the_mark),),
        options={"nodes": 3, "kinds": ("flip", "kill"), "faults_per_s": 1.0, "wal_records": 5000},
    ),
)

_CHANGES: Final[dict[str, Any]] = {
    "kinds": ("member", "isolate", "transfer", "shape"),
    "faults_per_s": 4.0,
    "operations_per_s": 20.0,
}

MEMBERS: Final = (
    _engine(members.ManyAtOnce, "H8a", **_CHANGES),
    _engine(
        members.Hasty,
        "H8a",
        Parts(setup=plots.two_changes),
        **{**_PLOT, "nodes": 4, "delay_s": 0.02},
    ),
    _engine(members.CountsLearners, "H8d", **_CHANGES),
    _engine(members.StandsAsLearner, "H8d", **_CHANGES),
    _engine(members.RemovesItself, "H8c", **_CHANGES),
    _engine(members.NeverTakesBack, "H8g", **_CHANGES),
    _engine(
        members.ForgetsTheMembers,
        "H8f",
        **{**_CHANGES, "operations_per_s": 40.0},
        checkpoint_entries=40,
        timing={"log_tail_bytes": 0, "chunk_max_bytes": 2000},
    ),
    _engine(
        members.SendsTheLatest,
        "H8f",
        **{**_CHANGES, "operations_per_s": 40.0},
        checkpoint_entries=40,
        timing={"log_tail_bytes": 0, "chunk_max_bytes": 2000},
    ),
)

_LEASES: Final[dict[str, Any]] = {"lease_ms": 1000, "workers": 5, "operations_per_s": 40.0}

QUEUE: Final = (
    _machine(
        "AcceptsAnyToken",
        "fence",
        (_HANDLERS, commands.TaskResult),
        queue.accepts_any_token,
        **_LEASES,
    ),
    Plant(
        "ChecksTheTokenAtReceipt",
        "fence",
        places=(
            ((_HANDLERS, commands.TaskResult), queue.accepts_any_token),
            ((Door, "result"), service.checks_the_token_at_receipt),
        ),
        options={**_CLIENTS, **_LEASES, "sync_s": 0.05},
    ),
    _machine("GrantsTheSameToken", "fence", (claiming, "_lease"), queue.grants_the_same_token),
    _machine(
        "ForgetsWhatAClaimWasGiven",
        "claims",
        (_HANDLERS, commands.Claim),
        queue.forgets_what_a_claim_was_given,
        **_LEADERS,
    ),
    _machine(
        "ExpiresByTaskAlone",
        "leases",
        (_HANDLERS, commands.Expire),
        queue.expires_by_task_alone,
        **_LEASES,
    ),
    _machine(
        "ForgetsWhatHasEnded", "idempotence", (submitting, "_submit"), queue.forgets_what_has_ended
    ),
    _machine(
        "TakesOtherContent",
        "idempotence",
        (submitting, "_same_content"),
        queue.takes_other_content_for_the_same,
    ),
    _machine(
        "LeavesStubsOut",
        "idempotence",
        (Changes, "records"),
        queue.leaves_stubs_out,
        retention_ms=5000,
        compaction_s=1.0,
        checkpoint_entries=40,
    ),
    _machine("LosesWithoutCharge", "budgets", (State, "lose"), queue.loses_without_charge),
    _machine(
        "RebuildsLinesBackwards",
        "order",
        (machine, "restore_tasks"),
        queue.rebuilds_lines_backwards,
        kinds=("kill",),
        checkpoint_entries=40,
    ),
    Plant(
        "ReadsTheClockInApply",
        "equal states",
        Parts(broker=service.ReadsTheClockInApply),
        options={**_CLIENTS, "wall_spread_s": 0.5},
    ),
)


def _keeper(name: str, breaks: str, keeper: type, **options: Any) -> Plant:
    return Plant(
        name,
        breaks,
        Parts(broker=service.WallClockBroker),
        places=(((broker, "LeaseKeeper"), keeper),),
        options={**_CLIENTS, **_LEASES, **options},
    )


_CLOCKS: Final[dict[str, Any]] = {"kinds": ("clock",), "faults_per_s": 1.0}

SERVICE: Final = (
    _keeper("LeasesByWallClock", "leases", service.LeasesByWallClock, **_CLOCKS),
    _keeper("SessionsByWallClock", "sessions", service.SessionsByWallClock, **_CLOCKS),
    _keeper(
        "ExpiresAtOnce",
        "leases",
        service.ExpiresAtOnce,
        kinds=("transfer", "kill"),
        faults_per_s=1.0,
    ),
    Plant(
        "NoBarriers",
        "H5b P7",
        places=(((broker, "Barriers"), service.NoBarriers),),
        options={"nodes": 3, **_LONG_IN_OFFICE},
    ),
    Plant(
        "AnswersClaimsUnasked",
        "claims",
        places=(
            ((Claims, "_is_for_the_log"), service.takes_all_sessions_for_its_own),
            ((Claims, "_answer_empty_if_leading"), service.answers_claims_unasked),
        ),
        parts=Parts(setup=plots.there_and_back),
        control=Parts(setup=plots.there_and_back),
        options={
            **_PLOT,
            "nodes": 3,
            "delay_s": 0.02,
            "workers": 8,
            "burst": 1,
            "timing": {**_PATIENT, "check_quorum_s": 5.0},
        },
    ),
    Plant(
        "RefusesUnasked",
        "H5b P7",
        places=(((dispatcher, "NoRoomError"), service.RefusesUnasked),),
        options={
            **_LONG_IN_OFFICE,
            "nodes": 3,
            "kinds": ("isolate", "clients"),
            "faults_per_s": 2.0,
            "operations_per_s": 60.0,
            "depth_max": 5,
            "clients": 5,
            "burst": 1,
        },
    ),
    Plant(
        "SaysNotAccepted",
        "H9g",
        Parts(broker=service.SaysNotAccepted),
        options={"nodes": 3, **_LEADERS},
    ),
)

PLANTS: Final = (*CONSENSUS, *MEMBERS, *QUEUE, *SERVICE)
