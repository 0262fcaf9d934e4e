"""How answers are shown: aligned columns for people, JSON or YAML for programs."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import click

OutputFormat = Literal["table", "json", "yaml"]
OUTPUT_FORMATS: Final[tuple[OutputFormat, ...]] = ("table", "json", "yaml")

SCHEMA: Final = 1
"""Version of the JSON documents. It grows when a field goes or changes its meaning."""

Document: TypeAlias = Mapping[str, Any]


def emit(document: Document, text: str, *, output: OutputFormat) -> None:
    """Write an answer to stdout.

    Args:
        document: The answer for programs; `schema` is put in front.
        text: The answer for people, without a final line feed.
        output: Which of them, and how.
    """
    document = {"schema": SCHEMA, **document}
    if output == "json":
        click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=plain))
    elif output == "yaml":
        import yaml  # noqa: PLC0415 -- only who asks for it pays for it

        readable = json.loads(json.dumps(document, default=plain))
        click.echo(yaml.safe_dump(readable, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(text)


def plain(value: object) -> object:
    """Turn bytes into hexadecimal text for JSON, which has none."""
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def readable(data: bytes | None) -> Any:  # noqa: ANN401 -- any JSON value
    """Return a payload or result as JSON if it is that; else its bytes in base64, said so."""
    if data is None:
        return None
    try:
        return json.loads(data)
    except ValueError:
        return {"base64": base64.b64encode(data).decode()}


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Align rows under their columns; numbers to the right, nothing is ever cut.

    None is shown as `-`.
    """
    cells = [["-" if value is None else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = [
        bool(rows) and all(value is None or isinstance(value, int | float) for value in column)
        for column in (zip(*rows, strict=True) if rows else ((),) * len(columns))
    ]
    lines = []
    for row in [list(columns), *cells]:
        padded = [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def fields(pairs: Mapping[str, object]) -> str:
    """Show one thing, a line per field."""
    width = max(map(len, pairs))
    return "\n".join(
        f"{name.ljust(width)}  {'-' if value is None else value}" for name, value in pairs.items()
    )


def moment(at_ms: int | None, *, now_ms: int) -> str | None:
    """Show a moment as UTC, with how long ago it was or how far ahead it is."""
    if at_ms is None:
        return None
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return f"{at} ({span(now_ms - at_ms)})"


def span(passed_ms: int) -> str:
    """Say a span of time in two units at most: `3m 20s ago`, `in 2h 5m`."""
    left = abs(passed_ms) // 1000
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    said = " ".join(parts[:2]) or "0s"
    return f"{said} ago" if passed_ms >= 0 else f"in {said}"
