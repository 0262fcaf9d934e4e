"""The client wire protocol: frames and message types, without any socket.

One frame is

    u32 big endian: length | u8: type | msgpack array: payload

where the length counts the type and the payload, and element 0 of the payload is
the request id, chosen by the client and echoed in the answer. `docs/protocol.md` is
the constitution; this module is its only implementation in Python, shared by the
SDK and the server.

`encode` makes a whole frame. A `Decoder` is fed bytes as they come and gives whole
frames back, undecoded: the server splices a body into its log without unpacking it
twice. `unpack` opens a body. Whatever comes in, these raise `ProtocolError` and
nothing else, and no length is believed before it was compared with its limit.
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

import msgpack

from tq.errors import FrameTooLarge, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION: Final = 1
"""The protocol version that HELLO says."""

DEFAULT_PORT: Final = 7401
_HTTP: Final = int.from_bytes(b"HTTP", "big")
"""The length field of a frame, if it is the beginning of an HTTP answer."""

# ------------------------------------------------------------------------------ limits

FRAME_MAX_BYTES: Final = 16 * 1024 * 1024
"""Largest value of a frame's length field: type and payload."""
FRAME_BEFORE_HELLO_MAX_BYTES: Final = 4 * 1024
"""The same until HELLO was accepted: strangers get little room."""
PAYLOAD_MAX_BYTES: Final = 10 * 1024 * 1024
"""Largest payload or result of one task."""
ERROR_MAX_BYTES: Final = 8 * 1024
"""Longest error text of a TASK_RESULT, UTF-8 bytes."""
NOTE_MAX_BYTES: Final = 1024
"""Longest note of a PROGRESS and reason of a CANCEL_TASK, UTF-8 bytes."""
NAME_MAX_BYTES: Final = 128
BATCH_TASKS_MAX: Final = 1000
CLAIM_QUEUES_MAX: Final = 64
WAIT_MAX_MS: Final = 60_000
"""Longest wait of one CLAIM_TASK or WAIT_RESULT."""
PRIORITY_MAX: Final = 255
DELAY_MAX_MS: Final = 31_536_000_000
RETRY_MAX: Final = 1000
LEASE_MIN_MS: Final = 1_000
LEASE_MAX_MS: Final = 86_400_000
PERMILLE_MAX: Final = 1000
REQUEST_ID_MAX: Final = 2**64 - 1
TASK_ID_BYTES: Final = 16
LIST_DEFAULT: Final = 100
LIST_MAX: Final = 1000
"""Most tasks of a LIST_TASKS, and most entries of a LOG_HASHES."""

IDLE_MS: Final = 30_000
"""A connection on which the client sent no frame for so long is closed."""
FRAME_ARRIVAL_MAX_MS: Final = 30_000
"""A whole frame has so long to arrive, from its first byte."""
HEARTBEAT_INTERVAL_MS: Final = 15_000
"""How often a client speaks on a connection that is otherwise quiet."""

ARRAY_MAX: Final = 65_535
"""Most elements of an array: room is made for its announced length at once."""
_MAP_MAX: Final = 4_096

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class Type(IntEnum):
    """Message types; requests are below 0x80, answers from 0x80."""

    HELLO = 0x01
    REGISTER_WORKER = 0x02
    DEREGISTER_WORKER = 0x03
    HEARTBEAT = 0x04
    SUBMIT_TASK = 0x05
    SUBMIT_BATCH = 0x06
    CLAIM_TASK = 0x07
    TASK_RESULT = 0x08
    EXTEND = 0x09
    PROGRESS = 0x0A
    RELEASE = 0x0B
    CANCEL_TASK = 0x0C
    QUERY_STATUS = 0x0D
    WAIT_RESULT = 0x0E
    GET_STATS = 0x0F
    LIST_WORKERS = 0x10
    NODE_STATUS = 0x11
    DIGEST = 0x12
    CHANGE_MEMBERS = 0x13
    LIST_TASKS = 0x14
    LOG_HASHES = 0x15
    ACK = 0x80
    NACK = 0x81
    REDIRECT = 0x82


