"""Messages survive the wire, and nothing else is taken for one."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.chunks import ChunkError, decode_records, encode_records
from cluster.configuration import Configuration
from cluster.interface import SnapshotRecord
from cluster.messages import (
    ENTRIES_MAX,
    INDEX_MAX,
    AppendEntries,
    AppendReply,
    Message,
    PeerProtocolError,
    PreVote,
    PreVoteReply,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
    decode,
)

MEMBERS = Configuration((1, 2), (3,), {1: ("127.0.0.1", 7400)})

EXAMPLES: list[Message] = [
    AppendEntries(3, 17, 5, 6, 2, [(b"entry", 3), (b"", 3), (MEMBERS.to_entry(), 3)], True),
    AppendReply(3, 17, True, 9, 8, False),
    PreVote(4, 1, 8, 3),
    PreVoteReply(3, 1, True),
    VoteRequest(4, 8, 3, True),
    VoteReply(4, False),
    SnapshotChunk(3, 18, 2, 0, 8, 3, b"data", 7, False, 7, 5, MEMBERS.to_bytes()),
    SnapshotReply(3, 18, 2, 1, 0, True),
    TimeoutNow(3),
]


WRONG: list[object] = [None, "text", -1, 1.5, INDEX_MAX + 1, {}]


def _as_lists(form: list[object]) -> list[object]:
    """What a decoder of the wire makes of it: no tuples."""
    return [[list(pair) for pair in field] if isinstance(field, list) else field for field in form]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_survives_its_wire_form(message: Message) -> None:
    assert decode(_as_lists(message.to_list())) == message


def test_every_kind_has_an_example_and_a_code_of_its_own() -> None:
    assert {type(message) for message in EXAMPLES} == set(get_args(Message))
    assert len({message.to_list()[0] for message in EXAMPLES}) == len(EXAMPLES)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_missing_an_extra_or_a_wrong_field_is_refused(message: Message) -> None:
    form = message.to_list()
    with pytest.raises(PeerProtocolError, match="fields"):
        decode(form[:-1])
    with pytest.raises(PeerProtocolError, match="fields"):
        decode([*form, 0])
    for at in range(1, len(form)):
        for wrong in WRONG:
            with pytest.raises(PeerProtocolError):
                decode([*form[:at], wrong, *form[at + 1 :]])


@pytest.mark.parametrize(
    "form", [None, (), [], {}, b"bytes", [0], [10], [True, 1], ["1"], [[1]], 7, [9, True]]
)
def test_what_is_no_message_is_refused(form: object) -> None:
    with pytest.raises(PeerProtocolError):
        decode(form)


def test_a_snapshot_with_a_configuration_from_beyond_its_end_is_refused() -> None:
    chunk = SnapshotChunk(3, 18, 2, 0, 8, 3, b"data", 7, False, 7, 9, MEMBERS.to_bytes())
    with pytest.raises(PeerProtocolError, match="beyond its end"):
        decode(chunk.to_list())


@pytest.mark.parametrize(
    "entries",
    [
        [[b"x"]],
        [[b"x", 1, 2]],
        [["x", 1]],
        [[b"x", "1"]],
        [b"xx"],
        b"xx",
        [[b"", 1]] * (ENTRIES_MAX + 1),
    ],
)
def test_entries_of_a_wrong_shape_are_refused(entries: object) -> None:
    with pytest.raises(PeerProtocolError, match=r"entries|bytes|integer"):
        decode([1, 1, 1, 1, 1, 1, entries, False])


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.binary(max_size=9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=12),
    max_leaves=30,
)


@given(_ANYTHING)
def test_no_input_raises_anything_else(form: object) -> None:
    try:
        message = decode(form)
    except PeerProtocolError:
        return
    assert decode(_as_lists(message.to_list())) == message


_RECORDS = st.lists(
    st.tuples(st.text("abc_", max_size=9), st.binary(max_size=20), st.binary(max_size=50))
)


@given(_RECORDS)
def test_records_survive_their_chunk(records: list[SnapshotRecord]) -> None:
    assert decode_records(encode_records(records)) == records


@given(_RECORDS, st.integers(1, 20))
def test_a_chunk_cut_short_is_refused_or_holds_fewer_records(
    records: list[SnapshotRecord], missing: int
) -> None:
    data = encode_records(records)[:-missing]
    try:
        decoded = decode_records(data)
    except ChunkError:
        return
    assert decoded == records[: len(decoded)]
    assert len(decoded) < max(len(records), 1) or not records


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_chunk_error(data: bytes) -> None:
    try:
        records = decode_records(data)
    except ChunkError:
        return
    assert encode_records(records) == data
