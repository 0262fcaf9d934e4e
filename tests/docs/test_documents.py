"""Every command of the README and of the documents is run; every Python block compiles."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

from deploy.local.ports import free_ports
from tests.docs.blocks import blocks
from tests.docs.story import Story

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENTS: Final = sorted(
    path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
)
STORIES: Final = [
    name
    for name in DOCUMENTS
    if any(b.kind == "console" and not b.skipped for b in blocks((ROOT / name).read_text("utf-8")))
]
_PORTS: Final = 24


@pytest.mark.process
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STORIES)
def test_what_a_document_tells_the_reader_to_type_works(name: str, tmp_path: Path) -> None:
    story = Story(tmp_path, ports=free_ports(_PORTS))
    try:
        for block in blocks((ROOT / name).read_text(encoding="utf-8")):
            story.run(block)
        story.finish()
    finally:
        story.close()


def test_the_readme_is_among_the_stories() -> None:
    assert "README.md" in STORIES


@pytest.mark.parametrize("name", DOCUMENTS)
def test_python_in_documents_compiles(name: str) -> None:
    for block in blocks((ROOT / name).read_text(encoding="utf-8")):
        if block.kind == "python" and not block.skipped:
            compile(block.body, f"{name}:{block.line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_are_in_blocks_that_are_run_or_say_why_not(name: str) -> None:
    found = blocks((ROOT / name).read_text(encoding="utf-8"))
    shells = {"sh", "bash", "shell", "shell-session"}
    assert [b.line for b in found if b.kind in shells] == [], "use console and $"
    assert [b.line for b in found if b.misread] == []
    assert [b.line for b in found if b.kind == "console" and not b.commands()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_in_documents_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block in blocks((ROOT / name).read_text(encoding="utf-8")):
        for command in block.commands() if block.kind == "console" else ():
            words = command.text.split()
            if words[0] == "make":
                targets = [word for word in words[1:] if "=" not in word]
                assert [t for t in targets if f"\n{t}:" not in makefile] == []