class Code(StrEnum):
    """Why a request was refused: element 1 of a NACK."""

    MALFORMED = "MALFORMED"
    """The bytes do not decode; the connection is closed after this answer."""
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    TOO_LARGE = "TOO_LARGE"
    BAD_REQUEST = "BAD_REQUEST"
    """A field is missing, of the wrong type or out of range; the text names it."""
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    """The token is good, and its role does not allow this request."""
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    """The task id is known, with other content."""
    TOO_OLD = "TOO_OLD"
    """The task id is unknown and older than the idempotency window."""
    TOO_NEW = "TOO_NEW"
    """The task id is more than 10 minutes ahead of log time."""
    QUEUE_FULL = "QUEUE_FULL"
    DISK_FULL = "DISK_FULL"
    """The disk of the cluster has no room for new tasks; certainly not accepted."""
    LEASE_LOST = "LEASE_LOST"
    NOT_CANCELLABLE = "NOT_CANCELLABLE"
    UNKNOWN_SESSION = "UNKNOWN_SESSION"
    NO_QUORUM = "NO_QUORUM"
    """Certainly not accepted: the leader cannot reach a quorum."""
    UNKNOWN_OUTCOME = "UNKNOWN_OUTCOME"
    """Leadership was lost in the middle: accepted or not; ask again."""
    RATE_LIMITED = "RATE_LIMITED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    TOO_MANY_CONNECTIONS = "TOO_MANY_CONNECTIONS"
    BEHIND = "BEHIND"
    """A stale read asked for a later state than the node has applied."""
    CHANGE_UNDER_WAY = "CHANGE_UNDER_WAY"
    """Another change of the members is not committed yet."""
    NOT_SETTLED = "NOT_SETTLED"
    """The leader has committed nothing of its term yet."""
    HANDING_OVER = "HANDING_OVER"
    """The leader is to be removed, and hands leadership over first."""
    NOT_WAITING = "NOT_WAITING"
    """The node to be added does not answer at its address, or somebody else does."""
    NO_SUCH_MEMBER = "NO_SUCH_MEMBER"
    ALREADY = "ALREADY"
    """The node is what it is asked to become."""
    NOT_CAUGHT_UP = "NOT_CAUGHT_UP"
    """A learner lacks too much of the log to become a voter."""
    QUORUM_AT_RISK = "QUORUM_AT_RISK"
    """After the change too few voters would be up for a majority."""
    TOO_MANY_MEMBERS = "TOO_MANY_MEMBERS"


class ResultOutcome(IntEnum):
    """What a worker says of an attempt: element 3 of a TASK_RESULT."""

    SUCCESS = 0
    FAILURE = 1
    """Follows the task's retry policy."""
    FAILURE_WITHOUT_RETRY = 2
    """Goes to the dead letters at once."""


