"""Frames between nodes: u32 length | u32 CRC-32 of the body | body, big endian.

The body is one msgpack array. The length counts the body alone and is checked before
anything is allocated for it; the checksum is checked before the body is decoded. A sans-I/O
decoder takes whatever a socket gave and hands out one array at a time, so that the bound
may change between two frames (small before the handshake, large after it).
"""

from __future__ import annotations

import struct
from zlib import crc32

import msgpack

FRAME_MAX_BYTES = 32 << 20
"""Largest body between nodes that know each other, unless configured otherwise."""

HANDSHAKE_MAX_BYTES = 16384
"""Largest body before the handshake is over."""

_HEAD = struct.Struct(">II")


class WireError(Exception):
    """The bytes are not a frame of this protocol; the connection is of no more use."""


class FrameTooLargeError(WireError):
    """The frame announces, or would need, a larger body than allowed."""


def encode(fields: list[object], frame_max_bytes: int = FRAME_MAX_BYTES) -> bytes:
    """Return the whole frame of one array.

    Args:
        fields: Integers, booleans, None, text, bytes, and lists or tuples of these.
        frame_max_bytes: Bound of the body.

    Raises:
        FrameTooLargeError: The other side would refuse it.
    """
    body: bytes = msgpack.packb(fields, use_bin_type=True)
    if len(body) > frame_max_bytes:
        raise FrameTooLargeError(f"a frame of {len(body)} bytes, at most {frame_max_bytes} may be")
    return _HEAD.pack(len(body), crc32(body)) + body


class Decoder:
    """Bytes in, arrays out.

    Call `feed` with what arrived, then `next` until it returns None. After an error the
    decoder stays broken: the position within the stream is lost.

    Attributes:
        frame_max_bytes: Bound of the next frame's body; may be changed at any time.
    """

    __slots__ = (
        "_broken",
        "_buffer",
        "_held_bytes",
        "_later",
        "_offset",
        "_wanted_bytes",
        "frame_max_bytes",
    )

    def __init__(self, frame_max_bytes: int) -> None:
        self.frame_max_bytes = frame_max_bytes
        self._buffer = b""
        self._offset = 0
        self._later: list[bytes] = []
        self._held_bytes = 0
        self._wanted_bytes = _HEAD.size
        self._broken: WireError | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes in the order they came; they are joined once per frame, not per piece."""
        if self._broken is None:
            self._later.append(data)
            self._held_bytes += len(data)

    def next(self) -> list[object] | None:
        """Return the next array, None while its frame is incomplete.

        Raises:
            FrameTooLargeError: The announced length is over the bound; nothing was kept.
            WireError: Wrong checksum, not msgpack, or not an array.
        """
        if self._broken is not None:
            raise self._broken
        if self._held_bytes < self._wanted_bytes:
            return None
        if self._later:
            self._join()
        length, checksum = _HEAD.unpack_from(self._buffer, self._offset)
        if length > self.frame_max_bytes:
            raise self._break(
                FrameTooLargeError(f"a frame of {length} bytes, at most {self.frame_max_bytes}")
            )
        self._wanted_bytes = _HEAD.size + length
        if self._held_bytes < self._wanted_bytes:
            return None
        return self._take(length, checksum)

    def _join(self) -> None:
        rest = self._buffer[self._offset :]
        alone = not rest and len(self._later) == 1
        self._buffer = self._later[0] if alone else b"".join([rest, *self._later])
        self._offset = 0
        self._later.clear()

    def _take(self, length: int, checksum: int) -> list[object]:
        start = self._offset + _HEAD.size
        self._offset = start + length
        body = self._buffer[start : self._offset]
        self._held_bytes -= self._wanted_bytes
        self._wanted_bytes = _HEAD.size
        if crc32(body) != checksum:
            raise self._break(WireError("wrong checksum"))
        try:
            return unpack(body)
        except WireError as error:
            raise self._break(error) from error

    def _break(self, error: WireError) -> WireError:
        self._broken = error
        self._buffer = b""
        self._later.clear()
        return error


def unpack(body: bytes) -> list[object]:
    """Decode one body.

    Raises:
        WireError: It is not exactly one msgpack array of plain values.
    """
    try:
        # Every count inside is bounded by the body's own length, which was checked.
        fields = msgpack.unpackb(body, raw=False, strict_map_key=True, ext_hook=_no_extensions)
    except Exception as error:
        # Bad UTF-8, odd map keys, deep nesting and cut bytes each raise something else.
        raise WireError(f"not msgpack: {type(error).__name__}") from error
    if type(fields) is not list:
        raise WireError("not an array")
    return fields


def _no_extensions(code: int, data: bytes) -> object:
    raise ValueError("extension types are not spoken here")
