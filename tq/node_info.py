"""What a node says of itself in its answer to HELLO, read with care.

An older node says less than this, and a newer one more: what is missing or makes no
sense is replaced by the value that a node without a configuration would have said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tq.durations import Duration, milliseconds
from tq.errors import ConfigError
from tq.protocol import FRAME_MAX_BYTES, PAYLOAD_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONCURRENCY_MAX: Final = 10_000
_SPAN_MAX_MS: Final = 86_400_000


class WorkerDefaults(NamedTuple):
    """The cluster's wishes for workers that were told nothing themselves.

    Attributes:
        concurrency: Tasks one worker runs at once.
        heartbeat_ms: How often a worker renews its leases, milliseconds.
        shutdown_ms: How long a stopping worker lets running tasks finish, milliseconds.
    """

    concurrency: int = 4
    heartbeat_ms: int = 15_000
    shutdown_ms: int = 60_000


class NodeInfo(NamedTuple):
    """What the node that leads said of itself.

    Attributes:
        node_id: Its number; 0 if it did not say.
        cluster_id: Hexadecimal; "" before the cluster was formed.
        claim_max: Most tasks of one claim.
        frame_max_bytes: Longest frame it takes.
        payload_max_bytes: Longest payload and result it takes.
        worker: Defaults for workers.
    """

    node_id: int = 0
    cluster_id: str = ""
    claim_max: int = 10
    frame_max_bytes: int = FRAME_MAX_BYTES
    payload_max_bytes: int = PAYLOAD_MAX_BYTES
    worker: WorkerDefaults = WorkerDefaults()

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> NodeInfo:
        """Read the info map of HELLO; never raises, whatever it holds."""
        cluster_id = info.get("cluster_id")
        worker = info.get("worker")
        told: Mapping[str, Any] = worker if isinstance(worker, dict) else {}
        usual = cls()
        return cls(
            node_id=_whole(info, "node_id", 0, 65_535, usual.node_id),
            cluster_id=cluster_id if isinstance(cluster_id, str) else usual.cluster_id,
            claim_max=_whole(info, "claim_max", 1, 1000, usual.claim_max),
            frame_max_bytes=_whole(
                info, "frame_max_bytes", 1, FRAME_MAX_BYTES, usual.frame_max_bytes
            ),
            payload_max_bytes=_whole(
                info, "payload_max_bytes", 1, PAYLOAD_MAX_BYTES, usual.payload_max_bytes
            ),
            worker=WorkerDefaults(
                _whole(told, "concurrency", 1, _CONCURRENCY_MAX, usual.worker.concurrency),
                _whole(told, "heartbeat_ms", 1, _SPAN_MAX_MS, usual.worker.heartbeat_ms),
                _whole(told, "shutdown_ms", 0, _SPAN_MAX_MS, usual.worker.shutdown_ms),
            ),
        )


def said(
    concurrency: int | None, heartbeat: Duration | None, shutdown_timeout: Duration | None
) -> dict[str, int]:
    """Return what a worker's user said, by the name in `WorkerDefaults`; the rest is missing.

    Raises:
        ConfigError: A value makes no sense.
    """
    told: dict[str, int] = {}
    if concurrency is not None:
        if concurrency < 1:
            raise ConfigError(f"concurrency {concurrency}: a worker needs at least one slot")
        told["concurrency"] = concurrency
    if heartbeat is not None:
        told["heartbeat_ms"] = milliseconds(heartbeat)
        if told["heartbeat_ms"] < 1:
            raise ConfigError(f"heartbeat {heartbeat!r}: it must be more than 0")
    if shutdown_timeout is not None:
        told["shutdown_ms"] = milliseconds(shutdown_timeout)
    return told


def _whole(told: Mapping[str, Any], key: str, low: int, high: int, usual: int) -> int:
    value = told.get(key)
    return value if type(value) is int and low <= value <= high else usual
