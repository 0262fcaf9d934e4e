"""What is mutated: one good example of everything that is decoded."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from cluster.chunks import encode_records
from cluster.configuration import Configuration
from cluster.handshake import Kind, Refused, Standing, question
from cluster.identity import BootstrapState, Identity
from cluster.messages import (
    AppendEntries,
    AppendReply,
    Message,
    PreVote,
    PreVoteReply,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from cluster.vitals import Report
from cluster.watermark import HighWater
from tests.support.peer_raw import CLUSTER, hello_of

_GOLDEN = Path(__file__).resolve().parents[1] / "golden"

CONFIGURATION = Configuration(
    voters=(1, 2, 3),
    learners=(4,),
    addresses={node: (f"node{node}.example", 7400 + node) for node in (1, 2, 3, 4)},
).to_bytes()

RECORDS = encode_records([("pending", b"key", b"value" * 20), ("metadata", b"k", b"")])

MESSAGES: tuple[Message, ...] = (
    AppendEntries(3, 17, 40, 41, 3, [(b"\x01entry", 3), (b"", 3), (b"\x00" * 300, 2)], True),
    AppendEntries(3, 18, 44, 44, 3, []),
    AppendReply(3, 17, True, 45, 44, False),
    PreVote(4, 2, 44, 3),
    PreVoteReply(3, 2, True),
    VoteRequest(4, 44, 3),
    VoteReply(4, True),
    SnapshotChunk(
        *(3, 19, 7, 0, 40, 3, RECORDS, crc32(RECORDS), True, crc32(RECORDS)),
        configuration_index=12,
        configuration=CONFIGURATION,
    ),
    SnapshotReply(3, 19, 7, 1, 41, False),
    TimeoutNow(4),
)

FRAMES: tuple[list[object], ...] = (
    hello_of(3, 1).to_list(),
    hello_of(3, 1, configuration_index=12, configuration=CONFIGURATION).to_list(),
    [int(Kind.READY)],
    question(1),
    Refused("node 3 belongs to another cluster", CLUSTER, 12, CONFIGURATION).to_list(),
    Standing(BootstrapState.BOOTSTRAPPED, CLUSTER, 12, CONFIGURATION).to_list(),
    [int(Kind.PING)],
    [int(Kind.REPORT), *Report(1_700_000_000_000, 1000, b"d" * 32, disk_low=False).to_list()],
    *([int(Kind.MESSAGE), message.to_list()] for message in MESSAGES),
)
"""Frames between nodes, as arrays."""

IDENTITY = Identity(2, (1, 2, 3), CLUSTER, BootstrapState.BOOTSTRAPPED, 9).to_bytes()
HIGH_WATER = HighWater(9, 1000, 500, 3, b"vote").to_bytes()


def _bytes_of(path: Path) -> bytes:
    lines = path.read_text().splitlines()
    return bytes.fromhex(" ".join(line for line in lines if not line.startswith("#")))


CLIENT_FRAMES: tuple[bytes, ...] = tuple(map(_bytes_of, sorted((_GOLDEN / "wire").glob("*.hex"))))
"""Frames between a client and a node."""
