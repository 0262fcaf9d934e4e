"""Folders of sockets: none before a run has started, and those of killed harnesses go."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from chaos.proxies import Proxies, sweep_places


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def test_a_proxy_that_never_starts_leaves_no_folder(tmp_path: Path, temporary: Path) -> None:
    Proxies(tmp_path)
    assert list(temporary.iterdir()) == []


def test_folders_of_harnesses_that_are_gone_are_removed_and_no_others(temporary: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()
    for name in (f"{gone}-ab", f"{os.getpid()}-cd", "notes-x"):
        (temporary / f"tq-chaos-{name}").mkdir()
    (temporary / f"tq-chaos-{gone}-ab" / "proxy").touch()
    assert sweep_places() == [temporary / f"tq-chaos-{gone}-ab"]
    left = {path.name for path in temporary.iterdir()}
    assert left == {f"tq-chaos-{os.getpid()}-cd", "tq-chaos-notes-x"}
