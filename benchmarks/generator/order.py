"""What the generator is asked to do, and what it says it saw; both travel as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self


@dataclass(frozen=True)
class Order:
    """One load.

    Attributes:
        kind: Which.
        addresses: Of the leader; of every node to be asked (`pings`).
        seconds: Length of the measured part.
        warm_s: Before it, not measured.
        connections: They share the load.
        window: Requests in flight on each connection.
        batch: Tasks per SUBMIT_BATCH; 0 submits single tasks.
        claims: CLAIM_TASK outstanding.
        claim_tasks: Most tasks of one claim.
        rate: Requests per second of an open loop; times per second of `pings`.
        payload_bytes: Of each task.
        tasks: Submit so many and stop, however long it takes; 0 goes by the time.
        pids: Processes whose processor time is taken at both ends of the measured part.
    """

    kind: Literal["submits", "lifecycle", "open-loop", "pings"]
    addresses: tuple[str, ...]
    seconds: float = 5.0
    warm_s: float = 1.0
    connections: int = 1
    window: int = 1
    batch: int = 0
    claims: int = 4
    claim_tasks: int = 64
    rate: float = 0.0
    payload_bytes: int = 256
    tasks: int = 0
    pids: tuple[int, ...] = ()

    def to_json(self) -> str:
        """Return it as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        given: dict[str, Any] = json.loads(text)
        lists = {name: tuple(v) for name, v in given.items() if isinstance(v, list)}
        return cls(**{**given, **lists})


@dataclass
class Seen:
    """What one load came to.

    Attributes:
        done: Tasks acknowledged (submits) or completed (lifecycle) in the measured part.
        seconds: Length of that part.
        done_in_all: The same over the whole run, the warm-up and the end included.
        latency_ms: Quantiles of the requests of the measured part, by name.
        cpu_s: Processor time of `Order.pids` in the measured part, in their order, and last
            of the generator itself.
        refused: Answers that were no ACK, by their text; a sound run has none.
    """

    done: int
    seconds: float
    done_in_all: int
    latency_ms: Mapping[str, float]
    cpu_s: list[float]
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return self.done / self.seconds

    @property
    def cpu_us(self) -> list[float]:
        """Microseconds of processor time per task, in the order of `cpu_s`."""
        return [one * 1e6 / max(self.done, 1) for one in self.cpu_s]

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields)
