"""Bytes of log entries and records; the only module that speaks msgpack.

    entry   = 0x01 | msgpack [now_ms, [command...]]
    command = msgpack [type, namespace, principal, body]

The body is the client's payload array, spliced in as it came: the door accepts
or refuses it and never rewrites it. Decoding an entry is total: whatever the
bytes are, the answer is a list of commands and `Malformed` marks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgpack

from statemachine import commands as c
from statemachine import validation
from statemachine.types import LIMITS, Code, Invalid
from statemachine.validation import server_header

ENTRY_VERSION: Final = 1
_ENTRY_START: Final = bytes([ENTRY_VERSION, 0x92])
_COMMAND_START: Final = b"\x94"
_MAP_MAX: Final = 1024

# What is looked at for every entry or command, within reach of one step.
_ENTRY_COMMANDS_MAX: Final = LIMITS.entry_commands_max
_NOW_MS_MAX: Final = LIMITS.now_ms_max
_COPIED_BYTES_MAX: Final = 16 * 1024
_CLIENT_SHAPES: Final = {int(type_): shape for type_, shape in validation.CLIENT.items()}

_UNPACK_ERRORS: Final = (
    ValueError,  # short, long or bad bytes, bad UTF-8, odd map keys, too deep, too long
    TypeError,
    OverflowError,
    msgpack.UnpackException,
)
"""Everything that input can make msgpack raise. Not running out of memory: that is the
node's trouble, and a replica that took it for bad input would differ from the others."""

_packer = msgpack.Packer(use_bin_type=True)


pack: Final[Callable[[object], bytes]] = _packer.pack
"""Return the canonical msgpack of lists, strings, bytes, integers and None."""


def unpack(data: bytes) -> object:
    """Return what `pack` was given, lists for tuples."""
    return msgpack.unpackb(data, raw=False, strict_map_key=True)


def _unpack_foreign(data: bytes | memoryview, array_max: int) -> object:
    """Unpack bytes that anyone may have made.

    The limits keep a short header from claiming a huge length: msgpack allocates
    a list by the length it was told.

    Raises:
        Invalid: MALFORMED, whatever is wrong with them.
    """
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_array_len=array_max,
            max_map_len=_MAP_MAX,
        )
    except _UNPACK_ERRORS as error:
        raise Invalid(Code.MALFORMED, f"not one msgpack value: {type(error).__name__}") from None


def decode_command(type_: int, body: bytes, *, namespace: str, principal: str) -> c.ClientCommand:
    """Decode a client's request at the door.

    Args:
        type_: Message type of the frame.
        body: The frame's msgpack array, as received.
        namespace: Of the connection.
        principal: Of the connection.

    Raises:
        Invalid: With the code and text to answer. What passes here is accepted by
            `decode_entry` too, once spliced.
    """
    shape = validation.CLIENT.get(type_)
    if shape is None:
        raise Invalid(Code.UNKNOWN_TYPE, f"type {type_} is not a request that is logged")
    server_header(namespace, principal)
    # Wider than any list may be, so that one too long is refused by its name, not as bytes.
    unpacked = _unpack_foreign(body, 10 * LIMITS.batch_max)
    if type(unpacked) is not list:
        raise Invalid(Code.MALFORMED, "a request is a msgpack array")
    return shape(unpacked, namespace, principal)


def command_prefix(type_: int, namespace: str, principal: str) -> bytes:
    """Return the bytes that make a spliced command when the raw body follows them."""
    return _COMMAND_START + pack(int(type_)) + pack(namespace) + pack(principal)


def join_entry(now_ms: int, spliced: Sequence[bytes]) -> bytes:
    """Make a log entry of spliced commands.

    Args:
        now_ms: The leader's wall time, milliseconds since the Unix epoch.
        spliced: Each `command_prefix(...) + body` or from `encode_internal`.
    """
    assert 0 <= now_ms <= LIMITS.now_ms_max
    assert len(spliced) <= LIMITS.entry_commands_max
    head = _packer.pack_array_header(len(spliced))
    return b"".join((_ENTRY_START, _packer.pack(now_ms), head, *spliced))


