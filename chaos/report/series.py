"""What the page draws, cut into equal spans of time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from chaos.calm import Gap
from chaos.checkers.gaps import find_gaps
from chaos.evidence import Evidence
from chaos.stories import FINAL

SPANS_MAX: Final = 600
GAP_SHOWN_MS: Final = 200


@dataclass(slots=True)
class Span:
    """One span.

    Attributes:
        answered: Operations answered with success in it, by second, those at the end left out.
        refused: Operations that ended otherwise, by second, likewise.
        submits_ms: How long each submit took that was acknowledged in it, in order.
    """

    answered: float = 0.0
    refused: float = 0.0
    submits_ms: list[float] = field(default_factory=list)

    def latency_ms(self, share: float) -> float | None:
        """Return a percentile of the submits; None if there were none."""
        if not self.submits_ms:
            return None
        return self.submits_ms[max(0, math.ceil(share * len(self.submits_ms)) - 1)]


@dataclass(frozen=True, slots=True)
class Reign:
    """A time in which a node called itself leader.

    Attributes:
        node: Its id.
        term: Of its office.
        begins_s: When it was first seen so.
        ends_s: When it was last seen so.
    """

    node: int
    term: int
    begins_s: float
    ends_s: float


@dataclass(frozen=True, slots=True)
class Series:
    """All there is to draw; times in seconds since the run began.

    Attributes:
        seconds: Length of the run.
        span_s: Of each span.
        spans: In order.
        reigns: In order of beginning.
        gaps: Those long enough to be seen.
    """

    seconds: float
    span_s: float
    spans: Sequence[Span]
    reigns: Sequence[Reign]
    gaps: Sequence[tuple[float, float]]


def series(evidence: Evidence) -> Series:
    """Cut a run."""
    origin = evidence.origin_ns
    ends = [one.to or one.at for one in evidence.history]
    ends += [sample.at for sample in evidence.samples[-1:]]
    seconds = max(1.0, (max(ends, default=origin) - origin) / 1e9)
    span_s = max(1.0, math.ceil(seconds / SPANS_MAX))
    spans = [Span() for _ in range(math.ceil(seconds / span_s))]
    for operation in evidence.history:
        if operation.to is None or operation.who == FINAL:
            continue
        at = int((operation.to - origin) / 1e9 / span_s)
        span = spans[min(max(at, 0), len(spans) - 1)]
        if operation.outcome != "ok":
            span.refused += 1 / span_s
            continue
        span.answered += 1 / span_s
        if operation.kind == "submit":
            span.submits_ms.append((operation.to - operation.at) / 1e6)
    for span in spans:
        span.submits_ms.sort()
    gaps = [
        ((gap.begins - origin) / 1e9, (gap.ends - origin) / 1e9)
        for gap in find_gaps(evidence)
        if _is_shown(gap)
    ]
    return Series(seconds, span_s, spans, list(_reigns(evidence)), gaps)


def _is_shown(gap: Gap) -> bool:
    return gap.length_ms >= GAP_SHOWN_MS


def _reigns(evidence: Evidence) -> Iterator[Reign]:
    """Give the time each node was seen as the leader of each term."""
    seen: dict[tuple[int, int], tuple[float, float]] = {}
    for sample in evidence.samples:
        if sample.up and sample.role == "leader":
            at = (sample.at - evidence.origin_ns) / 1e9
            begins, _ = seen.get((sample.node, sample.term), (at, at))
            seen[sample.node, sample.term] = (begins, at)
    for (node, term), (begins, ends) in seen.items():
        yield Reign(node, term, begins, ends)
