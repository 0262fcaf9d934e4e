"""Who makes things go wrong: draws faults while the world plays, or repeats recorded ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.faults import Fault
from tests.simulation.members import Operator
from tests.simulation.options import KINDS
from tests.simulation.shapes import cut_off, drawn_shape

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World

_LEADER_SHARE = 0.5
"""Of the faults that hit one node, so many look for the leader."""

_CLOCK_WRONG_MS = 10_000
"""A clock further off is wrong; only a minority of them may be."""

Draw = Callable[[], tuple[Any, ...] | None]


class Nemesis:
    """Faults of one world.

    Args:
        world: What is hurt.
        schedule: Faults to repeat; they are drawn unless given.
    """

    def __init__(self, world: World, schedule: Sequence[Fault] | None = None) -> None:
        self.world = world
        self.schedule = schedule
        self.injected: list[Fault] = []
        self._rng = world.rng("nemesis")
        self._over = False
        self._operator = Operator(world)
        self._draws: dict[str, Draw] = {kind: getattr(self, f"_draw_{kind}") for kind in KINDS}
        self._acts: dict[str, Callable[..., None]] = {
            kind: getattr(self, f"_{kind}") for kind in KINDS
        }

    def start(self) -> None:
        """Begin."""
        if self.schedule is not None:
            for fault in self.schedule:
                self.world.at(fault.at, self._inject, fault)
        elif self.world.options.kinds:
            self.world.after(1.0 + self._wait_s(), self._next)

    def _wait_s(self) -> float:
        return self._rng.expovariate(self.world.options.faults_per_s)

    def _next(self) -> None:
        world = self.world
        if self._over:
            return
        kind = self._rng.choice(world.options.kinds)
        what = self._draws[kind]()
        if what is not None:
            number = len(self.injected)
            self._inject(Fault(number, world.now, kind, what))
        world.after(self._wait_s(), self._next)

    def _inject(self, fault: Fault) -> None:
        if self._over:
            return
        self.injected.append(fault)
        self.world.faults[fault.kind] += 1
        self.world.trace("fault", fault.number, fault.kind, *map(str, fault.what))
        self._number = fault.number
        self._acts[fault.kind](*fault.what)

    def heal(self) -> None:
        """Nothing goes wrong any more, and what is broken is mended."""
        self._over = True
        world = self.world
        world.trace("heal")
        world.network.heal()
        for node in world.nodes.values():
            node.stalled_until = 0.0
            node.wall_offset_ms = 0
            node.crash_after = None
            node.directory.free()
            if node.is_damaged:
                # Nobody has read it so far. A scrub would find it, and have the disk replaced.
                world.reached("hidden damage at the end")
                node.wipe()
            node.resume()
            node.mend()

    # --------------------------------------------------------------------------- victims

    def _seconds(self, mean: float) -> float:
        return self._rng.expovariate(1 / mean)

    def _victim(self) -> int:
        leader = self._leader()
        if leader is not None and self._rng.random() < _LEADER_SHARE:
            return leader
        return self._rng.choice(list(self.world.nodes))

    def _leader(self) -> int | None:
        leader = self.world.newest_leader()
        return None if leader is None else leader.node_id

    def _pair(self) -> tuple[int, int] | None:
        one = self._victim()
        others = [other for other in self.world.nodes if other != one]
        return (one, self._rng.choice(others)) if others else None

    def _chance(self) -> random.Random:
        """The stream of the fault that is happening."""
        return random.Random(f"{self.world.seed} fault {self._number}")

    def _may_forget(self, node: SimNode) -> bool:
        """Only a minority may have lost, or be about to lose, what it answered for.

        And nobody before all have begun: who has not yet is told that it has forgotten, too
        (`cluster.bootstrap` names the price).
        """
        if not all(one.has_begun or one.joins for one in self.world.nodes.values()):
            return False
        return self._operator.forgetful(node.node_id) + 1 <= self._operator.spare

    # ------------------------------------------------------------------------- processes

    def _draw_kill(self) -> tuple[Any, ...]:
        within = self._rng.randrange(6) if self.world.options.crash_points else -1
        return self._victim(), self._seconds(1.0), within

    def _kill(self, node_id: int, down_s: float, within: int) -> None:
        node = self.world.nodes[node_id]
        if within >= 0 and node.is_up:
            node.crash_after = within
            self.world.after(0.5, self._kill_at_last, node, node.life)
            self.world.after(0.5 + down_s, node.mend)
        else:
            node.kill()
            self.world.after(down_s, node.mend)

    def _kill_at_last(self, node: SimNode, life: int) -> None:
        if node.life == life and not self._over:
            node.kill()

    def _draw_power(self) -> tuple[Any, ...]:
        return self._victim(), self._seconds(1.5)

    def _power(self, node_id: int, down_s: float) -> None:
        node = self.world.nodes[node_id]
        self._cut_power(node, self._chance())
        self.world.after(down_s, node.mend)

    def _cut_power(self, node: SimNode, chance: random.Random) -> None:
        # A bit flipped in the last second and the power gone with the note of that second: what
        # is left looks like a write that never ended. No node can tell, so it is left out.
        if node.is_damaged_past_the_mark:
            node.kill()
        elif node.lose_power(chance):
            self.world.reached("unsynced writes lost")

    def _draw_outage(self) -> tuple[Any, ...] | None:
        if self._rng.random() < 0.6:
            return None
        downs = tuple(self._seconds(1.0) for _ in self.world.nodes)
        return self._rng.random() < 0.7, *downs

    def _outage(self, power: bool, *downs: float) -> None:
        chance = self._chance()
        self.world.reached("all nodes down at once")
        for node, down_s in zip(self.world.nodes.values(), downs, strict=False):
            if not power:
                node.kill()
            else:
                self._cut_power(node, chance)
            self.world.after(down_s, node.mend)

    def _draw_pause(self) -> tuple[Any, ...]:
        return self._victim(), self._seconds(1.0)

    def _pause(self, node_id: int, seconds: float) -> None:
        node = self.world.nodes[node_id]
        if node.pause():
            self.world.after(seconds, node.resume, node.life)

    def _draw_restart(self) -> tuple[Any, ...]:
        return self._victim(), self._seconds(0.5)

    def _restart(self, node_id: int, down_s: float) -> None:
        node = self.world.nodes[node_id]
        node.shut_down(lambda: self.world.after(down_s, node.mend))

    def _draw_transfer(self) -> tuple[Any, ...] | None:
        leader = self._leader()
        return None if leader is None else (leader,)

    def _transfer(self, node_id: int) -> None:
        replica = self.world.nodes[node_id].replica
        if replica is not None:
            replica.transfer_leadership()

    def _draw_wipe(self) -> tuple[Any, ...] | None:
        node_id = self._victim()
        return (
            (node_id, self._seconds(1.0)) if self._may_forget(self.world.nodes[node_id]) else None
        )

    def _wipe(self, node_id: int, down_s: float) -> None:
        node = self.world.nodes[node_id]
        if self._may_forget(node):
            node.wipe()
            self.world.reached("disk wiped")
            self.world.after(down_s, node.mend)

    # --------------------------------------------------------------------------- network

    def _draw_break(self) -> tuple[Any, ...] | None:
        return self._pair()

    def _break(self, one: int, other: int) -> None:
        self.world.network.lose(one, other)

    def _draw_cut(self) -> tuple[Any, ...] | None:
        pair = self._pair()
        if pair is None:
            return None
        direction = pair if self._rng.random() < 0.5 else pair[::-1]
        return direction, self._seconds(1.5)

    def _cut(self, direction: tuple[int, int], seconds: float) -> None:
        self.world.network.block([direction], seconds)

    def _draw_isolate(self) -> tuple[Any, ...]:
        return self._victim(), self._seconds(2.5), self._rng.random() < 0.3

    def _isolate(self, node_id: int, seconds: float, clients_too: bool) -> None:
        self.world.network.block(cut_off(node_id, list(self.world.nodes)), seconds)
        if clients_too:
            self._clients(node_id, seconds)

    def _draw_shape(self) -> tuple[Any, ...] | None:
        if len(self.world.nodes) < 2:
            return None
        name, directions = drawn_shape(list(self.world.nodes), self._leader(), self._rng)
        return name, directions, self._seconds(4.0)

    def _shape(self, name: str, directions: Sequence[tuple[int, int]], seconds: float) -> None:
        self.world.reached(f"partition: {name}")
        self.world.network.block(directions, seconds)

    def _draw_clients(self) -> tuple[Any, ...]:
        return self._victim(), self._seconds(2.0)

    def _clients(self, node_id: int, seconds: float) -> None:
        world = self.world
        world.network.client_cut.add(node_id)
        for link in list(world.nodes[node_id].links):
            link.cut()
        world.after(seconds, world.network.client_cut.discard, node_id)

    # ------------------------------------------------------------------- disks and clocks

    def _draw_stall(self) -> tuple[Any, ...]:
        return self._victim(), self._seconds(2.0)

    def _stall(self, node_id: int, seconds: float) -> None:
        node = self.world.nodes[node_id]
        node.stalled_until = max(node.stalled_until, self.world.now + seconds)

    def _draw_eio(self) -> tuple[Any, ...]:
        return (self._victim(),)

    def _eio(self, node_id: int) -> None:
        node = self.world.nodes[node_id]
        if node.is_up:
            node.hurt("eio")
            node.directory.fail_sync()

    def _draw_full(self) -> tuple[Any, ...]:
        return self._victim(), self._rng.choice((0, 500, 5000, 50_000)), self._seconds(3.0)

    def _full(self, node_id: int, room_bytes: int, seconds: float) -> None:
        node = self.world.nodes[node_id]
        node.hurt("full")
        node.directory.fill(room_bytes)
        if self._leader() == node_id:
            self.world.reached("disk full on the leader")
        self.world.after(seconds, node.directory.free)

    def _draw_flip(self) -> tuple[Any, ...] | None:
        node_id = self._victim()
        if not self._may_forget(self.world.nodes[node_id]):
            return None
        place = self._rng.choice(("log", "table", "table", "manifest", "file"))
        return node_id, place, self._rng.random() < 0.7, self._seconds(1.0)

    def _flip(self, node_id: int, place: Any, kill: bool, down_s: float) -> None:
        node = self.world.nodes[node_id]
        if not self._may_forget(node) or (place == "file" and node.is_damaged_past_the_mark):
            return  # a second flip, in the note of what the first has hit, is out of bounds
        node.forgot = True
        node.hurt("flip")
        if kill:
            node.kill()
            self.world.after(down_s, node.mend)
        # What a killed process had answered for is noted, and nothing is out of bounds. Where
        # the power went, so may the note have gone: only what the durable mark speaks of can be
        # missed. (A node that runs on may lose its power yet: see `_cut_power`.)
        up_to = None if node.notes_count else node.marked
        where = node.directory.flip(self._chance(), place, up_to=up_to)
        if node.is_damaged_past_the_mark:
            self.world.reached("flip in the last second")
        node.file_damaged = node.file_damaged or "file" in where
        self.world.trace("flip", node_id, where)

    def _draw_clock(self) -> tuple[Any, ...]:
        jump_s = self._rng.choice((0.3, 1.0, 5.0, 30.0, 200.0)) * (2 * self._rng.random() - 1)
        return self._victim(), int(1000 * jump_s)

    def _clock(self, node_id: int, jump_ms: int) -> None:
        others = [one for one in self.world.nodes.values() if one.node_id != node_id]
        wrong = sum(1 for one in others if abs(one.wall_offset_ms) > _CLOCK_WRONG_MS)
        if abs(jump_ms) > _CLOCK_WRONG_MS and wrong + 1 > self._operator.spare:
            return  # the median of the voters' clocks is right as long as most of them are
        self.world.nodes[node_id].wall_offset_ms += jump_ms
        if self._leader() == node_id:
            self.world.reached("clock jump on the leader")

    # --------------------------------------------------------------------------- members

    def _draw_member(self) -> tuple[Any, ...] | None:
        return self._operator.draw(self._rng)

    def _member(self, verb: str, node_id: int) -> None:
        self._operator.change(verb, node_id)
