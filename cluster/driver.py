"""Turns of the engine: one event after the other in, what it answers carried out at once.

Messages leave, held ones wait for their sync, the listener hears the rest. Steps never nest:
an event that comes up while one is carried out is queued.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cluster.checkup import Checkup
from cluster.configuration import ChangeRefusal, Configuration
from cluster.engine import Engine
from cluster.events import Event, Ready, Tick
from cluster.interface import Listener
from cluster.membership import Membership
from cluster.rim import Connections, Rim, Syncs, Ticks
from cluster.state import LEADER

_log = logging.getLogger(__name__)

LEADERLESS_TIMEOUTS = 2
"""For so many election timeouts the others may find a leader among them."""

_NEVER = 2**64
"""No index is so high."""
_TICK = Tick()


class ReplicaListener(Listener, Protocol):
    """What the node hears."""

    def read_done(self, context: object, ok: bool) -> None:
        """A read barrier is through (True), or this node cannot say that it leads (False)."""

    def change_done(self, context: object, index: int, refusal: ChangeRefusal | None) -> None:
        """A change of the members is committed as the entry `index`, or was refused."""

    def members_changed(self, configuration: Configuration, index: int) -> None:
        """The configuration of the entry `index` is in force; it may still be taken back."""

    def removed(self, index: int) -> None:
        """The entry `index` has removed this node from its cluster: it has nothing to do."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the outputs of the engine go to."""

    rim: Rim
    ticker: Ticks
    syncer: Syncs
    transport: Connections
    checkup: Checkup
    membership: Membership
    listener: ReplicaListener


class Driver:
    """Feeds an engine, once there is one.

    Args:
        node_id: For the log.
        parts: Where its outputs go.
        fail: Ends the node for good.

    Attributes:
        engine: None before the first start of the cluster is agreed upon.
        ended: Nothing is stepped and nothing leaves any more.
        queue: Keeps an event for the next turn.
    """

    def __init__(self, node_id: int, parts: Parts, fail: Callable[[str], None]) -> None:
        self.engine: Engine | None = None
        self.ended = False
        self._node_id = node_id
        self._parts = parts
        self._fail = fail
        self._events: deque[Event] = deque()
        self.queue: Callable[[Event], None] = self._events.append
        self._turning = False
        self._scheduled = False
        self._unsettled = _NEVER
        self._time = parts.rim.time
        self._led_at = self._time()
        self._asked_at: float | None = None
        """The early tick asked for since the last one came."""

    @property
    def is_running(self) -> bool:
        """Whether there is an engine to ask."""
        return self.engine is not None and not self.ended

    def begin(self, engine: Engine) -> None:
        """Drive this engine from now on."""
        self.engine = engine
        if not engine.amnesiac:  # as everyone is who has never been a member
            self._parts.membership.was_member(engine.log.configuration_index)
        self._take_members(engine)

    def soon(self, event: Event) -> None:
        """Keep an event, and take a turn after the present callback."""
        self._events.append(event)
        if not self._scheduled:
            self._scheduled = True
            self._parts.rim.call_soon(self.turn)

    def tick(self) -> None:
        """Tell the engine that time has passed, if that is anything to it, and take a turn."""
        self._asked_at = None
        engine = self.engine
        if engine is not None and self._is_led(engine):
            self._led_at = self._time()
        if engine is None or engine.has_work_at(self._time()):
            self._events.append(_TICK)
        elif not self._events and not self.ended:
            self._ask_for_tick(engine.next_tick_at())
            self._settle(engine)
        self.turn()

    def turn(self) -> None:
        """Step the engine through every queued event."""
        self._scheduled = False
        engine, events = self.engine, self._events
        if engine is None or not events or self._turning or self.ended:
            return
        self._turning = True
        step, time, carry_out = engine.step, self._time, self._carry_out
        try:
            while events and not self.ended:
                carry_out(step(events.popleft(), time()))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing can be trusted now
            self._fail(f"an unexpected error: {error!r}")
            _log.critical("node %d cannot go on", self._node_id, exc_info=True)
        finally:
            self._turning = False
        self._settle(engine)

    def _settle(self, engine: Engine) -> None:
        """Tell the membership once the configuration in force is committed."""
        if engine.commit_index >= self._unsettled and not self.ended:
            self._unsettled = _NEVER
            self._parts.membership.committed()

    def _carry_out(self, ready: Ready) -> None:
        parts = self._parts
        if parts.checkup.far_off and self._others_may_lead():
            parts.checkup.restrain(ready)
        if ready.messages:
            transport = parts.transport
            for peer, message in ready.messages:
                transport.send(peer, message)
            transport.forget_encoded()
        for sequence, peer, message in ready.held:
            parts.syncer.hold(sequence, peer, parts.transport.epoch(peer), message)
        if ready.sync_needed is not None:
            parts.syncer.want(ready.sync_needed)
        if ready.applied:
            self._tell_applied(ready.applied)
        if ready.dropped or ready.reads:
            self._tell_answers(ready)
        if ready.changes or ready.members_changed or ready.role_changed or ready.halted is not None:
            self._tell_changes(ready)
        if ready.tick_at is not None and ready.tick_at != self._asked_at:
            self._ask_for_tick(ready.tick_at)

    def _is_led(self, engine: Engine) -> bool:
        """Whether there is a leader, as of now: a follower that hears nothing takes no steps."""
        silent_s = self._time() - engine.heard_at
        return engine.role == LEADER or silent_s < engine.timing.election_min_s

    def _others_may_lead(self) -> bool:
        """Whether a wrong clock is a bar still: those with right ones may be unable to lead.

        Where one's disk hangs and the other is behind, a clock must not keep out the third. It
        stamps with the median all the same, and hands over as soon as somebody is level.
        """
        engine = self.engine
        if engine is None:
            return True
        patience_s = LEADERLESS_TIMEOUTS * engine.timing.election_max_s
        return self._time() - self._led_at < patience_s

    def _ask_for_tick(self, at: float | None) -> None:
        self._asked_at = at
        if at is not None:
            self._parts.ticker.early(at)

    def _tell_applied(self, entries: list[tuple[int, object, object | None]]) -> None:
        applied = self._parts.listener.applied
        for index, outcome, context in entries:
            applied(index, outcome, context)
        self._parts.checkup.applied()

    def _tell_answers(self, ready: Ready) -> None:
        listener = self._parts.listener
        for dropped, reason in ready.dropped:
            listener.dropped(dropped, reason)
        for read, ok in ready.reads:
            listener.read_done(read, ok)

    def _tell_changes(self, ready: Ready) -> None:
        engine, listener = self.engine, self._parts.listener
        if ready.members_changed and engine is not None:
            self._take_members(engine)
        for context, index, refusal in ready.changes:
            listener.change_done(context, index, refusal)
        if ready.role_changed and engine is not None:
            if engine.leader_id is not None:
                self._parts.membership.led()
            listener.role_changed(engine.status)
        if ready.halted is not None:
            self._fail(ready.halted)

    def _take_members(self, engine: Engine) -> None:
        """Follow the configuration in force; whether it is committed shows later."""
        index = engine.log.configuration_index
        self._parts.membership.in_force(index, engine.configuration)
        self._unsettled = index
        self._parts.listener.members_changed(engine.configuration, index)
