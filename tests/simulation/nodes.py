"""One node: its processes, how they begin, and all the ways in which they end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cluster.engine import Engine
from cluster.faults import DiskFailedError, RemovedError, StartError
from cluster.replica import Replica
from node.archive import DiskArchive
from node.broker import Broker
from node.tcp import SWEEP_S, ClientServer
from tests.simulation.composition import Composition
from tests.simulation.hosts import Host
from tests.simulation.invariants.rule import ANYTHING
from tests.simulation.links import Arrivals, ClientLink
from tests.simulation.process import Crashed, Process
from tests.simulation.rim import finish
from tests.simulation.transport import SimTransport

if TYPE_CHECKING:
    from tests.simulation.world import World

_BROKER_TICK_S = 0.3
"""Coarser than a real node's: a lease may end so much later than it could."""
_EXIT_S = 0.005
_REFUSALS_MAX = 3
"""After so many starts in vain somebody reads the log and does what it says."""
_FATALS_MAX = 5
"""A node may fail so often after one hurt to its disk."""
_RESTART_S = 1.0
"""When whoever looks after processes starts one again that has ended by itself."""


class SimNode(Host):
    """A node of the world.

    Attributes:
        founders: Nodes it is told of in its configuration.
        joins: It is told to join a running cluster.
        life: How many processes there were.
        process: The one that runs, None while there is none.
        parts: What the process is made of, None while there is none.
        machine: Its machine; the last one's while there is no process.
        is_removed: It has ended because its cluster has removed it.
        hurts: What was done to its disk: a process may end or refuse to start for that.
        forgot: It may have forgotten what it answered for, see `may_have_forgotten`.
        has_begun: It has taken part in the first start of its cluster to the end.
        crash_after: The process dies at its so-maniest moment before or after a write.
    """

    def __init__(
        self, world: World, node_id: int, founders: Sequence[int], *, joins: bool = False
    ) -> None:
        super().__init__(world, node_id)
        self.founders = tuple(founders)
        self.joins = joins
        self.life = 0
        self.process: Process | None = None
        self.parts: Composition | None = None
        self.transport: SimTransport | None = None
        self.machine = world.parts.machine(DiskArchive())
        self.links: list[ClientLink] = []
        self.arrivals: Arrivals = {}
        self.is_removed = self.forgot = self.has_begun = False
        self.hurts: set[str] = set()
        self.crash_after: int | None = None
        self.start_errors: list[str] = []
        self._refusals = self._fatals = 0
        self._wanted = False
        """It should run; whoever looks after processes starts it again."""

    # ----------------------------------------------------------------------------- state

    @property
    def is_up(self) -> bool:
        """A process runs."""
        return self.process is not None

    @property
    def paused(self) -> bool:
        """Its process is stopped."""
        return self.process is not None and self.process.paused

    @property
    def engine(self) -> Engine | None:
        """Its engine; None while it is down, and before the first start is agreed upon."""
        return None if self.parts is None else self.parts.engine

    @property
    def replica(self) -> Replica | None:
        """Its replica; None while it is down."""
        return None if self.parts is None else self.parts.replica

    @property
    def broker(self) -> Broker | None:
        """What serves its clients; None while it is down."""
        return None if self.parts is None else self.parts.broker

    @property
    def clients(self) -> ClientServer:
        """Its client port; it must be up."""
        assert self.parts is not None, "a node that is down has no port"
        return self.parts.clients

    @property
    def may_have_forgotten(self) -> bool:
        """Its disk was replaced or damaged, and no leader has filled it up again."""
        engine = self.engine
        return self.forgot and (engine is None or engine.amnesiac or self.is_damaged)

    def hurt(self, how: str) -> None:
        """Something is done to it that it may end for, once more."""
        self.hurts.add(how)
        self._fatals = 0

    def look(self) -> None:
        """Take note, now and then, that it has begun, and that it has got well."""
        self.has_begun = self.has_begun or self.engine is not None
        if self.forgot and not self.may_have_forgotten:
            self.forgot = False
            self.hurts.discard("flip")
            self._fatals = 0

    # ------------------------------------------------------------------------------ life

    def start(self) -> None:
        """Start a process, now; one that cannot start is tried again and again."""
        self._wanted = True
        if self.process is not None or self.is_removed:
            return
        world = self.world
        self.power_up()
        self.life += 1
        self.process = Process(world, self.node_id)
        world.trace("start", self.node_id, self.life)
        self.parts = Composition(self, self.process)
        self.machine = self.parts.machine
        try:
            self.parts.start()
        except RemovedError:
            self.was_removed(0)
            return
        except StartError as error:
            self._refused(str(error))
            return
        self._began()

    def _began(self) -> None:
        assert self.process is not None
        self._refusals = 0
        self.file_damaged = self.note_lost = False
        self.hurts.discard("eio")
        if self.directory.disk.room_bytes is None:
            self.hurts.discard("full")
        if not self.hurts:
            self._fatals = 0
        self.process.after(_BROKER_TICK_S * self.clock_rng.random(), self._tick)
        self.process.after(SWEEP_S, self._sweep)
        for invariant in self.world.invariants:
            invariant.started(self)

    def _refused(self, text: str) -> None:
        self.start_errors.append(text)
        self.world.trace("refused to start", self.node_id)
        if not self.hurts:
            self.world.fail(f"node {self.node_id} refused to start on a healthy disk: {text}")
        self._gone(silent=False)
        self._refusals += 1
        has_room = self.directory.disk.room_bytes is None
        if self.forgot and has_room and self._refusals >= _REFUSALS_MAX:
            # What the text asks for: move the directory aside, come back as an empty node.
            self._refusals = 0
            self.world.reached("damaged directory moved aside by hand")
            self._empty()
        self.world.after(_RESTART_S, self._start_again)

    def _start_again(self) -> None:
        if self._wanted and self.process is None:
            self.start()

    def mend(self) -> None:
        """Start it, if it is down, or empty and looks for those who have left."""
        if self.forgot and self.is_up and self.engine is None and not self.joins:
            self.kill()
            self._tell_of_members()
        self._wanted = True
        self._start_again()

    def _tick(self) -> None:
        assert self.process is not None
        assert self.parts is not None
        self.process.after(_BROKER_TICK_S, self._tick)
        self.parts.broker.tick()

    def _sweep(self) -> None:
        assert self.process is not None
        self.process.after(SWEEP_S, self._sweep)
        self.clients.sweep(self.monotonic())

    def moved(self, engine: Engine, what: int) -> None:
        """Hear that a step has moved the engine, and what of it."""
        world = self.world
        world.fold(hash((engine.term, engine.role, engine.commit_index, engine.log.last_index)))
        world.tell_stepped(self, ANYTHING if engine.amnesiac else what)

    # ----------------------------------------------------------------------------- death

    def _gone(self, *, silent: bool) -> None:
        """The process is no more; what it had handed to the system is still there."""
        process, world = self.process, self.world
        assert process is not None
        process.kill()
        self.process = self.crash_after = None
        if self.engine is not None:
            world.collect(self.engine)
        for invariant in world.invariants:
            invariant.stopped(self)
        self.parts = self.transport = None
        world.network.process_gone(process, silent=silent)
        links, self.links = self.links, []
        for link in links:
            link.process_gone(silent=silent)
        if not silent:
            self.directory.kill()

    def kill(self) -> None:
        """End the process as kill -9 does; it stays down."""
        self._wanted = False
        if self.process is not None:
            self.world.trace("kill", self.node_id)
            self._gone(silent=False)

    def lose_power(self, rng: random.Random) -> int:
        """End everything on this host; returns how many written batches were lost."""
        self._wanted = False
        if self.process is not None:
            self._gone(silent=True)
        self.is_dark = self.note_lost = True
        lost = self.directory.lose_power(rng)
        self.world.trace("power", self.node_id, lost)
        return lost

    def wipe(self) -> None:
        """Replace the disk by an empty one; the process that ran on it is gone."""
        self.kill()
        self._empty()
        self.forgot = True
        self.world.trace("wipe", self.node_id)

    def _empty(self) -> None:
        """Give it an empty directory."""
        self.directory.wipe()
        self.file_damaged = False
        self._tell_of_members()

    def _tell_of_members(self) -> None:
        """Tell a node where its cluster is by now, if all others it is told of have left."""
        nodes = self.world.nodes
        others = [nodes[one] for one in self.founders if one != self.node_id]
        if len(nodes) > 1 and all(one.is_removed for one in others):
            members = [one for one, node in nodes.items() if not node.is_removed]
            self.joins, self.founders = True, tuple(sorted({*members, self.node_id}))

    def crash_point(self) -> None:
        """Die here, if it is time.

        Raises:
            Crashed: It is.
        """
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                raise Crashed(self.node_id)

    def crashed(self) -> None:
        """The process died in the middle of a turn."""
        self.world.reached("killed within a turn")
        self.kill()

    def failed(self, text: str) -> None:
        """The node ends itself: a broken invariant, or its disk."""
        self.world.trace("fatal", self.node_id)
        if self.directory.disk.room_bytes is None:
            self._fatals += 1  # as long as its disk is full, it may end as often as it is started
        if not self.hurts:
            self.world.fail(f"node {self.node_id} halted: {text}")
        if self._fatals > _FATALS_MAX:
            self.world.fail(f"node {self.node_id} ends again and again: {text}")
        if self.process is not None:
            self.process.after(_EXIT_S, self._exit)

    def _exit(self) -> None:
        self._gone(silent=False)
        self.world.after(_RESTART_S, self._start_again)

    def was_removed(self, index: int) -> None:
        """Its cluster has removed it: the process ends, and is not started again."""
        self.world.trace("removed", self.node_id, index)
        self.is_removed = True
        if self.process is not None:
            self.process.at(self.world.now, self._leave)

    def shut_down(self, then: Callable[[], None]) -> None:
        """Stop as SIGTERM makes a node stop; then call back."""
        if self.parts is not None:
            self._wanted = False
            self.parts.shut_down(lambda: self._leave(then))

    def _leave(self, then: Callable[[], None] = lambda: None) -> None:
        assert self.parts is not None
        try:
            finish(self.parts.replica.stop())
        except (DiskFailedError, StartError):
            if not self.hurts:
                raise
        self.world.trace("stopped", self.node_id)
        self._gone(silent=False)
        then()

    def pause(self) -> bool:
        """Stop the process (SIGSTOP); False when there is none to stop."""
        if self.process is None or self.process.paused:
            return False
        self.process.pause()
        self.world.trace("pause", self.node_id)
        return True

    def resume(self, life: int | None = None) -> None:
        """Let the process go on, if it is still that life's."""
        process = self.process
        if process is not None and process.paused and life in {None, self.life}:
            self.world.trace("resume", self.node_id)
            process.resume()
