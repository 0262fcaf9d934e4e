"""Links between those who talk: what is known of them on both sides of the proxy's pipe.

A direction is a pair (from, to) of node ids; `CLIENTS` stands for all clients and workers. The
two nodes of a pair share one connection, so what is done to a direction is done to it in
whatever connection it flows, whoever dialled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NamedTuple, Self

CLIENTS: Final = 0
"""In the place of a node id: everybody who uses the client ports."""

Mode = Literal["pass", "delay", "drop", "slow", "refuse"]
Direction = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens to bytes in one direction.

    Attributes:
        mode: `pass` hands them on; `delay` later, in order; `drop` takes none and opens no
            connection, as if no packet came through: what was sent meanwhile arrives
            afterwards if the connection lives so long; `slow` lets them drip; `refuse` resets
            connections that are opened.
        low_ms: Shortest delay.
        high_ms: Longest delay.
        rate: Bytes per second that drip.
    """

    mode: Mode = "pass"
    low_ms: float = 0
    high_ms: float = 0
    rate: int = 0

    def __post_init__(self) -> None:
        if self.mode == "delay" and not 0 <= self.low_ms <= self.high_ms:
            raise ValueError(f"a delay of {self.low_ms} to {self.high_ms} ms is none")
        if self.mode == "slow" and self.rate <= 0:
            raise ValueError(f"{self.rate} bytes per second never arrive: use 'drop'")

    def to_dict(self) -> dict[str, Any]:
        """Return the form that crosses the pipe."""
        return asdict(self)

    @classmethod
    def from_dict(cls, form: dict[str, Any]) -> Self:
        """Read that form.

        Raises:
            ValueError: It is none.
        """
        if form.get("mode") not in {"pass", "delay", "drop", "slow", "refuse"}:
            raise ValueError(f"no such mode: {form.get('mode')!r}")
        try:
            return cls(**form)
        except TypeError as error:
            raise ValueError(str(error)) from error


PASS: Final = Policy()
DROP: Final = Policy("drop")


class Link(NamedTuple):
    """A port of the proxy, and where it leads.

    Attributes:
        dialler: Who connects to it; `CLIENTS` or a node id.
        target: Node it leads to.
        port: Where it listens, on loopback.
        upstream: Port of the node, on loopback.
    """

    dialler: int
    target: int
    port: int
    upstream: int


def both(one: int, other: int) -> list[Direction]:
    """Return the two directions between two."""
    return [(one, other), (other, one)]


def between(some: Iterable[int], others: Iterable[int]) -> list[Direction]:
    """Return all directions between two groups."""
    rest = list(others)
    return [way for one in some for other in rest if one != other for way in both(one, other)]
