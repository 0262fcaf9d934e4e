"""The gap clients see when the leader is told to stop.

Three real nodes on loopback, the fsync on. Producers submit one task after the other, some
through the SDK and some on the bare wire; the leader is sent SIGTERM, and started again when
it has ended. A gap is the longest time between an accepted submit and the next one; it is
given for all producers of a kind together (the cluster takes nothing from anybody), and for
the one of them that waited longest.

    python -m benchmarks.handover [--rounds 10] [--tls]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.producers import Producer, RawProducer, SdkProducer, longest_gap_s
from deploy.local.cluster import LocalCluster
from tq import Client

PRODUCERS = 3
"""Of each kind."""
PAUSE_S = 0.002
QUIET_S = 1.0
AFTER_S = 0.5
EXIT_MAX_S = 15.0


@dataclass
class Round:
    """One leader told to stop.

    Attributes:
        leader: The node that led.
        successor: The node that leads afterwards.
        terms: Terms the change took; 1 is an orderly one.
        exit_code: Of the old leader.
        took_ms: From the last command the old leader took to the moment it knew the new one,
            as its log says; None if it says nothing of the kind.
        gaps_s: By what is measured.
    """

    leader: int
    successor: int
    terms: int
    exit_code: int | None
    took_ms: float | None
    gaps_s: dict[str, float]

    @property
    def is_orderly(self) -> bool:
        """Whether the old leader gave its office away and nobody had to wait for a timeout."""
        told = self.terms == 1 and self.exit_code == 0 and self.successor != self.leader
        return told and self.took_ms is not None


@dataclass
class Handovers:
    """Hand leadership over again and again while producers submit.

    Args:
        cluster: Three nodes, running.
        rounds: How often.
    """

    cluster: LocalCluster
    rounds: int = 10
    done: list[Round] = field(default_factory=list)
    accepted: int = 0
    """Submits that were acknowledged; complete once `run` has returned."""

    async def run(self) -> None:
        """Measure every round into `done`."""
        servers = self.cluster.servers
        sdk: list[Producer] = [SdkProducer(servers, pause_s=PAUSE_S) for _ in range(PRODUCERS)]
        raw: list[Producer] = [RawProducer(servers, pause_s=PAUSE_S) for _ in range(PRODUCERS)]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for producer in (*sdk, *raw):
                group.create_task(producer.run(stop))
            for _ in range(self.rounds):
                self.done.append(await self._one(sdk, raw))
            stop.set()
        await asyncio.to_thread(self.cluster.wait_ready)
        self.accepted = sum(len(one.accepted_at_s) for one in (*sdk, *raw))

    async def _one(self, sdk: list[Producer], raw: list[Producer]) -> Round:
        leader = await asyncio.to_thread(self.cluster.wait_ready)
        await asyncio.sleep(QUIET_S)
        term = await asyncio.to_thread(self._term)
        told_s = time.monotonic()
        quiet_s = longest_gap_s([*sdk, *raw], told_s - QUIET_S / 2, told_s)
        leader.signal(signal.SIGTERM)
        exit_code = await asyncio.to_thread(leader.wait, timeout_s=EXIT_MAX_S)
        await asyncio.sleep(AFTER_S)
        until_s = time.monotonic()
        successor = await asyncio.to_thread(self.cluster.wait_leader)
        terms = await asyncio.to_thread(self._term) - term
        gaps_s = {
            "quiet": quiet_s,
            "sdk": longest_gap_s(sdk, told_s, until_s),
            "raw": longest_gap_s(raw, told_s, until_s),
            "sdk, slowest one": max(longest_gap_s([one], told_s, until_s) for one in sdk),
            "raw, slowest one": max(longest_gap_s([one], told_s, until_s) for one in raw),
        }
        took_ms = handed_over(leader.output(), to=successor.node_id)
        leader.start()
        return Round(leader.node_id, successor.node_id, terms, exit_code, took_ms, gaps_s)

    def _term(self) -> int:
        status = self.cluster.wait_leader().status()
        assert status is not None
        return int(status["term"])


def handed_over(output: str, *, to: int) -> float | None:
    """Return what the last record of a node's log says of a handover to another node."""
    for line in reversed(output.splitlines()):
        record = json.loads(line) if line.startswith("{") else {}
        if record.get("event") == "node_starting":
            break
        if record.get("event") == "handed_over" and record["to"] == to:
            return float(record["took_ms"])
    return None


async def submitted(servers: str) -> int:
    """Ask the cluster how many tasks it has taken in its life."""
    async with Client(servers, deadline="30s") as client:
        return int((await client.stats())["totals"]["submitted"])


def figures(handovers: Handovers, *, known: int) -> dict[str, object]:
    """Sum up for printing; milliseconds."""
    names = list(handovers.done[0].gaps_s)
    gaps_ms = {name: [one.gaps_s[name] * 1000 for one in handovers.done] for name in names}
    return {
        "rounds": len(handovers.done),
        "accepted": handovers.accepted,
        "lost": handovers.accepted - known,
        "orderly": sum(one.is_orderly for one in handovers.done),
        "took_ms": [one.took_ms for one in handovers.done],
        "gap_ms": {
            name: {
                "median": round(statistics.median(all_ms), 1),
                "max": round(max(all_ms), 1),
                "all": [round(one, 1) for one in all_ms],
            }
            for name, all_ms in gaps_ms.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tls", action="store_true", help="between the nodes")
    given = parser.parse_args()
    limit = "broker:\n  queue_depth_threshold: 10000000\n"
    with (
        tempfile.TemporaryDirectory() as directory,
        LocalCluster(Path(directory), configuration=limit, tls=given.tls) as cluster,
    ):
        cluster.start()
        handovers = Handovers(cluster, rounds=given.rounds)
        asyncio.run(handovers.run())
        known = asyncio.run(submitted(cluster.servers))
    print(json.dumps(figures(handovers, known=known), indent=2))


if __name__ == "__main__":
    main()
