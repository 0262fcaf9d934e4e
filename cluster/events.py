"""Inputs and outputs of `Engine.step`.

The engine is `step(event, now) -> Ready`. Whoever drives it owes it three things:

1. `Ready.messages` may leave at once. `Ready.held` entries leave only when their
   sequence number is durable, in order.
2. When `Ready.sync_needed` names a sequence, the disk is synced and `Durable` of that
   sequence (or a later one) is stepped in after the held messages it frees have left.
3. `Ready.halted` ends the process; nothing of such a `Ready` may be sent.

For one peer, messages must arrive in the order they were given to a connection, and a
closed connection loses only a suffix of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cluster.configuration import Change, ChangeRefusal
from cluster.interface import DropReason
from cluster.messages import Message


class Tick(NamedTuple):
    """Time passed. Due at least every 20 ms, and at `Ready.tick_at`."""


class PeerConnected(NamedTuple):
    """A connection to another voter is open; it replaces an older one."""

    peer: int


class PeerDisconnected(NamedTuple):
    """The connection to another voter has closed."""

    peer: int


class Received(NamedTuple):
    """A decoded message arrived over the open connection to `peer`."""

    peer: int
    message: Message


class Propose(NamedTuple):
    """Append one entry, if this node leads.

    Attributes:
        entry: Opaque bytes, at least one, the first of them not zero.
        decoded: Handed to the machine with the entry, to spare a second decoding.
        context: Comes back exactly once, in `Ready.applied` or `Ready.dropped`.
    """

    entry: bytes
    decoded: object | None
    context: object


class ReadBarrier(NamedTuple):
    """Ask for a linearizable read.

    `context` comes back exactly once in `Ready.reads`: with True when every write
    acknowledged before this event is in the machine, with False when this node cannot
    say so.
    """

    context: object


class Durable(NamedTuple):
    """Everything up to this sequence number of the disk has been synced."""

    sequence: int


class TransferLeadership(NamedTuple):
    """Hand leadership to the most advanced connected voter, if this node leads.

    Proposals are refused from here on. A transfer that has not happened after the
    longest election wait is given up and this node goes on leading.
    """


class ChangeMembers(NamedTuple):
    """Add, promote or remove one member, if this node leads.

    Attributes:
        change: What is wanted.
        context: Comes back exactly once, in `Ready.changes`.
    """

    change: Change
    context: object


Event = (
    Tick
    | PeerConnected
    | PeerDisconnected
    | Received
    | Propose
    | ReadBarrier
    | Durable
    | TransferLeadership
    | ChangeMembers
)


@dataclass(slots=True, init=False)
class Ready:
    """What one step wants done.

    Attributes:
        messages: (peer, message) that may leave now. One message to several peers is the
            same object in consecutive items, so that it is encoded once.
        held: (sequence, peer, message) that may leave once that sequence is durable.
        sync_needed: Sequence to be made durable, None when this step wrote nothing.
        applied: (index, outcome, context) in log order; context None unless proposed here.
        dropped: (context, reason) of proposals that get no outcome.
        reads: (context, ok) of read barriers.
        changes: (context, index, refusal) of changes of the members: refusal None once the
            change is committed, as the entry of that index.
        members_changed: Another configuration is in force; it may yet be taken back.
        role_changed: Role, term or known leader changed.
        halted: Why the process must end, None otherwise.
        tick_at: A `Tick` is wanted at this time (seconds, the clock of `now`), None when
            the usual 20 ms are soon enough.
    """

    messages: list[tuple[int, Message]]
    held: list[tuple[int, int, Message]]
    sync_needed: int | None
    applied: list[tuple[int, object, object | None]]
    dropped: list[tuple[object, DropReason]]
    reads: list[tuple[object, bool]]
    changes: list[tuple[object, int, ChangeRefusal | None]]
    members_changed: bool
    role_changed: bool
    halted: str | None
    tick_at: float | None

    # One is made per step, so it is spelled out: twice as fast as default factories.
    def __init__(self, *, halted: str | None = None) -> None:
        self.messages = []
        self.held = []
        self.sync_needed = None
        self.applied = []
        self.dropped = []
        self.reads = []
        self.changes = []
        self.members_changed = self.role_changed = False
        self.halted = halted
        self.tick_at = None
