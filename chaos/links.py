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


@dataclass(frozen=True, slots=True)
class Impairment:
    """What happens to packets in one direction, where it is packets that are handed on.

    Attributes:
        loss: Share that is lost, each for itself.
        duplicate: Share that arrives twice.
        reorder: Share that is held back while those behind it go on.
        low_ms: Shortest delay of all, which keep their order.
        high_ms: Longest.
        held_low_ms: Shortest time of holding back.
        held_high_ms: Longest.
        size_max: Larger ones are lost, all of them; bytes.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    low_ms: float = 0.0
    high_ms: float = 0.0
    held_low_ms: float = 1.0
    held_high_ms: float = 30.0
    size_max: int = 65_535

    def __post_init__(self) -> None:
        for share in (self.loss, self.duplicate, self.reorder):
            if not 0 <= share <= 1:
                raise ValueError(f"{share} is no share of the packets")
        for low_ms, high_ms in ((self.low_ms, self.high_ms), (self.held_low_ms, self.held_high_ms)):
            if not 0 <= low_ms <= high_ms:
                raise ValueError(f"a delay of {low_ms} to {high_ms} ms is none")

    def to_dict(self) -> dict[str, Any]:
        """Return the form that crosses the pipe."""
        return {"mode": "packets", **asdict(self)}

    @classmethod
    def from_dict(cls, form: dict[str, Any]) -> Self:
        """Read that form, or that of a policy that makes sense for packets.

        Raises:
            ValueError: It is none.
        """
        match form.get("mode"):
            case "packets":
                try:
                    return cls(**{key: value for key, value in form.items() if key != "mode"})
                except TypeError as error:
                    raise ValueError(str(error)) from error
            case "pass":
                return cls()
            case "drop":
                return cls(loss=1.0)
            case "delay":
                return cls(low_ms=form["low_ms"], high_ms=form["high_ms"])
            case mode:
                raise ValueError(f"packets know no mode {mode!r}")


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
