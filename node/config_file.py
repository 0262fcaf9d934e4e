"""The YAML file as plain values, each with the place it was written at.

PyYAML's composer gives the node graph with line and column marks; this module walks it
once. Scalars are built by the safe constructor. What YAML allows and a configuration does
not need (repeated keys, anchors, several documents) is refused, since each of them has
silently given somebody a value they did not mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

FILE_BYTES_MAX = 1 << 20

Key = tuple[str, ...]
"""Path of a value: ``("raft", "peers", "2")``."""

_SECRET = re.compile(r"token|secret|passw|private|credential|authorization|api_?key", re.I)


class Mark(NamedTuple):
    """A place in the file, counted from 0."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """One mistake in the text of the file.

    Attributes:
        key: What it is about; empty when it is about the file.
        text: A sentence without the place.
        mark: Where, if it has a place.
    """

    key: Key
    text: str
    mark: Mark | None = None


@dataclass(slots=True)
class Document:
    """A configuration file, read but not yet understood.

    Attributes:
        name: The file as the operator named it, for messages.
        lines: Its text, for excerpts.
        values: Nested mappings with text keys, lists and scalars.
        key_marks: Where each key stands.
        value_marks: Where each value starts.
        flaws: Mistakes found on the way; the values without them are still usable.
    """

    name: str
    lines: list[str] = field(default_factory=list)
    values: dict[str, object] = field(default_factory=dict)
    key_marks: dict[Key, Mark] = field(default_factory=dict)
    value_marks: dict[Key, Mark] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)

    def excerpt(self, mark: Mark) -> str:
        """The line at ``mark`` with a caret below, secrets and control characters hidden."""
        if mark.line >= len(self.lines):
            return ""
        line = self.lines[mark.line].rstrip()
        if _SECRET.search(line):
            line = line.split(":", 1)[0] + ": ***"
        # One character for one, so that the caret stays under its column.
        line = "".join(char if char.isprintable() else " " for char in line)
        # A window, so that a file of one long line does not fill the screen.
        start = max(0, mark.column - 100)
        column = min(mark.column, len(line)) - start
        return f"    {line[start : start + 160]}\n    {' ' * column}^"


def read_file(path: Path) -> Document:
    """Read a configuration file; never raises for what the file is or holds.

    Args:
        path: At most 1 MiB of UTF-8 YAML.

    Returns:
        The document; its ``flaws`` say what was wrong.
    """
    document = Document(name=str(path))
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        document.flaws.append(Flaw((), f"cannot read the file: {reason}"))
        return document
    if len(data) > FILE_BYTES_MAX:
        document.flaws.append(Flaw((), "is larger than 1 MiB, this is not a configuration file"))
        return document
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start)
        document.flaws.append(Flaw((), "is not UTF-8 text here", Mark(line, 0)))
        return document
    return read_text(text, document=document)


def read_text(text: str, *, document: Document) -> Document:
    """Fill ``document`` from YAML text; mistakes go to its flaws."""
    document.lines = re.split(r"\r\n|\n|\r", text)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is not None:
            _Walk(document, loader).root(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Mark(mark.line, mark.column) if mark else None
        document.flaws.append(Flaw((), f"not valid YAML: {error.problem or error.context}", place))
    except yaml.YAMLError as error:
        # A character YAML does not allow: the reader knows its position only.
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position)
        column = position - (text.rfind("\n", 0, position) + 1)
        document.flaws.append(
            Flaw((), "not valid YAML: a character that is not allowed", Mark(line, column))
        )
    except RecursionError:
        document.flaws.append(Flaw((), "is nested too deeply"))
    return document


class _Walk:
    """One pass over the node graph of one document."""

    def __init__(self, document: Document, loader: yaml.SafeLoader) -> None:
        self._document = document
        self._loader = loader
        self._seen: set[int] = set()

    def root(self, node: yaml.Node) -> None:
        value = self._value(node, key=())
        if isinstance(value, dict):
            self._document.values = value
        elif value is not None:
            self._flaw((), "must be sections of keys, such as 'broker:'", node)

    def _value(self, node: yaml.Node, *, key: Key) -> object:
        if id(node) in self._seen:
            self._flaw(key, "anchors and aliases are not supported here", node)
            return None
        self._seen.add(id(node))
        self._document.value_marks[key] = _mark(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key=key)
        if isinstance(node, yaml.SequenceNode):
            return [
                self._value(item, key=(*key, str(place))) for place, item in enumerate(node.value)
            ]
        return self._scalar(node, key=key)

    def _mapping(self, node: yaml.MappingNode, *, key: Key) -> dict[str, object]:
        values: dict[str, object] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                self._flaw(key, "a key must be a plain word or number", name_node)
                continue
            name = str(name_node.value)
            path = (*key, name)
            if name in values:
                first = self._document.key_marks[path].line + 1
                self._flaw(path, f"repeated key (first on line {first})", name_node)
                continue
            self._document.key_marks[path] = _mark(name_node)
            values[name] = self._value(value_node, key=path)
        return values

    def _scalar(self, node: yaml.Node, *, key: Key) -> object:
        try:
            value: object = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            # Such as the date 2026-99-99, or a tag that names a Python object.
            self._flaw(key, "cannot be read as a value", node)
            return None
        return value

    def _flaw(self, key: Key, text: str, node: yaml.Node) -> None:
        self._document.flaws.append(Flaw(key, text, _mark(node)))


def _mark(node: yaml.Node) -> Mark:
    return Mark(node.start_mark.line, node.start_mark.column)
