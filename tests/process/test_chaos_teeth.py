"""`python -m tests.chaos_teeth`: one bug in real nodes turns the suite red, and nothing else does.

All of them take a quarter of an hour: `make chaos-teeth`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos_teeth.__main__ import main

pytestmark = [
    pytest.mark.process,
    pytest.mark.long,
    pytest.mark.alone,  # gaps of sound nodes are judged
]


def test_a_bug_in_every_node_turns_the_suite_red_and_sound_nodes_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--only", "lease-token", "--out", str(tmp_path)])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "fencing" in told
    assert "1 bugs, 1 found" in told
