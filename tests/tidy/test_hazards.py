"""The index of hazards is whole, and what it names exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "hazards.md"
_NAME: Final = re.compile(r"`([^`]*?\.py::[^`]+)`")
_NUMBERS: Final = (
    *("H1", "H2", "H3", "H4", "H5", "H6", "H7", "H8"),
    *(f"H9{letter}" for letter in "abcdefghijk"),
    *(f"P{number}" for number in range(1, 11)),
)


class Hazard(NamedTuple):
    """One section of the page: its names by the word in front of them."""

    number: str
    red: tuple[str, ...]
    fix: tuple[str, ...]
    green: tuple[str, ...]
    planted: tuple[str, ...]


def read(page: str) -> Iterator[Hazard]:
    """Every section whose heading starts with a hazard's number."""
    for section in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        number = section.split(".", 1)[0]
        found = {
            word: tuple(_NAME.findall(line))
            for word, line in re.findall(r"^- (red|fix|green|planted): (.*)$", section, re.M)
        }
        yield Hazard(number, *(found.get(word, ()) for word in ("red", "fix", "green", "planted")))


HAZARDS: Final = tuple(read(PAGE.read_text(encoding="utf-8")))


def _placed(name: str, folder: str) -> str:
    return name if "/" in name.split("::", maxsplit=1)[0] else f"{folder}/{name}"


@cache
def _collected() -> frozenset[str]:
    """The ids pytest finds in the files the page names, with and without parameters."""
    names = {_placed(n, "tests/unit/cluster") for h in HAZARDS for n in h.red + h.green}
    files = sorted({name.split("::")[0] for name in names})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    ids = frozenset(line for line in done.stdout.splitlines() if "::" in line)
    assert ids, done.stdout + done.stderr
    return ids | {line.split("[", 1)[0] for line in ids}


def _symbols(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Classes, functions and constants of a module, methods by `Class.method`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from _symbols(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign):
            yield from (prefix + t.id for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield prefix + node.target.id


def _exists(name: str, folder: str) -> bool:
    path, _, symbol = _placed(name, folder).partition("::")
    source = ROOT / path
    return source.exists() and symbol in _symbols(ast.parse(source.read_text(encoding="utf-8")))


@pytest.mark.parametrize("number", _NUMBERS)
def test_no_hazard_is_missing(number: str) -> None:
    assert [h for h in HAZARDS if h.number == number or h.number[:-1] == number]


def test_no_hazard_is_there_twice() -> None:
    numbers = [hazard.number for hazard in HAZARDS]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda hazard: hazard.number)
def test_a_hazard_has_a_red_test_a_fix_and_a_green_test(hazard: Hazard) -> None:
    assert hazard.red
    assert hazard.fix
    assert hazard.green
    missing = [
        name
        for name in hazard.red + hazard.green
        if _placed(name, "tests/unit/cluster") not in _collected()
    ]
    assert missing == []
    gone = [name for name in hazard.fix if not _exists(name, "cluster")]
    gone += [name for name in hazard.planted if not _exists(name, "tests/simulation/plants")]
    assert gone == []


def test_every_name_on_the_page_is_under_a_word_that_is_checked() -> None:
    page = PAGE.read_text(encoding="utf-8")
    read_names = sum(len(h.red + h.fix + h.green + h.planted) for h in HAZARDS)
    assert len(_NAME.findall(page)) == read_names


@pytest.mark.parametrize("name", ["log.py::Log.no_such", "nowhere.py::Log", "log.py::cut_to"])
def test_a_name_that_does_not_exist_is_noticed(name: str) -> None:
    assert not _exists(name, "cluster")
