"""Bugs that the chaos suite must find, where they go in a node, and what to do to find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import node.broker
import node.server
from cluster.directory import DataDirectory
from cluster.disk import RocksDisk
from cluster.recovery import Storage
from statemachine import claiming, commands, machine, submitting
from tests.chaos_teeth import bugs
from tests.simulation.plants import queue, service

Place = tuple[Any, str | type]
"""What is changed, a module, class or dictionary, and the name or key in it."""

_HANDLERS: Final = machine._HANDLERS  # who answers which command


@dataclass(frozen=True, slots=True)
class Plant:
    """One bug.

    Attributes:
        name: Short.
        about: What is taken out, for people.
        scenario: Of the chaos suite, in which it can be seen.
        checker: Which must see it, whoever else does.
        seconds: How long faults are done in one run; runs are repeated with other seeds.
        places: What is replaced, in every node, before it starts.
    """

    name: str
    about: str
    scenario: str
    checker: str
    seconds: int
    places: tuple[tuple[Place, Any], ...]

    def plant(self) -> None:
        """Replace it in this process, for good."""
        for (owner, name), value in self.places:
            if isinstance(owner, dict):
                owner[name] = value
            else:
                setattr(owner, str(name), value)


_LIST: Final = (
    Plant(
        "fsync",
        "fsync removed",
        "power",
        "durable",
        30,
        (
            ((RocksDisk, "sync"), bugs.syncs_nothing),
            ((DataDirectory, "overwrite"), bugs.notes_without_sync),
        ),
    ),
    Plant(
        "fencing",
        "fencing check removed",
        "clients",
        "fencing",
        30,
        (((_HANDLERS, commands.TaskResult), queue.accepts_any_token),),
    ),
    Plant(
        "lease-token",
        "a lease that was lost is granted again under the same token",
        "clients",
        "fencing",
        30,
        (((claiming, "_lease"), queue.grants_the_same_token),),
    ),
    Plant(
        "expiry",
        "an expiry names the task alone, and ends whatever lease it has by then",
        "network",
        "lease_bound",
        60,
        (((_HANDLERS, commands.Expire), queue.expires_by_task_alone),),
    ),
    Plant(
        "barrier",
        "reads are answered without asking whether the node still leads",
        "partition",
        "linearizable",
        40,
        (((node.broker, "Barriers"), service.NoBarriers),),
    ),
    Plant(
        "dedupe",
        "ids of tasks that have ended are known to the leader alone, until it falls",
        "leader-kills",
        "idempotent",
        50,
        (
            ((submitting, "_submit"), queue.forgets_what_has_ended),
            ((node.server, "Broker"), bugs.LeaderRemembers),
        ),
    ),
    Plant(
        "wal-damage",
        "what a start finds of the write-ahead log is all there ever was",
        "damage",
        "durable",
        40,
        (((Storage, "_check_mark"), service.ignores_the_mark),),
    ),
)

PLANTS: Final[dict[str, Plant]] = {plant.name: plant for plant in _LIST}