def is_name(text: object) -> bool:
    """Say whether this may name a namespace, a queue or a task function."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


# ------------------------------------------------------------------------------ frames

_HEADER = Struct(">IB")
HEADER_BYTES = _HEADER.size
_LENGTH_BYTES = 4
_SMALL_CHUNK_BYTES = 4096
_PACKER_KEPT_MAX_BYTES = 1024 * 1024

_packer = msgpack.Packer()
_unpackb = msgpack.unpackb


def encode(message_type: int, payload: Sequence[object]) -> bytes:
    """Make one whole frame.

    Args:
        message_type: A `Type`, 0..255.
        payload: The message's array; element 0 is the request id.

    Returns:
        Length, type and payload, ready to be written.

    Raises:
        FrameTooLarge: It would be longer than `FRAME_MAX_BYTES`.
        ProtocolError: It holds something msgpack cannot say.
    """
    global _packer  # noqa: PLW0603 -- one packer for all frames: making one costs more than packing
    try:
        body: bytes = _packer.pack(payload)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"the message cannot be encoded: {error}") from None
    length = len(body) + 1
    if length > _PACKER_KEPT_MAX_BYTES:
        _packer = msgpack.Packer()  # a packer keeps its largest buffer for good
        if length > FRAME_MAX_BYTES:
            raise FrameTooLarge(
                f"the frame would have {length} bytes, over the limit of {FRAME_MAX_BYTES}"
            )
    return _HEADER.pack(length, message_type) + body


def unpack(body: bytes) -> list[Any]:
    """Open a frame's payload.

    Args:
        body: As a `Decoder` gave it.

    Returns:
        The array; element 0 is the request id, an int 0..2^64-1. Text is valid
        Unicode, map keys are text or bytes, there are no extension types.

    Raises:
        ProtocolError: Anything else, whatever the bytes are.
    """
    size = len(body)
    try:
        value = _unpackb(
            body,
            raw=False,
            strict_map_key=True,
            max_array_len=size if size < ARRAY_MAX else ARRAY_MAX,
            max_map_len=_MAP_MAX,
            max_ext_len=0,
            ext_hook=_refuse_extension,
        )
    except (
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
        msgpack.UnpackException,
    ) as error:
        raise ProtocolError(f"the payload is no valid msgpack: {error}") from None
    if type(value) is not list or not value:
        raise ProtocolError("the payload is no array with a request id")
    request_id = value[0]
    if type(request_id) is not int or request_id < 0:
        raise ProtocolError("element 0 of the payload is no request id")
    return value


def _refuse_extension(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code}")


class Decoder:
    """Cuts a stream of bytes into frames.

    It holds no more than one unfinished frame, and never a byte of one whose length
    is over the limit. After an error it is of no further use: the stream has lost
    its place, and the connection must be closed.

    Args:
        frame_max_bytes: Largest length that is accepted.
    """

    __slots__ = ("_held_bytes", "_need_bytes", "_parts", "frame_max_bytes")

    frame_max_bytes: int
    """May be changed between two calls of `feed`: it grows when HELLO was accepted."""

    def __init__(self, frame_max_bytes: int = FRAME_MAX_BYTES) -> None:
        self.frame_max_bytes = frame_max_bytes
        self._parts: list[bytes | bytearray] = []
        # Bytes in _parts. Invariant: less than _need_bytes.
        self._held_bytes = 0
        # Size of the unfinished frame with its length field, or of a header if unknown.
        self._need_bytes = HEADER_BYTES

    @property
    def held_bytes(self) -> int:
        """Bytes of the unfinished frame so far; 0 between two frames."""
        return self._held_bytes

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes as they came.

        Args:
            data: Any number of bytes, cut anywhere.

        Returns:
            The frames that are whole now, in order: (type, body). A body still is
            the raw msgpack; the type may be one nobody knows.

        Raises:
            FrameTooLarge: A length is over the limit; nothing was kept for it.
            ProtocolError: A length of 0. In both cases the whole frames that came
                before are in the error's `frames`.
        """
        if self._held_bytes:
            self._hold(data)
            if self._held_bytes < self._need_bytes:
                return []
            data = b"".join(self._parts)
            self._parts = []
            self._held_bytes = 0
        frames: list[tuple[int, bytes]] = []
        size = len(data)
        start = 0
        need = HEADER_BYTES
        while size - start >= HEADER_BYTES:
            length, message_type = _HEADER.unpack_from(data, start)
            if not 0 < length <= self.frame_max_bytes:
                raise self._wrong_length(length, frames)
            need = length + _LENGTH_BYTES
            end = start + need
            if end > size:
                break
            frames.append((message_type, data[start + HEADER_BYTES : end]))
            start = end
            need = HEADER_BYTES
        self._need_bytes = need
        if start < size:
            self._hold(data[start:])
        return frames

    def _hold(self, data: bytes) -> None:
        # A peer that sends a byte at a time must not cost an object per byte.
        self._held_bytes += len(data)
        if len(data) >= _SMALL_CHUNK_BYTES:
            self._parts.append(data)
        elif self._parts and isinstance(self._parts[-1], bytearray):
            self._parts[-1] += data
        else:
            self._parts.append(bytearray(data))

    def _wrong_length(self, length: int, frames: list[tuple[int, bytes]]) -> ProtocolError:
        if length == 0:
            return ProtocolError("a frame of length 0 has no type", frames)
        if length == _HTTP:
            return ProtocolError("the other side speaks HTTP: this is not a client port", frames)
        return FrameTooLarge(
            f"a frame of {length} bytes is over the limit of {self.frame_max_bytes}", frames
        )
