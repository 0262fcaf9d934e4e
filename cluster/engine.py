"""The engine: a PySyncObj node as a function of events and time.

`Engine` is a `SyncObj` without thread, socket, clock or file. The stock class keeps what
it does well: when to stand for election, when to beat, when to step down for want of
answers (`doTick`). Everything that touches the log, the commit index or a vote is
replaced, because the stock versions lose acknowledged entries: each defect is shown in
`tests/unit/cluster/test_stock_hazards.py`, its absence here in `test_hazards_*.py`.

The stock code is reached through name-mangled attributes, so its version is pinned and
`STOCK_NAMES` lists every name relied on; a test asserts they exist.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from pysyncobj import SyncObjConf, syncobj
from pysyncobj.journal import Journal
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from cluster.configuration import Configuration
from cluster.interface import Disk, Machine, Timing
from cluster.log import Log
from cluster.messages import VoteRequest
from cluster.state import LEADER, InvariantBroken
from cluster.steps import Steps

STOCK_VERSION = "0.3.17"
STOCK_NAMES = (
    "_SyncObj__connectedNodes",
    "_SyncObj__lastResponseTime",
    "_SyncObj__newAppendEntriesTime",
    "_SyncObj__onBecomeLeader",
    "_SyncObj__onMessageReceived",
    "_SyncObj__otherNodes",
    "_SyncObj__raftCommitIndex",
    "_SyncObj__raftCurrentTerm",
    "_SyncObj__raftElectionDeadline",
    "_SyncObj__raftLastApplied",
    "_SyncObj__raftLeader",
    "_SyncObj__raftLog",
    "_SyncObj__raftMatchIndex",
    "_SyncObj__raftState",
    "_SyncObj__votedForNodeId",
    "_SyncObj__applyLogEntries",
    "_SyncObj__generateRaftTimeout",
    "_SyncObj__sendAppendEntries",
    "_SyncObj__setCurrentTerm",
    "_SyncObj__setState",
    "_SyncObj__tryLogCompaction",
)
"""Every name-mangled attribute or method of SyncObj that this module reads or replaces."""


# The stock module takes time and chance from two of its globals, so they are the only
# place where a node can be given its own: while stock code runs for an engine, they answer
# from that step's `now` and that engine's `rng`. A SyncObj elsewhere in the process keeps
# the originals. One thread takes all steps.
_stepping: list[Engine] = []
_stock_monotonic: Callable[[], float] = syncobj.monotonicTime
_stock_random = random


class _SteppedRandom:
    """Stands in for the module `random` inside the stock code."""

    @staticmethod
    def random() -> float:
        return _stepping[-1].rng.random() if _stepping else _stock_random.random()


@contextmanager
def _stepped_by(engine: Engine) -> Iterator[None]:
    _stepping.append(engine)
    try:
        yield
    finally:
        _stepping.pop()


def _stepped_time() -> float:
    return _stepping[-1].now if _stepping else _stock_monotonic()


syncobj.monotonicTime = _stepped_time
syncobj.random = _SteppedRandom


def _alias(name: str) -> property:
    """A stock attribute that is really the engine's field `name`."""
    return property(attrgetter(name), lambda engine, value: setattr(engine, name, value))


def _shield(name: str) -> property:
    """A stock attribute that shows the engine's field and swallows what stock code sets."""
    return property(attrgetter(name), lambda _engine, _value: None)


class _StockLog(Journal):  # type: ignore[misc]  # PySyncObj is untyped
    """What the stock code may see of the log: everything. What it may change: nothing."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __len__(self) -> int:
        return len(self._log.entries)

    def __getitem__(self, at: int) -> tuple[bytes, int, int]:
        return self._log.entries[at]

    def getCurrentTerm(self) -> int:  # noqa: N802  # PySyncObj's name
        return self._log.term

    def getVotedForNodeId(self) -> int | None:  # noqa: N802  # PySyncObj's name
        return self._log.voted_for

    def getRaftCommitIndex(self) -> int:  # noqa: N802  # PySyncObj's name
        return 0

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802  # PySyncObj's name
        """The commit index is never kept: after a restart it is learned again."""


class _Mailbox(Transport):  # type: ignore[misc]  # PySyncObj is untyped
    """Takes the one message the stock code still sends: a candidate's request."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(None, None, [])
        self._engine = engine

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        if message["type"] != "request_vote":
            raise InvariantBroken(f"stock code sends {message['type']}")
        request = VoteRequest(
            message["term"],
            message["last_log_index"],
            message["last_log_term"],
            self._engine.handed_over,
        )
        if self._engine.followers[node.id].connected:
            self._engine.answer(node.id, request)
        return True


