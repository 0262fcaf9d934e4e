"""Frames: there and back, and whatever else may arrive."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq.errors import FrameTooLarge, ProtocolError
from tq.protocol import (
    FRAME_BEFORE_HELLO_MAX_BYTES,
    FRAME_MAX_BYTES,
    REQUEST_ID_MAX,
    Decoder,
    Type,
    encode,
    is_name,
    unpack,
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.binary(max_size=20),
    st.floats(allow_nan=False),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=10,
)
PAYLOADS = st.builds(
    lambda request_id, rest: [request_id, *rest],
    st.integers(0, REQUEST_ID_MAX),
    st.lists(VALUES, max_size=5),
)
FRAMES = st.tuples(st.integers(0, 255), PAYLOADS)


def chunks_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0, 2**16), max_size=20))
def test_frames_come_back_as_they_were_however_the_stream_is_cut(
    frames: list[tuple[int, list[Any]]], cuts: list[int]
) -> None:
    stream = b"".join(encode(message_type, payload) for message_type, payload in frames)
    decoder = Decoder()
    back = [frame for chunk in chunks_of(stream, cuts) for frame in decoder.feed(chunk)]
    assert [(message_type, unpack(body)) for message_type, body in back] == frames
    assert decoder.held_bytes == 0


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10), st.integers(1, 64))
def test_any_bytes_in_any_chunks_give_frames_or_a_protocol_error(
    stream: bytes, cuts: list[int], frame_max_bytes: int
) -> None:
    decoder = Decoder(frame_max_bytes)
    bodies: list[bytes] = []
    try:
        for chunk in chunks_of(stream, cuts):
            bodies += [body for _, body in decoder.feed(chunk)]
            assert decoder.held_bytes <= frame_max_bytes + 4
    except ProtocolError as error:
        bodies += [body for _, body in error.frames]
    for body in bodies:
        assert len(body) < frame_max_bytes
        try:
            unpack(body)
        except ProtocolError:
            continue


@given(st.binary(max_size=200))
def test_any_body_opens_or_is_a_protocol_error(body: bytes) -> None:
    try:
        payload = unpack(body)
    except ProtocolError:
        return
    assert type(payload[0]) is int


def test_every_mutation_of_a_good_body_opens_or_is_a_protocol_error(rng: random.Random) -> None:
    good = encode(Type.SUBMIT_TASK, [7, bytes(16), "q", "name", b"payload", {"priority": 9}])[5:]
    for position in range(len(good)):
        for value in range(256):
            body = good[:position] + bytes([value]) + good[position + 1 :]
            try:
                unpack(body)
            except ProtocolError:
                continue
    for _ in range(2000):
        try:
            unpack(rng.randbytes(rng.randrange(60)))
        except ProtocolError:
            continue


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x90",
        b"\x91",
        b"\x01",
        b"\x80",
        b"\x91\xff",
        b"\x91\xc3",
        b"\x91\xc0",
        b"\x91\xcb" + bytes(8),
        b"\x91\x01\x01",
        b"\x92\x01\xa1\xff",
        b"\x92\x01\xa3\xed\xa0\x80",
        b"\x92\x01\x81\x01\x02",
        b"\x92\x01\x81\x90\x02",
        b"\x92\x01\xc1",
        b"\x92\x01\xd4\x05\x00",
        b"\x92\x01\xc7\x00\x05",
        b"\x92\x01\xd6\xff" + bytes(4),
        b"\x91" * 5000,
        b"\xdd\xff\xff\xff\xff",
        b"\x92\x01\xdf\xff\xff\xff\xff",
        b"\x92\x01\xc6\xff\xff\xff\xff",
    ],
    ids=lambda body: body[:8].hex() or "empty",
)
def test_a_body_that_is_no_array_with_a_request_id_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(body)


@pytest.mark.parametrize(
    "body",
    [
        b"\x92\x01\xdd\x7f\xff\xff\xff",
        b"\xdd\x00\x00\xff\xff" * 1000,
        b"\x92\x01" + b"\xdc\xff\xff" * 500,
    ],
    ids=["one array of 2^31", "nested arrays of 65535", "nested array16"],
)
def test_announced_lengths_reserve_no_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            unpack(body)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_frame_over_the_limit_is_refused_by_its_header_alone() -> None:
    header = (FRAME_MAX_BYTES + 1).to_bytes(4) + b"\x05"
    with pytest.raises(FrameTooLarge, match="16777217"):
        Decoder().feed(header)


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    decoder = Decoder(100)
    assert decoder.feed((100).to_bytes(4) + b"\x05" + bytes(99)) == [(5, bytes(99))]
    with pytest.raises(FrameTooLarge):
        decoder.feed((101).to_bytes(4) + b"\x05")


def test_a_frame_without_a_type_is_refused() -> None:
    with pytest.raises(ProtocolError, match="length 0"):
        Decoder().feed(bytes(5))


def test_whole_frames_before_a_bad_one_are_handed_over_with_the_error() -> None:
    good = encode(Type.GET_STATS, [1])
    with pytest.raises(ProtocolError) as error:
        Decoder().feed(good * 2 + b"\xff\xff\xff\xff\x01")
    assert error.value.frames == [(Type.GET_STATS, good[5:])] * 2


def test_the_limit_may_grow_between_two_frames() -> None:
    large = encode(Type.SUBMIT_TASK, [1, bytes(5000)])
    decoder = Decoder(FRAME_BEFORE_HELLO_MAX_BYTES)
    decoder.feed(encode(Type.HELLO, [1]))
    decoder.frame_max_bytes = FRAME_MAX_BYTES
    assert decoder.feed(large) == [(Type.SUBMIT_TASK, large[5:])]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 4096, 65_536])
def test_a_large_frame_in_small_chunks_costs_about_its_own_size(chunk_bytes: int) -> None:
    frame = encode(Type.SUBMIT_TASK, [1, bytes(400_000)])
    decoder = Decoder()
    tracemalloc.start()
    try:
        frames = [
            whole
            for start in range(0, len(frame), chunk_bytes)
            for whole in decoder.feed(frame[start : start + chunk_bytes])
        ]
        assert tracemalloc.get_traced_memory()[1] < 5 * len(frame)
    finally:
        tracemalloc.stop()
    assert frames == [(Type.SUBMIT_TASK, frame[5:])]


def test_what_is_held_of_an_unfinished_frame_is_known() -> None:
    decoder = Decoder()
    frame = encode(Type.GET_STATS, [1])
    assert decoder.feed(frame[:3]) == []
    assert decoder.held_bytes == 3
    decoder.feed(frame[3:])
    assert decoder.held_bytes == 0


@pytest.mark.parametrize("thing", [object(), 2**64, "\ud800", {1, 2}])
def test_what_msgpack_cannot_say_is_a_protocol_error_and_leaves_no_trace(thing: object) -> None:
    with pytest.raises(ProtocolError):
        encode(Type.ACK, [1, b"some bytes before it", thing])
    assert encode(Type.ACK, [1]) == b"\x00\x00\x00\x03\x80\x91\x01"


def test_a_frame_that_would_be_too_large_is_not_made() -> None:
    room = FRAME_MAX_BYTES - len(encode(Type.ACK, [1, bytes(2**16)])) + 4
    assert len(encode(Type.ACK, [1, bytes(2**16 + room)])) == FRAME_MAX_BYTES + 4
    with pytest.raises(FrameTooLarge):
        encode(Type.ACK, [1, bytes(2**16 + room + 1)])


def test_an_http_answer_is_recognised() -> None:
    with pytest.raises(ProtocolError, match="speaks HTTP"):
        Decoder(FRAME_MAX_BYTES).feed(b"HTTP/1.1 400 Bad Request\r\n")


def test_text_is_text_and_bytes_are_bytes() -> None:
    body = encode(Type.ACK, [1, "é", b"\xc3\xa9"])[5:]
    assert msgpack.unpackb(body, raw=False) == [1, "é", b"\xc3\xa9"]


@pytest.mark.parametrize("name", ["a", "A-b_c.d:9", "x" * 128])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "x" * 129, "a b", "é", "a/b", "a\n", b"a", None, 5])
def test_no_names(name: object) -> None:
    assert not is_name(name)