def encode_internal(command: c.InternalCommand) -> bytes:
    """Return the spliced bytes of a command of the leader's own.

    Raises:
        Invalid: A setting is unknown or out of range. The leader applies the command as it
            made it and everybody else what these bytes decode to: they must be the same.
    """
    type_: c.CommandType
    body: list[object]
    match command:
        case c.Advance():
            type_, body = c.CommandType.ADVANCE, [0]
        case c.Expire():
            type_, body = c.CommandType.EXPIRE, [0, [list(lease) for lease in command.leases]]
        case c.ExpireSessions():
            type_, body = c.CommandType.EXPIRE_SESSIONS, [0, list(command.sessions)]
        case c.Retire():
            type_, body = c.CommandType.RETIRE, [0, list(command.task_ids)]
        case c.ChangeSettings():
            type_, body = c.CommandType.SETTINGS, [0, dict(command.changes), command.is_seed]
            validation.change_settings(body)
    return command_prefix(type_, "", "") + pack(body)


def decode_entry(entry: bytes) -> tuple[int, list[c.Command | c.Malformed]]:
    """Decode a log entry; never raises.

    Returns:
        The entry's time stamp and its commands. A command that is no command gives a
        `Malformed` in its place; an entry that is no entry gives (0, [Malformed]).
    """
    try:
        now_ms, listed = _entry_parts(entry)
    except Invalid as error:
        return 0, [c.Malformed(error.text)]
    return now_ms, _decode_all(listed)


def _entry_parts(entry: bytes) -> tuple[int, list[object]]:
    if not entry or entry[0] != ENTRY_VERSION:
        raise Invalid(Code.MALFORMED, f"not an entry of version {ENTRY_VERSION}")
    # To look at the rest in place costs more than to copy it, unless it is long.
    rest = entry[1:] if len(entry) < _COPIED_BYTES_MAX else memoryview(entry)[1:]
    parts = _unpack_foreign(rest, _ENTRY_COMMANDS_MAX)
    if type(parts) is not list or len(parts) != 2:
        raise Invalid(Code.MALFORMED, "an entry is a pair")
    now_ms, listed = parts
    if type(now_ms) is not int or not 0 <= now_ms <= _NOW_MS_MAX:
        raise Invalid(Code.MALFORMED, "an entry's time is out of range")
    if type(listed) is not list:
        raise Invalid(Code.MALFORMED, "an entry's commands are a list")
    return now_ms, listed


def _decode_all(listed: list[object]) -> list[c.Command | c.Malformed]:
    decoded: list[c.Command | c.Malformed] = []
    # Neighbours are mostly of one connection: what was right for one is for the next.
    right_namespace: object = None
    right_principal: object = None
    for item in listed:
        if type(item) is not list or len(item) != 4:
            decoded.append(c.Malformed("a command is a list of 4 elements"))
            continue
        type_, namespace, principal, body = item
        if type(type_) is not int or type(body) is not list:
            decoded.append(c.Malformed("a command's type is an integer and its body a list"))
            continue
        shape = _CLIENT_SHAPES.get(type_)
        try:
            if shape is None:
                decoded.append(_decode_internal(type_, body))
                continue
            if namespace != right_namespace or principal != right_principal:
                server_header(namespace, principal)
                right_namespace, right_principal = namespace, principal
            decoded.append(shape(body, namespace, principal))
        except Invalid as error:
            decoded.append(c.Malformed(error.text))
    return decoded


def _decode_internal(type_: int, body: list[object]) -> c.InternalCommand | c.Malformed:
    shape = validation.INTERNAL.get(type_)
    return c.Malformed(f"unknown command type {type_}") if shape is None else shape(body)
