"""Messages between members, and their positional list form.

On the wire a message is the list `[code, field, ...]` in the order of the class below.
`decode` accepts exactly what `to_list` gives (tuples may arrive as lists) and raises
`PeerProtocolError` for anything else: wrong length, type, range or code. Terms travel in
every message, so a stale one is recognised and a newer one is learned from any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cluster.configuration import CONFIGURATION_MARK, Configuration, ConfigurationError

INDEX_MAX = 2**63 - 1
"""Largest term, index, sequence or round."""

ENTRIES_MAX = 65_536
"""Most entries in one AppendEntries."""


class PeerProtocolError(Exception):
    """A peer sent something that is not a message of this protocol."""


class AppendEntries(NamedTuple):
    """Leader to follower: entries after (prev_index, prev_term), or a heartbeat without.

    Attributes:
        term: The leader's term.
        sequence: Number of this message within the leader's life; echoed in the reply.
        commit_index: The leader's commit index.
        prev_index: Index of the entry before the first one sent.
        prev_term: Its term.
        entries: (entry, term) pairs; the first has index prev_index + 1.
        vouched: The receiver said that it may have forgotten, and since then enough nodes
            that have not have confirmed this leader: nothing the receiver ever confirmed is
            committed beyond commit_index. Only this ends its amnesia.
    """

    term: int
    sequence: int
    commit_index: int
    prev_index: int
    prev_term: int
    entries: Sequence[tuple[bytes, int]]
    vouched: bool = False

    def to_list(self) -> list[object]:
        """The wire form."""
        return [1, *self]


class AppendReply(NamedTuple):
    """Follower to leader, for AppendEntries.

    Attributes:
        term: The follower's term.
        sequence: That of the message answered.
        success: The entries are on the follower's disk.
        next_index: With success, one past the last entry verified; otherwise where to try
            again, the start of the conflicting term or one past the log's end.
        last_index: End of the follower's log: below what it confirmed before, it has lost it.
        amnesiac: The follower may have forgotten; it must not be counted.
    """

    term: int
    sequence: int
    success: bool
    next_index: int
    last_index: int
    amnesiac: bool

    def to_list(self) -> list[object]:
        """The wire form."""
        return [2, *self]


class PreVote(NamedTuple):
    """Would you vote for me in `term`? Changes nothing anywhere."""

    term: int
    round: int
    last_index: int
    last_term: int

    def to_list(self) -> list[object]:
        """The wire form."""
        return [3, *self]


class PreVoteReply(NamedTuple):
    """Answer to PreVote: the voter's own term, the round asked in, and yes or no."""

    term: int
    round: int
    granted: bool

    def to_list(self) -> list[object]:
        """The wire form."""
        return [4, *self]


class VoteRequest(NamedTuple):
    """A candidate asks for a vote in `term`.

    Attributes:
        term: The candidate's term.
        last_index: Last entry of its log.
        last_term: Its term.
        handed_over: The leader itself asked for this election: also who still hears that
            leader may vote.
    """

    term: int
    last_index: int
    last_term: int
    handed_over: bool = False

    def to_list(self) -> list[object]:
        """The wire form."""
        return [5, *self]


class VoteReply(NamedTuple):
    """Answer to VoteRequest, with the voter's term."""

    term: int
    granted: bool

    def to_list(self) -> list[object]:
        """The wire form."""
        return [6, *self]


class SnapshotChunk(NamedTuple):
    """One part of a snapshot, leader to follower.

    Attributes:
        term: The leader's term.
        sequence: As in AppendEntries; echoed.
        snapshot_id: Which snapshot this is a part of; unique within the leader's term.
        number: 0, 1, 2, ... within the snapshot.
        last_index: Last entry the snapshot contains.
        last_term: Its term.
        data: Records, see `cluster.chunks`.
        crc: CRC-32 of `data`.
        done: This is the last part.
        total_crc: CRC-32 over the data of all parts up to this one.
        configuration_index: The entry that put `configuration` into force.
        configuration: Bytes of the configuration as of `last_index`.
    """

    term: int
    sequence: int
    snapshot_id: int
    number: int
    last_index: int
    last_term: int
    data: bytes
    crc: int
    done: bool
    total_crc: int
    configuration_index: int
    configuration: bytes

    def to_list(self) -> list[object]:
        """The wire form."""
        return [7, *self]


