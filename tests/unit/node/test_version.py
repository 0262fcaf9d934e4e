from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from node import version as module
from node.version import version

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    version.cache_clear()


def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)


def test_a_tree_that_was_never_installed_knows_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_installed(monkeypatch)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == version()


@pytest.mark.parametrize("text", ["", "no toml", '[project]\nname = "other"\nversion = "9"', None])
def test_a_foreign_project_file_gives_no_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    nothing_installed(monkeypatch)
    path = tmp_path / "pyproject.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(module, "_PROJECT", path)
    assert version() == "unknown"
