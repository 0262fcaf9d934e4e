"""What every invariant is: a name, a view of the world, and hooks that are called by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from statemachine import Outcome
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World

OFFICE: Final = 1
"""Term or role moved."""
COMMIT: Final = 2
"""The commit index moved."""
END: Final = 4
"""The last entry of the log is another one."""
MEMBERS: Final = 8
"""Another configuration is in force."""
ANYTHING: Final = OFFICE | COMMIT | END | MEMBERS


class Invariant:
    """Something that must hold in every world. Each hook may be left as it is.

    Attributes:
        name: Short, for the report.
        looks_at: What must have moved for `stepped` to be called; it may be called more often.
    """

    name = ""
    looks_at = ANYTHING

    def __init__(self, world: World) -> None:
        self.world = world

    def started(self, node: SimNode) -> None:
        """A process of the node began; it may have no engine yet."""

    def stopped(self, node: SimNode) -> None:
        """The node's process is gone; its engine is still to be seen."""

    def stepped(self, node: SimNode) -> None:
        """Something of what it looks at has moved, or a node without its memory has."""

    def applied(self, node: SimNode, index: int, entry: bytes, outcome: Outcome) -> None:
        """The node's machine took in an entry; it sees no no-ops and no configurations."""

    def applied_first(self, index: int, outcome: Outcome) -> None:
        """The first of all machines took in an entry, and all others were told of it."""

    def checkpointed(self, node: SimNode) -> None:
        """The node's machine has another checkpoint than before."""

    def sampled(self) -> None:
        """A second passed."""

    def finished(self) -> None:
        """The world is healed, and all work is done."""

    def fail(self, text: str) -> NoReturn:
        """End the world: the invariant does not hold.

        Raises:
            Violation: Always.
        """
        self.world.trace("VIOLATION", self.name)
        raise Violation(f"{self.name}: {text}")
