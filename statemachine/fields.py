"""Checks of single fields: each returns the value, typed, or raises `Invalid` naming it."""

from __future__ import annotations

from typing import Final

from statemachine.types import LIMITS, Code, Invalid

TOKEN_MAX: Final = (1 << 63) - 1


def bad(text: str) -> Invalid:
    """Return the refusal of a field."""
    return Invalid(Code.BAD_REQUEST, text)


def sized(body: list[object], size: int) -> None:
    """Check the number of elements."""
    if len(body) != size:
        raise wrong_size(body, size)


def wrong_size(body: list[object], size: int) -> Invalid:
    """Return the refusal of a body that has not `size` elements."""
    return bad(f"expected {size} elements, got {len(body)}")


def integer(value: object, field: str, low: int, high: int) -> int:
    """Check an integer; True is none."""
    if type(value) is not int or not low <= value <= high:
        raise bad(f"{field} must be an integer {low}..{high}")
    return value


def request_id(value: object) -> int:
    """Check a request id."""
    if type(value) is not int or value < 0:
        raise bad("request_id must be an integer 0..18446744073709551615")
    return value


def text(value: object, field: str, bytes_max: int) -> str:
    """Check a string against a number of bytes."""
    if type(value) is not str:
        raise bad(f"{field} must be a string")
    # A character takes up to four bytes: count them only where it can matter.
    if len(value) * 4 > bytes_max and len(value.encode()) > bytes_max:
        raise Invalid(Code.TOO_LARGE, f"{field} is longer than {bytes_max} bytes")
    return value


def blob(value: object, field: str) -> bytes:
    """Check a payload or a result."""
    if type(value) is not bytes:
        raise bad(f"{field} must be binary")
    if len(value) > LIMITS.payload_bytes_max:
        raise Invalid(Code.TOO_LARGE, f"{field} is longer than {LIMITS.payload_bytes_max} bytes")
    return value


def id16(value: object, field: str) -> bytes:
    """Check an id of 16 bytes."""
    if type(value) is not bytes or len(value) != 16:
        raise bad(f"{field} must be 16 bytes")
    return value


def token(value: object) -> int:
    """Check a token."""
    return integer(value, "token", 0, TOKEN_MAX)


def items(value: object, field: str, low: int, high: int) -> list[object]:
    """Check a list."""
    if type(value) is not list or not low <= len(value) <= high:
        raise bad(f"{field} must be a list of {low}..{high}")
    return value
