"""Peer frames: what was sent comes out, anything else ends the connection, early."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Sequence

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.wire import Decoder, FrameTooLargeError, WireError, encode, unpack

plain = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**63) | st.binary(max_size=50) | st.text(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=10,
)
arrays = st.lists(plain, max_size=5)


def decode_all(pieces: Sequence[bytes], bound: int = 1 << 20) -> list[list[object]]:
    decoder = Decoder(bound)
    frames = []
    for piece in pieces:
        decoder.feed(piece)
        while (frame := decoder.next()) is not None:
            frames.append(frame)
    return frames


def frame_of(body: bytes) -> bytes:
    return struct.pack(">II", len(body), zlib.crc32(body)) + body


@given(frames=st.lists(arrays, max_size=4), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    frames: list[list[object]], cuts: list[int]
) -> None:
    stream = b"".join(encode(frame) for frame in frames)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert decode_all(pieces) == frames
    assert decode_all([bytes([byte]) for byte in stream]) == frames


@given(st.binary(max_size=200))
def test_any_bytes_give_frames_or_a_wire_error(data: bytes) -> None:
    try:
        decode_all([data], bound=100)
        unpack(data)
    except WireError:
        pass


@given(frame=arrays, position=st.integers(0), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_through(frame: list[object], position: int, bit: int) -> None:
    data = bytearray(encode(frame))
    data[position % len(data)] ^= 1 << bit
    try:
        got = decode_all([bytes(data)])
    except WireError:
        return
    assert got == []  # a longer length only waits for more


def test_a_length_over_the_bound_is_refused_by_its_header_alone() -> None:
    decoder = Decoder(1000)
    decoder.feed(struct.pack(">II", 1001, 0))
    with pytest.raises(FrameTooLargeError, match="1001 bytes, at most 1000"):
        decoder.next()
    decoder.feed(b"x" * 5000)
    assert decoder._later == []
    with pytest.raises(FrameTooLargeError):
        decoder.next()


def test_the_largest_frame_passes_and_the_next_byte_does_not() -> None:
    body_max = len(msgpack.packb([b"x" * 100]))
    frame = encode([b"x" * 100], frame_max_bytes=body_max)
    assert decode_all([frame], bound=body_max) == [[b"x" * 100]]
    with pytest.raises(FrameTooLargeError):
        encode([b"x" * 101], frame_max_bytes=body_max)
    with pytest.raises(FrameTooLargeError):
        decode_all([frame], bound=body_max - 1)


def test_the_bound_can_be_raised_between_two_frames_of_one_piece() -> None:
    decoder = Decoder(20)
    decoder.feed(encode([1]) + encode([b"x" * 100]))
    assert decoder.next() == [1]
    decoder.frame_max_bytes = 1000
    assert decoder.next() == [b"x" * 100]
    assert decoder.next() is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgpack.packb({}),
        msgpack.packb(7),
        msgpack.packb([1]) + b"\x00",
        msgpack.packb([1])[:0] + b"\x92\x01",
        b"\x91\xa1\xff",
        b"\x91" * 5000 + b"\x90",
        b"\xdd\xff\xff\xff\xff",
        msgpack.packb([{1: 2}]),
        msgpack.packb([msgpack.ExtType(5, b"x")]),
    ],
    ids=lambda body: body[:6].hex(),
)
def test_only_one_array_of_plain_values_is_a_body(body: bytes) -> None:
    with pytest.raises(WireError):
        decode_all([frame_of(body)])


def test_a_decoder_stays_broken() -> None:
    decoder = Decoder(1000)
    decoder.feed(frame_of(b"\xc1"))
    for _ in range(2):
        with pytest.raises(WireError, match="not msgpack"):
            decoder.next()
        decoder.feed(encode([1]))
