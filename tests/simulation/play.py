"""Playing one seed: faults for a minute, healing, everything worked off, the last questions."""

from __future__ import annotations

import contextlib
import gc
import logging
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from unittest import mock

from cluster.state import LEADER
from statemachine.validation import SETTING_RANGES
from tests.simulation.clients import Crowd
from tests.simulation.faults import Fault
from tests.simulation.invariants import ALL
from tests.simulation.nemesis import Nemesis
from tests.simulation.options import CHAOS_S, HEAL_MAX_S, Options
from tests.simulation.sometimes import Watch
from tests.simulation.violation import Violation
from tests.simulation.world import Parts, World

_RANGES = {"checkpoint_entries_max": (1, 1000)}
"""A world has hundreds of entries, and needs checkpoints, cut logs and snapshots among them."""

DRAIN_MAX_S = 90.0
"""Simulated seconds a converged cluster may take to bring every task to its end."""


@dataclass
class Played:
    """What became of one seed.

    Attributes:
        seed: Of the world.
        violation: What did not hold, None when everything did.
        in_chaos: It did not hold while there were faults.
        faults: What was injected, in order.
        digest: Of everything that happened.
        seconds: Simulated.
        acknowledged: Operations that were.
        unanswered: Callers left without an answer.
        sometimes: Interesting states reached.
        injected: Faults by kind.
        answers: Operations by kind and how they ended.
        recent: The end of the history as text, if it was kept.
    """

    seed: int
    violation: str | None = None
    in_chaos: bool = True
    faults: list[Fault] = field(default_factory=list)
    digest: str = ""
    seconds: float = 0.0
    acknowledged: int = 0
    unanswered: int = 0
    sometimes: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    recent: list[str] = field(default_factory=list)


def play(
    seed: int,
    options: Options | None = None,
    *,
    parts: Parts | None = None,
    schedule: Sequence[Fault] | None = None,
    detail: bool = False,
    chaos_s: float = CHAOS_S,
    chaos_only: bool = False,
) -> Played:
    """Play a seed to its end; what goes wrong is in the answer, nothing is raised.

    Args:
        seed: Decides everything.
        options: Drawn from the seed unless given.
        parts: What nodes are made of.
        schedule: Faults to repeat instead of drawing them.
        detail: Keep the end of the history as text.
        chaos_s: Simulated seconds of faults.
        chaos_only: Stop after them.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with quiet(), mock.patch.dict(SETTING_RANGES, _RANGES):
            game = _Game(World(seed, options, parts=parts, detail=detail), schedule)
            game.play(chaos_s, chaos_only=chaos_only)
        return game.played
    finally:
        if collecting:
            gc.enable()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Have nothing logged; within another `quiet` it costs nothing."""
    if logging.root.manager.disable >= logging.CRITICAL:
        yield
        return
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class _Game:
    """One world with everybody in it."""

    def __init__(self, world: World, schedule: Sequence[Fault] | None) -> None:
        self.world = world
        self.crowd = Crowd(world)
        world.watch((*ALL, Watch))
        self.nemesis = Nemesis(world, schedule)
        self.played = Played(world.seed)
        self._began_at = world.now

    def play(self, chaos_s: float, *, chaos_only: bool) -> None:
        """Play to the end, or to what must not happen."""
        played, world = self.played, self.world
        try:
            self._chaos(chaos_s)
            if not chaos_only:
                self._heal()
                self._drain()
        except Violation as violation:
            played.violation = str(violation)
        except Exception:  # noqa: BLE001 - a bug of a part, or of this simulator: both count
            played.violation = traceback.format_exc()
        for node in world.nodes.values():
            if node.engine is not None:
                world.collect(node.engine)
        played.in_chaos = not world.healed
        played.faults = self.nemesis.injected
        played.digest = world.digest
        played.seconds = world.now - self._began_at
        played.sometimes = world.sometimes
        played.injected = world.faults
        for (kind, outcome), count in sorted(world.history.counts.items()):
            played.answers[f"{kind} {outcome}"] += count
            if outcome == "ok":
                played.acknowledged += count
        played.recent = list(world.recent or ())

    def _chaos(self, chaos_s: float) -> None:
        for node in self.world.nodes.values():
            node.start()
        self.crowd.start()
        self.nemesis.start()
        self._pass(chaos_s)

    def _pass(self, seconds: float) -> None:
        """Let time pass, looking at nodes and invariants once a second."""
        world = self.world
        end = world.now + seconds
        while world.now < end:
            world.run_until(min(end, world.now + 1.0))
            for node in world.nodes.values():
                node.look()
            for invariant in world.invariants:
                invariant.sampled()

    def _heal(self) -> None:
        """Mend everything, and see the cluster come together."""
        self.nemesis.heal()
        self.crowd.stop_chaos()
        self.world.healed = True
        self._pass(2.0)
        patience = self.world.now + HEAL_MAX_S
        while not self._has_converged():
            if self.world.now > patience:
                self.world.fail(f"not converged {HEAL_MAX_S:g} s after healing: {self._state()}")

    def _has_converged(self) -> bool:
        """Whether everybody reaches, within a second, what the one leader has committed now.

        And has it on its disk, or the leader would not know: one may hang for a while yet.
        """
        leader = self.world.newest_leader()
        goal = leader.engine.commit_index if leader is not None and leader.engine else 0
        self._pass(1.0)
        if leader is None or leader.engine is None or leader.engine.role != LEADER or not goal:
            return False
        members = [self.world.nodes[one] for one in leader.engine.configuration.members]
        return all(
            node.engine is not None
            and not node.engine.amnesiac
            and node.engine.term == leader.engine.term
            and node.engine.applied_index >= goal
            and (node is leader or leader.engine.followers[node.node_id].match >= goal)
            for node in members
        )

    def _drain(self) -> None:
        """See every accepted task to its end, and every question answered."""
        world, crowd = self.world, self.crowd
        crowd.finish()
        patience = world.now + DRAIN_MAX_S
        while not crowd.is_drained:
            self._pass(0.5)
            if world.now > patience:
                world.fail(f"not worked off {DRAIN_MAX_S:g} s after convergence")
        late = crowd.unanswered()
        self.played.unanswered = len(late)
        if late:
            world.fail(f"{len(late)} callers unanswered: {late[:5]}")
        for invariant in world.invariants:
            invariant.finished()

    def _state(self) -> str:
        """Every node in a few words."""
        words = []
        for node in self.world.nodes.values():
            engine = node.engine
            if engine is None:
                why = node.start_errors[-1:] or ["no engine"]
                words.append(f"node {node.node_id} {'up' if node.is_up else 'down'}: {why[0]}")
            else:
                words.append(
                    f"node {node.node_id} role {engine.role} term {engine.term} commit "
                    f"{engine.commit_index} applied {engine.applied_index} last "
                    f"{engine.log.last_index}{' amnesiac' if engine.amnesiac else ''}"
                )
        return "; ".join(words)
