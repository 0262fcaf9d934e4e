"""A claim that is repeated is told of the leases it has (3: idempotent claims).

A client whose answer was lost asks again under the same request id. If that leased further
tasks, or was told of none, those of the lost answer would stand still until their leases end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from statemachine import Claim, Grant
from tests.simulation.history import Operation
from tests.simulation.invariants.rule import Invariant
from tests.simulation.stories import IN_PROGRESS, Listener, TaskStory

if TYPE_CHECKING:
    from tests.simulation.world import World


class Repeats(Listener, Invariant):
    """One request, one set of leases."""

    name = "a repeated claim gets what it has"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._ledger = world.history.ledger
        self._ledger.listeners.append(self)
        world.history.listeners.append(self._ended)
        self._held: dict[tuple[int, int], list[tuple[int, int, TaskStory]]] = {}
        """Session and request id -> (index, token, story) of what was leased for it."""

    def granted(
        self, story: TaskStory | None, command: Claim, grant: Grant, *, again: bool
    ) -> None:
        if again or story is None:
            return
        index = self._ledger.index
        held = self._held.setdefault((command.session, command.request_id), [])
        for before, token, other in held:
            if before < index and other.state == IN_PROGRESS and other.token == token:
                self.fail(
                    f"claim {command.request_id} of session {command.session} holds "
                    f"{other.describe()} since {before} and leases {story.describe()} at {index}"
                )
        held.append((index, grant.token, story))

    def _ended(self, operation: Operation) -> None:
        if operation.kind != "claim" or operation.outcome != "ok" or operation.answer[0]:
            return
        for since, token, story in self._held.get((operation.what[0], operation.number), ()):
            if story.state == IN_PROGRESS and story.token == token:
                self.fail(
                    f"{operation.describe()} is told of nothing and holds {story.describe()} "
                    f"since {since}"
                )
