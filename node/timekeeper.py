"""What the leader proposes because time passes, and not because somebody asked.

Nothing here changes a task: an expired lease, a due timer, a record past its
retention each become a command, and the log decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.leases import LeaseKeeper
from node.surroundings import Rules
from statemachine import (
    Advance,
    ChangeSettings,
    Expire,
    ExpireSessions,
    InternalCommand,
    Machine,
    Retire,
)

RETIRE_MAX: Final = 1000
"""Records dropped by one command."""


class Timekeeper:
    """Decides what is due; knows no loop and no clock.

    Args:
        machine: Read, never changed.
        leases: The leader's clock of leases.
        rules: When to sweep for records past their retention, and the settings of the file,
            for a cluster that has none yet.
        started_s: When this process began, by the monotonic clock, seconds.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        leases: LeaseKeeper,
        rules: Rules,
        started_s: float,
    ) -> None:
        self._machine = machine
        self._leases = leases
        self._compaction_s = rules.compaction_s
        self._seed = rules.seed
        self._under_way: set[type[InternalCommand]] = set()
        """Sorts of commands proposed and neither applied nor dropped: one of each at a time."""
        self._advance_due = False
        self._sweep_at_s = started_s + rules.compaction_s
        """When the next retention sweep begins, if this node leads then; else once it does."""
        self._cursor: bytes | None = None
        """Where the retention sweep goes on; None between two sweeps."""

    def bootstrap(self) -> InternalCommand | None:
        """Return the command that gives a new cluster its settings, if it may be new.

        Must come before any client's command of this leader, or that is answered under the
        defaults. An earlier leader's seed may be in the log and not applied here yet: then
        this one is one too many, and the machine passes over it.
        """
        if self._machine.seeded:
            return None
        self._under_way.add(ChangeSettings)
        return ChangeSettings(tuple(sorted(self._seed.items())), is_seed=True)

    def stand_down(self) -> None:
        """Forget what was planned: this node does not lead.

        Not when the next sweep is due: where leaders change more often than sweeps come, no
        record would ever retire. One that is under way begins again.
        """
        self._under_way.clear()
        self._advance_due = False
        self._cursor = None

    def advance_due(self) -> None:
        """Note that an entry left due timers for the next one."""
        self._advance_due = True

    def poll(
        self, *, now_s: float, wall_ms: Callable[[], int], heard_s: float | None = None
    ) -> list[InternalCommand]:
        """Return what is to be proposed now; each is under way until `settled`.

        Args:
            now_s: The monotonic clock, seconds.
            wall_ms: The wall clock, milliseconds since the Unix epoch; read when a timer
                waits for it.
            heard_s: Until when, by the first clock, every heartbeat that came has renewed what
                it renews: by what came later no lease ends. None: until now.
        """
        if not self._leases.counting:
            return []
        ends_s = now_s if heard_s is None else heard_s
        due = (
            self._expire(ends_s),
            self._expire_sessions(ends_s),
            self._advance(wall_ms),
            self._retire(now_s),
        )
        commands: list[InternalCommand] = [command for command in due if command is not None]
        self._under_way.update(map(type, commands))
        return commands

    def sweep_again(self, now_s: float) -> None:
        """Begin the retention sweep anew: a command of it was dropped."""
        self._cursor = None
        self._sweep_at_s = now_s

    def settled(self, command: InternalCommand) -> None:
        """Note that a command was applied or dropped."""
        self._under_way.discard(type(command))
        if isinstance(command, Expire):
            self._leases.expiry_settled(token for _, token in command.leases)
        elif isinstance(command, ExpireSessions):
            self._leases.ending_settled(command.sessions)

    def _expire(self, now_s: float) -> Expire | None:
        if Expire in self._under_way:
            return None
        pairs = self._leases.expired(now_s=now_s)
        return Expire(tuple(pairs)) if pairs else None

    def _expire_sessions(self, now_s: float) -> ExpireSessions | None:
        if ExpireSessions in self._under_way:
            return None
        dead = self._leases.dead_sessions(self._is_registered, now_s=now_s)
        return ExpireSessions(tuple(dead)) if dead else None

    def _is_registered(self, session: int) -> bool:
        return self._machine.session(session) is not None

    def _advance(self, wall_ms: Callable[[], int]) -> Advance | None:
        if Advance in self._under_way or not (self._advance_due or self._timer_due(wall_ms)):
            return None
        self._advance_due = False
        return Advance()

    def _timer_due(self, wall_ms: Callable[[], int]) -> bool:
        due_ms = self._machine.next_due_at_ms()
        if due_ms is None:
            return False
        return due_ms <= self._machine.log_time_ms or due_ms <= wall_ms()

    def _retire(self, now_s: float) -> Retire | None:
        if self._cursor is None and now_s >= self._sweep_at_s:
            self._cursor = b""
        if self._cursor is None or Retire in self._under_way:
            return None
        task_ids, cursor = self._machine.retirable(self._cursor, RETIRE_MAX)
        if cursor:
            self._cursor = cursor
        else:
            self._cursor = None
            self._sweep_at_s = now_s + self._compaction_s
        return Retire(tuple(task_ids)) if task_ids else None