class SnapshotReply(NamedTuple):
    """Follower to leader, for SnapshotChunk.

    Attributes:
        term: The follower's term.
        sequence: That of the chunk answered.
        snapshot_id: That of the chunk answered.
        number: The next part wanted; 0 asks for a fresh start.
        next_index: 0 while parts are missing; one past the snapshot once it is installed
            or was not needed.
        amnesiac: As in AppendReply.
    """

    term: int
    sequence: int
    snapshot_id: int
    number: int
    next_index: int
    amnesiac: bool

    def to_list(self) -> list[object]:
        """The wire form."""
        return [8, *self]


class TimeoutNow(NamedTuple):
    """The leader of `term` asks the receiver to stand for election at once."""

    term: int

    def to_list(self) -> list[object]:
        """The wire form."""
        return [9, *self]


Message = (
    AppendEntries
    | AppendReply
    | PreVote
    | PreVoteReply
    | VoteRequest
    | VoteReply
    | SnapshotChunk
    | SnapshotReply
    | TimeoutNow
)


def _number(value: object, maximum: int = INDEX_MAX) -> int:
    if type(value) is not int or not 0 <= value <= maximum:
        raise PeerProtocolError(f"expected an integer from 0 to {maximum}")
    return value


def _crc(value: object) -> int:
    return _number(value, 0xFFFF_FFFF)


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise PeerProtocolError("expected a boolean")
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise PeerProtocolError("expected bytes")
    return value


def _configuration(value: object) -> bytes:
    data = _bytes(value)
    try:
        Configuration.from_bytes(data)
    except ConfigurationError as error:
        raise PeerProtocolError(str(error)) from error
    return data


def _entries(value: object) -> list[tuple[bytes, int]]:
    if not isinstance(value, list | tuple) or len(value) > ENTRIES_MAX:
        raise PeerProtocolError("expected a list of entries")
    entries: list[tuple[bytes, int]] = []
    for pair in value:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise PeerProtocolError("expected entries of [bytes, term]")
        entry = _bytes(pair[0])
        if entry[:1] == CONFIGURATION_MARK:
            _configuration(entry[1:])
        entries.append((entry, _number(pair[1])))
    return entries


def _chunk(*fields: Any) -> SnapshotChunk:  # noqa: ANN401 - each was checked alone
    chunk = SnapshotChunk(*fields)
    if chunk.configuration_index > chunk.last_index:
        raise PeerProtocolError("a snapshot with a configuration from beyond its end")
    return chunk


_Check = Callable[[object], object]
_FORMS: dict[int, tuple[Callable[..., Message], tuple[_Check, ...]]] = {
    1: (AppendEntries, (_number, _number, _number, _number, _number, _entries, _flag)),
    2: (AppendReply, (_number, _number, _flag, _number, _number, _flag)),
    3: (PreVote, (_number, _number, _number, _number)),
    4: (PreVoteReply, (_number, _number, _flag)),
    5: (VoteRequest, (_number, _number, _number, _flag)),
    6: (VoteReply, (_number, _flag)),
    7: (
        _chunk,
        (_number,) * 6 + (_bytes, _crc, _flag, _crc, _number, _configuration),
    ),
    8: (SnapshotReply, (_number, _number, _number, _number, _number, _flag)),
    9: (TimeoutNow, (_number,)),
}


def decode(form: object) -> Message:
    """The message in its wire form.

    Args:
        form: What a decoder of the wire gave, trusted in nothing.

    Raises:
        PeerProtocolError: It is not exactly a message.
    """
    if type(form) is not list or not form:
        raise PeerProtocolError("expected a list")
    code = form[0]
    known = _FORMS.get(code) if type(code) is int else None
    if known is None:
        raise PeerProtocolError("unknown message code")
    make, checks = known
    if len(form) != len(checks) + 1:
        name = make.__name__.strip("_")
        raise PeerProtocolError(f"{name} has {len(form) - 1} fields, not {len(checks)}")
    return make(*[check(value) for check, value in zip(checks, form[1:], strict=True)])
