"""The promises of docs/guarantees.md as questions to what a run has recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from chaos.checkers import (
    agreement,
    delay,
    disk_full,
    durable,
    expiry,
    fencing,
    gaps,
    grants,
    idempotent,
    lease_bound,
    linearizable,
    liveness,
    once,
    order,
    refusals,
    samples,
    stale,
)
from chaos.evidence import Evidence
from chaos.verdict import Verdict

CHECKERS: Final[Mapping[str, Callable[[Evidence], Verdict]]] = MappingProxyType(
    {
        "durable": durable.check,
        "once": once.check,
        "fencing": fencing.check,
        "linearizable": linearizable.check,
        "grants": grants.check,
        "order": order.check,
        "delay": delay.check,
        "idempotent": idempotent.check,
        "stale": stale.check,
        "agreement": agreement.check,
        "samples": samples.check,
        "lease_bound": lease_bound.check,
        "expiry": expiry.check,
        "liveness": liveness.check,
        "gaps": gaps.check,
        "disk_full": disk_full.check,
        "refusals": refusals.check,
    }
)
"""All checkers by name, in the order in which they are told."""
