"""What metrics tell of the other nodes: refusals, clocks, states that differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.checkup import Alarms
from cluster.refusals import Reason


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What the connections to other nodes have brought up.

    Attributes:
        refusals: Refused connections since the start, by reason.
        terms_refused: Messages refused for a term beyond all reason.
        alarms: Clocks and states.
        certificate_ends_s: Until when the own certificate is good, seconds since the Unix
            epoch; None without one.
    """

    refusals: Mapping[str, int]
    terms_refused: int
    alarms: Alarms
    certificate_ends_s: float | None = None


def peer_samples(
    facts: PeerFacts | None,
) -> dict[str, Iterable[tuple[Sequence[str], float]]]:
    """Return (labels, value) by metric; every reason from the start, with 0."""
    if facts is None:
        return {}
    refusals = {reason.value: facts.refusals.get(reason, 0) for reason in Reason}
    refusals[Reason.TERM_JUMP] += facts.terms_refused
    ends_s = facts.certificate_ends_s
    return {
        "tq_peer_refusals_total": [((reason,), count) for reason, count in refusals.items()],
        "tq_clock_skew_seconds": [((), facts.alarms.skew_ms / 1000)],
        "tq_state_divergence": [((), bool(facts.alarms.disagreement))],
        "tq_certificate_expiry_timestamp_seconds": [] if ends_s is None else [((), ends_s)],
    }
