"""What the documents point at is there: the tests behind promises, the texts operators read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
GUARANTEES: Final = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
OPERATIONS: Final = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
_GAP: Final = "\0"


def rows(document: str, first_heading: str) -> list[list[str]]:
    """Return the rows of the tables whose first column is headed so."""
    found: list[list[str]] = []
    inside = False
    for line in document.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if inside and not cells[0].startswith("---"):
            found.append(cells)
        inside = inside or cells[0] == first_heading
    return found


def defined(path: Path) -> set[str]:
    """Return the names of all functions of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def missing_reference(reference: str) -> str | None:
    """Say what of `file::name` or `file` is not there, None when all of it is."""
    name, _, function = reference.partition("::")
    path = ROOT / name
    if not path.is_file():
        return f"{name}: no such file"
    if function and function not in defined(path):
        return f"{name}: defines no {function}"
    return None


def said(tree: ast.AST) -> Iterator[str]:
    """Yield every text of a module, with a gap where a value is put in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            values = [v.value if isinstance(v, ast.Constant) else _GAP for v in node.values]
            yield "".join(str(value) for value in values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%(\.0f|[sdr])", _GAP, node.value)


def pattern(quoted: str) -> re.Pattern[str]:
    """Return what finds a quoted text in the code; `...` stands for values put in."""
    return re.compile(f".*{_GAP}.*".join(re.escape(part) for part in quoted.split("...")), re.S)


TEXTS: Final = [
    text
    for package in ("cluster", "node", "tq")
    for path in sorted((ROOT / package).glob("*.py"))
    for text in said(ast.parse(path.read_text(encoding="utf-8")))
]
PROMISES: Final = [cells[0].split()[0] for cells in rows(GUARANTEES, "Name")]
SHOWN: Final = {cells[0]: cells[1] for cells in rows(GUARANTEES, "Promise")}
QUOTED: Final = [
    quoted
    for heading in ("Text", "It says", "`event`", "`event` contains")
    for cells in rows(OPERATIONS, heading)
    for quoted in re.findall(r"`([^`]+)`", cells[0])
]


def test_every_promise_has_its_tests() -> None:
    assert len(PROMISES) == len(set(PROMISES)) >= 15
    assert sorted(PROMISES) == sorted(SHOWN)
    assert [name for name, cell in SHOWN.items() if "tests/" not in cell] == []


@pytest.mark.parametrize("document", [GUARANTEES, OPERATIONS], ids=["guarantees", "operations"])
def test_the_tests_a_document_names_are_there(document: str) -> None:
    references = re.findall(r"`(tests/[\w./]+(?:::\w+)?)`", document)
    assert references
    assert [flaw for flaw in map(missing_reference, references) if flaw] == []


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_text_an_operator_is_told_to_look_for_is_in_the_code(quoted: str) -> None:
    assert any(pattern(quoted).search(text) for text in TEXTS)


@pytest.mark.parametrize(
    "reference", ["tests/docs/no_such_file.py", "tests/docs/test_promises.py::no_such_test"]
)
def test_a_reference_to_nothing_is_noticed(reference: str) -> None:
    assert missing_reference(reference) is not None


@pytest.mark.parametrize("invented", ["the database ... is on fire", "node_exploded"])
def test_a_text_nobody_says_is_noticed(invented: str) -> None:
    assert not any(pattern(invented).search(text) for text in TEXTS)
