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
from cluster.events import Event, Ready
from cluster.interface import Listener
from cluster.membership import Membership
from cluster.rim import Connections, Rim, Syncs, Ticks

_log = logging.getLogger(__name__)

_NEVER = 2**64
"""No index is so high."""


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
    """

    def __init__(self, node_id: int, parts: Parts, fail: Callable[[str], None]) -> None:
        self.engine: Engine | None = None
        self.ended = False
        self._node_id = node_id
        self._parts = parts
        self._fail = fail
        self._events: deque[Event] = deque()
        self._turning = False
        self._scheduled = False
        self._unsettled = _NEVER

    @property
    def is_running(self) -> bool:
        """Whether there is an engine to ask."""
        return self.engine is not None and not self.ended

    def begin(self, engine: Engine) -> None:
        """Drive this engine from now on."""
        self.engine = engine
        self._take_members(engine)

    def queue(self, event: Event) -> None:
        """Keep an event for the next turn."""
        self._events.append(event)

    def soon(self, event: Event) -> None:
        """Keep an event, and take a turn after the present callback."""
        self._events.append(event)
        if not self._scheduled:
            self._scheduled = True
            self._parts.rim.call_soon(self.turn)

    def drained(self) -> None:
        """Take a turn if anything waits for one."""
        if self._events:
            self.turn()

    def turn(self) -> None:
        """Step the engine through every queued event."""
        self._scheduled = False
        if self._turning or self.ended or self.engine is None:
            return
        self._turning = True
        events, step, time = self._events, self.engine.step, self._parts.rim.time
        try:
            while events and not self.ended:
                self._carry_out(step(events.popleft(), time()))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing can be trusted now
            _log.critical("node %d cannot go on", self._node_id, exc_info=True)
            self._fail(f"an unexpected error: {error!r}")
        finally:
            self._turning = False
        self._parts.transport.forget_encoded()
        if self.engine.commit_index >= self._unsettled and not self.ended:
            self._unsettled = _NEVER
            self._parts.membership.committed()

    def _carry_out(self, ready: Ready) -> None:
        parts = self._parts
        listener = parts.listener
        parts.checkup.restrain(ready)
        self._send(ready)
        if ready.applied:
            for index, outcome, context in ready.applied:
                listener.applied(index, outcome, context)
            parts.checkup.applied()
        for dropped, reason in ready.dropped:
            listener.dropped(dropped, reason)
        for read, ok in ready.reads:
            listener.read_done(read, ok)
        if ready.members_changed or ready.changes:
            self._change_members(ready)
        if ready.role_changed and self.engine is not None:
            listener.role_changed(self.engine.status)
        if ready.halted is not None:
            self._fail(ready.halted)
        elif ready.tick_at is not None:
            parts.ticker.early(ready.tick_at)

    def _send(self, ready: Ready) -> None:
        transport, syncer = self._parts.transport, self._parts.syncer
        for peer, message in ready.messages:
            transport.send(peer, message)
        for sequence, peer, message in ready.held:
            syncer.hold(sequence, peer, transport.epoch(peer), message)
        if ready.sync_needed is not None:
            syncer.want(ready.sync_needed)

    def _change_members(self, ready: Ready) -> None:
        if ready.members_changed and self.engine is not None:
            self._take_members(self.engine)
        for context, index, refusal in ready.changes:
            self._parts.listener.change_done(context, index, refusal)

    def _take_members(self, engine: Engine) -> None:
        """Follow the configuration in force; whether it is committed shows later."""
        index = engine.log.configuration_index
        self._parts.membership.in_force(index, engine.configuration)
        self._unsettled = index
        self._parts.listener.members_changed(engine.configuration, index)
