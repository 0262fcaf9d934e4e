"""Structured logs: one line an event, the same shape from every library.

Everything goes through the standard library's root logger and one formatter, so lines of
asyncio and aiohttp look like ours. On a terminal a line is made for people, otherwise it is
one JSON object with ``ts``, ``level``, ``event``, ``node``, ``role``, ``term`` first. Event
names are stable words with underscores (``node_starting``); what varies goes into fields.

Task payloads, results and credentials are never written: bytes appear as their length, and
fields with such names as ``***``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import structlog

Facts = Callable[[], Mapping[str, object]]
"""Gives the fields that change while a node runs (role, term); must not raise."""

_FIRST = ("ts", "level", "event", "node", "role", "term")
_FACTS = "_facts"
_HIDDEN = frozenset(
    {
        "api_key",
        "auth_token",
        "authorization",
        "body",
        "credential",
        "password",
        "payload",
        "private_key",
        "result",
        "secret",
    }
)

# What a terminal or a log viewer may act on: C0, DEL, C1, line separators, and the marks
# that reorder text (they can make a line read as something it is not).
_UNSAFE = [
    *range(0x20),
    *range(0x7F, 0xA0),
    0x200E,
    0x200F,
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
]
_ESCAPED = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _UNSAFE} | {
    0x0A: "\\n",
    0x0D: "\\r",
    0x09: "\\t",
}
_ESCAPED_LINES = {code: text for code, text in _ESCAPED.items() if code not in {0x0A, 0x09}}
_ESCAPED_JSON = {code: f"\\u{code:04x}" for code in _UNSAFE if code >= 0x7F}

_EventDict = MutableMapping[str, Any]


def configure(*, level: str, json_logs: bool | None = None, stream: TextIO | None = None) -> None:
    """Set up logging for this process; calling it again replaces the set-up.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        json_logs: One JSON object a line; None means JSON unless the stream is a terminal.
        stream: Where lines go; None means standard error, or nowhere when that is closed.
    """
    target = stream if stream is not None else sys.stderr
    is_terminal = target is not None and not target.closed and target.isatty()
    as_json = not is_terminal if json_logs is None else json_logs
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_facts,
        _add_time,
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        _hide,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler: logging.Handler = logging.NullHandler() if target is None else _Handler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(as_json=as_json, colors=is_terminal),
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        # Handlers of other owners (a test runner's, say) stay.
        if isinstance(old, _Handler | logging.NullHandler):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    logging.captureWarnings(capture=True)


def logger(
    *, facts: Facts | None = None, **fields: object
) -> structlog.typing.FilteringBoundLogger:
    """A logger that carries fields.

    Args:
        facts: Asked at each event for fields that change, such as role and term.
        **fields: Fields that stay, such as ``node=1``.
    """
    bound = dict(fields)
    if facts is not None:
        bound[_FACTS] = facts
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger("tq", **bound))


class _Handler(logging.StreamHandler[TextIO]):
    """A stream handler that survives its stream: a full or closed pipe costs only lines."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        del record

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().flush()


def _rendering(*, as_json: bool, colors: bool) -> list[structlog.typing.Processor]:
    if as_json:
        return [_render_json]
    return [
        _escape,
        structlog.dev.ConsoleRenderer(
            colors=colors,
            timestamp_key="ts",
            pad_event_to=24,
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]


def _add_facts(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    facts: Facts | None = event.pop(_FACTS, None)
    if facts is not None:
        for name, value in facts().items():
            event.setdefault(name, value)
    return event


def _add_time(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    event["ts"] = now.removesuffix("+00:00") + "Z"
    return event


def _hide(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    return {name: _harmless(name, value) for name, value in event.items()}


def _harmless(name: str, value: object) -> object:
    # A fencing token is a number and worth reading; a token of text lets somebody in.
    if name in _HIDDEN or (name == "token" and not isinstance(value, int)):
        return "***"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, dict):
        return {str(key): _harmless(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_harmless("", inner) for inner in value]
    return value


def _escape(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    return {
        name.translate(_ESCAPED): (
            # A traceback keeps its lines.
            str(value).translate(_ESCAPED_LINES if name == "exception" else _ESCAPED)
            if not isinstance(value, int | float | None)
            else value
        )
        for name, value in event.items()
    }


def _render_json(_logger: object, _method: str, event: _EventDict) -> str:
    ordered = {name: event[name] for name in _FIRST if name in event}
    ordered |= event
    line = json.dumps(ordered, default=str, ensure_ascii=False)
    return line.translate(_ESCAPED_JSON)
