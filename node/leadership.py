"""Who leads, as far as this node knows."""

from __future__ import annotations

from collections.abc import Callable


class Leadership:
    """The term and its leader.

    Args:
        node_id: This node.
        client_address: The client address of a node, "" if it is not known.
    """

    def __init__(self, *, node_id: int, client_address: Callable[[int], str]) -> None:
        self._node_id = node_id
        self._client_address = client_address
        self.leads = False
        """This node believes that it leads; only a barrier or a commit proves it."""
        self.leader_id: int | None = None
        self.term = 0

    @property
    def leader_address(self) -> str:
        """Client address of the leader, "" if unknown."""
        return "" if self.leader_id is None else self._client_address(self.leader_id)

    def changed(self, *, leader_id: int | None, term: int) -> None:
        """Take note of a new term or leader."""
        self.leader_id = leader_id
        self.term = term
        self.leads = leader_id == self._node_id
