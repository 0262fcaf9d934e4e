"""`make cluster`: three nodes in the foreground until Ctrl-C, with their addresses printed."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from pathlib import Path

from deploy.local.cluster import ClusterError, LocalCluster


def main() -> int:
    """Run three nodes in a temporary directory; return the exit code."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with (
        tempfile.TemporaryDirectory(prefix="tq-cluster-") as directory,
        LocalCluster(Path(directory)) as cluster,
    ):
        try:
            leader = cluster.start()
        except ClusterError as failure:
            print(f"error: {failure}", file=sys.stderr)  # noqa: T201 - a command speaks to people
            return 1
        _announce(cluster, leader_id=leader.node_id, directory=directory)
        stop.wait()
    return 0


def _announce(cluster: LocalCluster, *, leader_id: int, directory: str) -> None:
    lines = [f"three nodes are up; their data is in {directory} and goes when they stop"]
    for node in cluster.nodes.values():
        role = "leader" if node.node_id == leader_id else "follower"
        lines.append(
            f"  node {node.node_id}  clients {node.client_address}"
            f"  http://127.0.0.1:{node.ports.http}/status  raft 127.0.0.1:{node.ports.raft}  {role}"
        )
    lines.append(f"export TQ_SERVERS={cluster.servers}")
    lines.append("Ctrl-C stops them")
    print("\n".join(lines), flush=True)  # noqa: T201 - a command speaks to people


if __name__ == "__main__":
    sys.exit(main())
