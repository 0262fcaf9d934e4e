"""A Dockerfile read as what the tests ask of it: stages, and the instructions of each."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
DOCKERFILE: Final = ROOT / "deploy" / "Dockerfile"
IGNORE_FILE: Final = ROOT / "deploy" / "Dockerfile.dockerignore"

KNOWN: Final = {
    *("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN"),
    *("STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}


class Instruction(NamedTuple):
    """One instruction: its word, and the rest of its lines in one."""

    word: str
    rest: str

    def words(self) -> list[str]:
        """Return the arguments of its exec form; those in JSON, which nothing else may be."""
        found: list[str] = json.loads(self.rest)
        return found


@dataclass
class Stage:
    """One `FROM ... AS name`.

    Attributes:
        name: After AS.
        base: An earlier stage, or an image.
        instructions: Its own, not those of its base.
    """

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)


def stages(text: str = "") -> dict[str, Stage]:
    """Return the stages by name in order.

    Args:
        text: Of a Dockerfile; the tree's own unless given.
    """
    found: dict[str, Stage] = {}
    latest: Stage | None = None
    for instruction in instructions(text or DOCKERFILE.read_text(encoding="utf-8")):
        assert instruction.word in KNOWN, f"nobody knows {instruction.word}"
        if instruction.word == "FROM":
            base, _, name = instruction.rest.partition(" AS ")
            assert name, f"a stage without a name: FROM {base}"
            latest = found[name] = Stage(name, base)
        elif latest is not None:
            latest.instructions.append(instruction)
        else:
            assert instruction.word == "ARG", f"{instruction.word} before any FROM"
    return found


def instructions(text: str) -> list[Instruction]:
    """Return all instructions, comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        Instruction(word, rest.strip())
        for line in joined.splitlines()
        if line.strip()
        for word, _, rest in [line.strip().partition(" ")]
    ]


def effective(name: str) -> list[Instruction]:
    """Return what holds for a stage of the tree's Dockerfile: what its bases say, then its own."""
    every = stages()
    chain: list[Stage] = []
    while name in every:
        chain.append(every[name])
        name = every[name].base
    return [one for stage in reversed(chain) for one in stage.instructions]


def last(name: str, word: str) -> str:
    """Return what the last instruction of a kind says that holds for a stage."""
    return [one.rest for one in effective(name) if one.word == word][-1]


def entrypoint(name: str) -> list[str]:
    """Return what an image of a stage runs."""
    return Instruction("ENTRYPOINT", last(name, "ENTRYPOINT")).words()


def copied() -> list[tuple[str, str]]:
    """Return (stage, path of the tree) for everything that is copied from the tree."""
    return [
        (stage.name, source)
        for stage in stages().values()
        for one in stage.instructions
        if one.word == "COPY" and not one.rest.startswith("--from=")
        for source in one.rest.split()[:-1]
    ]