class Engine(Steps, syncobj.SyncObj):  # type: ignore[misc]  # PySyncObj is untyped
    """One member of the cluster.

    Args:
        node_id: This node.
        founding: The members while the disk holds no configuration: those the cluster begins
            with, or `Configuration.nobody()` for a node that is to be let in. A node that is
            not a voter of the configuration in force follows, and never stands.
        disk: The node's durable records.
        machine: What committed entries are shown to; restored from the disk here.
        rng: Source of election waits; a seeded one makes the engine reproducible.
        timing: Durations and bounds.
        cluster_id: Passed through to `status`.
        amnesiac: The disk may have forgotten votes or entries; the node neither votes nor
            is counted until a leader has filled it up again.
        now: Current time in seconds on the monotonic clock of all later steps.

    Raises:
        DamagedLog: The log on the disk cannot be trusted.
    """

    _SyncObj__raftLog = _shield("_stock_log")
    _SyncObj__raftCommitIndex = _shield("commit_index")
    _SyncObj__raftLastApplied = _shield("applied_index")
    _SyncObj__raftCurrentTerm = _alias("term")
    _SyncObj__votedForNodeId = _alias("voted_for")
    _SyncObj__raftState = _alias("role")
    _SyncObj__raftElectionDeadline = _alias("election_deadline")
    _SyncObj__newAppendEntriesTime = _alias("heartbeat_at")

    def __init__(
        self,
        *,
        node_id: int,
        founding: Configuration,
        disk: Disk,
        machine: Machine,
        rng: random.Random,
        timing: Timing | None = None,
        cluster_id: bytes = b"",
        amnesiac: bool = False,
        now: float,
    ) -> None:
        self.give(
            node_id=node_id,
            founding=founding,
            disk=disk,
            machine=machine,
            rng=rng,
            timing=timing or Timing(),
            cluster_id=cluster_id,
            amnesiac=amnesiac,
            now=now,
        )
        self.set_up()
        self._start_stock()
        self.start()

    def _start_stock(self) -> None:
        """Build the stock node around the fields set so far."""
        timing = self.timing
        self._nodes = {follower.peer: Node(follower.peer) for follower in self.electors}
        self._stock_log = _StockLog(self.log)
        conf = SyncObjConf(
            autoTick=False,
            dynamicMembershipChange=False,
            appendEntriesPeriod=timing.heartbeat_s,
            raftMinTimeout=timing.election_min_s,
            raftMaxTimeout=timing.election_max_s,
            leaderFallbackTimeout=timing.check_quorum_s,
            connectionTimeout=timing.election_max_s,  # of no connection here, but checked
        )
        with _stepped_by(self):
            syncobj.SyncObj.__init__(
                self,
                Node(self.node_id),
                list(self._nodes.values()),
                conf=conf,
                transport=_Mailbox(self),
            )

    def __dir__(self) -> Iterable[str]:
        """Show the stock constructor nothing: it reads every attribute there is, properties too.

        It looks for methods whose calls it is to replicate, and here are none.
        """
        return () if self in _stepping else super().__dir__()

    def stock_tick(self) -> None:
        """Run the stock `doTick`: election start, heartbeat, check of the quorum."""
        for follower in self.electors:
            node = self._nodes[follower.peer]
            self._SyncObj__lastResponseTime[node] = self.counted_at(follower)
        with _stepped_by(self):
            syncobj.SyncObj.doTick(self, 0.0)

    def stock_members(self) -> None:
        """Tell the stock code who votes, which it counts, and who of them is connected.

        It stands for election only while one of them is.
        """
        nodes = self._nodes = {
            follower.peer: self._nodes.get(follower.peer) or Node(follower.peer)
            for follower in self.electors
        }
        self._SyncObj__otherNodes = set(nodes.values())
        self._SyncObj__connectedNodes = {
            nodes[follower.peer] for follower in self.electors if follower.connected
        }
        self._SyncObj__lastResponseTime = {
            nodes[follower.peer]: follower.heard_at for follower in self.electors
        }

    # ------------------------------------------------- what the stock code calls

    @property
    def _SyncObj__raftLeader(self) -> Node | None:  # noqa: N802  # PySyncObj's name
        return self._nodes.get(self.leader_id) if self.leader_id is not None else None

    @_SyncObj__raftLeader.setter
    def _SyncObj__raftLeader(self, node: Node) -> None:  # noqa: N802  # PySyncObj's name
        self.leader_id = None if node is None else node.id

    @property
    def _SyncObj__raftMatchIndex(self) -> dict[Node, int]:  # noqa: N802  # PySyncObj's name
        """Nothing is confirmed: the stock count must never find a majority."""
        return dict.fromkeys(self._nodes.values(), 0)

    @_SyncObj__raftMatchIndex.setter
    def _SyncObj__raftMatchIndex(self, value: dict[Node, int]) -> None:  # noqa: N802  # PySyncObj's name
        """The engine keeps this per follower."""

    def _SyncObj__setState(self, state: int) -> None:  # noqa: N802  # PySyncObj's name
        if state == LEADER or self.role != LEADER:
            self.role = state
        else:
            self.become_follower(self.term)

    def _SyncObj__setCurrentTerm(self, term: int, voted_for: int | None) -> None:  # noqa: N802  # PySyncObj's name
        self.set_term(term, voted_for)

    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802  # PySyncObj's name
        """Not yet: the only vote is this node's own, see `Replication.lead_alone`."""

    def _SyncObj__generateRaftTimeout(self) -> float:  # noqa: N802  # PySyncObj's name
        return self.election_wait_s()

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802  # PySyncObj's name
        self.heartbeat()

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802  # PySyncObj's name
        """The engine applies by itself; the stock loop repeats an entry that raised."""
        return False

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802  # PySyncObj's name
        """Checkpoints come from the machine."""

    def _SyncObj__onMessageReceived(self, node: Node, message: object) -> None:  # noqa: N802  # PySyncObj's name
        """Messages arrive as events; nothing reaches the stock handler."""

    def _checkCommandsToApply(self) -> None:  # noqa: N802  # PySyncObj's name
        """Proposals arrive as events; nothing is queued or forwarded."""
