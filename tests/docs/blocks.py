"""Fenced blocks of a document, read as a story that can be run.

Two kinds of block count:

- ``console``: a line ``$ command`` is run, the lines under it are expected in its output
  in this order; ``...`` in such a line stands for anything. A command that ends in ``&``
  stays in the background until the story ends, and what is expected of it is waited for.
- ``python``: must compile; with a file name it is written to that file of the story's folder.

A comment on the line above a block changes that::

    <!-- run: skip; why -->        not run
    <!-- run: file tasks.py -->    saved under this name
    <!-- run: until it works -->   each command is repeated until it succeeds (60 s)
    <!-- run: fresh start -->      first, what runs in the background is ended
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_FENCE: Final = re.compile(
    r"(?:^<!-- run: (?P<how>[^\n]*?) -->\n)?^```(?P<kind>[\w-]*)[^\n]*\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Command:
    """One ``$`` line and what is expected to appear."""

    text: str
    expected: list[str] = field(default_factory=list)

    @property
    def background(self) -> bool:
        """Whether it is left running."""
        return self.text.endswith("&") and not self.text.endswith("&&")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        kind: The word after the fence, "" if none.
        how: The instruction above it, "" if none.
        body: The text between the fences.
        line: Line of the document where the block begins, from 1.
    """

    kind: str
    how: str
    body: str
    line: int

    @property
    def skipped(self) -> bool:
        """Whether the document says, with a reason, that this is not run."""
        return self.how.startswith("skip;") and bool(self.how.removeprefix("skip;").strip())

    @property
    def file(self) -> str:
        """The file this block is saved to, or ""."""
        return self.how.removeprefix("file ").strip() if self.how.startswith("file ") else ""

    @property
    def patient(self) -> bool:
        """Whether its commands are repeated until they succeed."""
        return self.how == "until it works"

    @property
    def fresh(self) -> bool:
        """Whether what runs in the background is ended first."""
        return self.how == "fresh start"

    @property
    def misread(self) -> bool:
        """Whether there is an instruction nobody understands."""
        return bool(self.how) and not (self.skipped or self.file or self.patient or self.fresh)

    def commands(self) -> list[Command]:
        """Return the commands of a console block; a trailing backslash continues one."""
        found: list[Command] = []
        for line in self.body.replace("\\\n", "").splitlines():
            if line.startswith("$ "):
                found.append(Command(re.sub(r"\s+", " ", line[2:]).strip()))
            elif line.strip():
                if not found:
                    raise ValueError(f"line {self.line}: output before any command")
                found[-1].expected.append(line.strip())
        return found


def blocks(document: str) -> list[Block]:
    """Return the fenced blocks of a document in order."""
    return [
        Block(
            kind=match["kind"],
            how=match["how"] or "",
            body=match["body"],
            line=document.count("\n", 0, match.start()) + 1,
        )
        for match in _FENCE.finditer(document)
    ]


def missing(expected: list[str], output: str) -> str | None:
    """Return the first expected line that the output does not show in order, or None."""
    position = 0
    for line in expected:
        pattern = ".*?".join(re.escape(part) for part in line.split("..."))
        found = re.compile(pattern.replace(r"\ ", r"\s+")).search(output, position)
        if found is None:
            return line
        position = found.end()
    return None
