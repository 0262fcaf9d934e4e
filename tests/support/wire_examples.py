"""The examples of docs/protocol.md: what is said, in words and in bytes.

A block looks like this::

    ```wire hello
    -> HELLO [1, 1, "till-7", {"namespace": "shop"}]
    00 00 00 1f 01 94 ...
    ```
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tq.protocol import Type

_BLOCK = re.compile(r"^```wire (?P<name>[a-z-]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_SAID = re.compile(r"(?P<arrow>->|<-) (?P<type>[A-Z_]+) (?P<payload>\[.*\])")
_TOKEN = re.compile(r"""(?P<text>"[^"]*")|h'(?P<hex>[0-9a-f]*)'|(?P<nil>\bnil\b)""")


@dataclass(frozen=True)
class Example:
    """One frame.

    Attributes:
        name: Of the block, and of the file it is cut into.
        said: The line in words.
        arrow: `->` from a client, `<-` from a node.
        type: The frame's type.
        payload: Its array.
        frame: The bytes, as the document has them.
    """

    name: str
    said: str
    arrow: str
    type: Type
    payload: list[object]
    frame: bytes

    def golden(self) -> str:
        """What the example's file holds."""
        return f"# {self.said}\n{hex_lines(self.frame)}"


def examples(document: str) -> Iterator[Example]:
    """Read all examples of a document.

    Raises:
        AssertionError: A block is not written as it should be; the text names it.
    """
    for block in _BLOCK.finditer(document):
        said, _, hexadecimal = block["body"].partition("\n")
        parts = _SAID.fullmatch(said)
        assert parts is not None, f"example {block['name']}: {said!r} says nothing"
        yield Example(
            name=block["name"],
            said=said,
            arrow=parts["arrow"],
            type=Type[parts["type"]],
            payload=_value(parts["payload"]),
            frame=bytes.fromhex(hexadecimal),
        )


def hex_lines(frame: bytes) -> str:
    """Write bytes as the document does: 24 to a line."""
    lines = [frame[start : start + 24].hex(" ") for start in range(0, len(frame), 24)]
    return "\n".join(lines) + "\n"


def _value(text: str) -> list[object]:
    def python(token: re.Match[str]) -> str:
        if token["nil"]:
            return "None"
        return token["text"] or repr(bytes.fromhex(token["hex"]))

    value = ast.literal_eval(_TOKEN.sub(python, text))
    assert isinstance(value, list)
    return value
