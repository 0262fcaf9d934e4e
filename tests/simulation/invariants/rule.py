"""What every invariant is: a name, a view of the world, and hooks that are called by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from statemachine import Outcome
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World


class Invariant:
    """Something that must hold in every world. Each hook may be left as it is.

    Attributes:
        name: Short, for the report.
    """

    name = ""

    def __init__(self, world: World) -> None:
        self.world = world

    def started(self, node: SimNode) -> None:
        """A process of the node began; it may have no engine yet."""

    def stopped(self, node: SimNode) -> None:
        """The node's process is gone; its engine is still to be seen."""

    def stepped(self, node: SimNode) -> None:
        """Role, term, commit index or last index of the node changed."""

    def applied(self, node: SimNode, index: int, entry: bytes, outcome: Outcome | None) -> None:
        """The node's machine took in an entry; no-ops have no outcome, and may come late."""

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
