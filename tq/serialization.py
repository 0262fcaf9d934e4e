"""What a task's arguments and result look like in bytes.

A call is the JSON object `{"args": [...], "kwargs": {...}}` and a result is any JSON
value, both in UTF-8: a worker or a caller in another language needs nothing of ours.
Only formats that cannot run code when read have a place here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tq.errors import TqError


class SerializationError(TqError):
    """A value cannot be written as bytes, or bytes are not what was expected."""


class Serializer(Protocol):
    """Turns calls and results into bytes and back.

    Every method raises `SerializationError` and nothing else.
    """

    def dump_call(self, args: Sequence[object], kwargs: Mapping[str, object]) -> bytes:
        """Write the arguments of one call."""

    def load_call(self, payload: bytes) -> tuple[list[Any], dict[str, Any]]:
        """Read the arguments of one call."""

    def dump_result(self, value: object) -> bytes:
        """Write what a task returned."""

    def load_result(self, data: bytes) -> Any:  # noqa: ANN401 - the task's return type is the caller's
        """Read what a task returned."""


class JsonSerializer:
    """The default serializer.

    JSON is stricter than Python: tuples come back as lists, keys of mappings as text.
    NaN and infinities are refused, because other languages cannot read them.
    """

    def dump_call(self, args: Sequence[object], kwargs: Mapping[str, object]) -> bytes:
        """Write `{"args": [...], "kwargs": {...}}`."""
        return _dump({"args": list(args), "kwargs": dict(kwargs)}, what="the arguments")

    def load_call(self, payload: bytes) -> tuple[list[Any], dict[str, Any]]:
        """Read a call; either half may be missing, and no bytes at all is a call without arguments.

        Raises:
            SerializationError: The payload is not a call.
        """
        call = _load(payload, what="the payload") if payload else {}
        if not isinstance(call, dict) or not call.keys() <= {"args", "kwargs"}:
            raise SerializationError(
                'the payload is not a call: expected {"args": [], "kwargs": {}}'
            )
        args, kwargs = call.get("args", []), call.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise SerializationError("the payload is not a call: args is a list, kwargs an object")
        return args, kwargs

    def dump_result(self, value: object) -> bytes:
        """Write one JSON value."""
        return _dump(value, what="the result")

    def load_result(self, data: bytes) -> Any:  # noqa: ANN401 - the task's return type is the caller's
        """Read one JSON value; no bytes at all is None."""
        return _load(data, what="the result") if data else None


def _dump(value: object, *, what: str) -> bytes:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SerializationError(f"{what} cannot be written as JSON: {error}") from error


def _load(data: bytes, *, what: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SerializationError(f"{what} is not JSON: {error}") from error
