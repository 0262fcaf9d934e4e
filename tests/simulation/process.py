"""One life of a node's process: what it planned dies with it, and waits while it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World

Action = Callable[..., object]


class Crashed(BaseException):
    """The process dies in the middle of a turn; raised by its disk.

    Not an `Exception`: nothing that runs in the process may catch it.
    """

    def __init__(self, node_id: int) -> None:
        super().__init__(node_id)
        self.node_id = node_id


class Process:
    """What runs callbacks for one node until it is killed.

    Attributes:
        alive: It has not been killed.
        paused: It is stopped (SIGSTOP): what comes waits, in order.
        runs: It is alive and not stopped; asked once per event.
        node_id: Whose it is.
    """

    __slots__ = ("_backlog", "alive", "node_id", "paused", "runs", "world")

    def __init__(self, world: World, node_id: int) -> None:
        self.world = world
        self.node_id = node_id
        self.alive = True
        self.paused = False
        self.runs = True
        self._backlog: list[tuple[Action, tuple[object, ...]]] = []

    def soon(self, action: Action, *arguments: object) -> None:
        """Run after the present callback."""
        self.world.soon.append((self, action, arguments))

    def at(self, when: float, action: Action, *arguments: object) -> None:
        """Run at a true time."""
        self.world.plan(when, self, action, arguments)

    def after(self, seconds: float, action: Action, *arguments: object) -> None:
        """Run after true seconds."""
        self.world.plan(self.world.now + seconds, self, action, arguments)

    def misses(self, action: Action, arguments: tuple[object, ...]) -> None:
        """Keep what came while it is stopped; what comes to a dead one is lost."""
        if self.alive:
            self._backlog.append((action, arguments))

    def pause(self) -> None:
        """Stop it: what comes waits."""
        self.paused = True
        self.runs = False

    def resume(self) -> None:
        """Go on with what has come in the meantime, in order."""
        self.paused = False
        self.runs = self.alive
        backlog, self._backlog = self._backlog, []
        for action, arguments in backlog:
            self.soon(action, *arguments)

    def kill(self) -> None:
        """Nothing of it ever runs again."""
        self.alive = self.runs = False
        self._backlog = []
