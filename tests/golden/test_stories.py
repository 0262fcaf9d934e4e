"""Every story reads the same as when it was written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.stories import play

FOLDER = Path(__file__).parent
TOPICS = (
    "dead_letters",
    "dedup",
    "delays",
    "leases",
    "limits",
    "priorities",
    "retention",
    "retries",
    "workers",
)
STORIES = [path for topic in TOPICS for path in sorted((FOLDER / topic).glob("*.txt"))]


def test_every_topic_has_its_stories() -> None:
    assert set(TOPICS) == {path.parent.name for path in STORIES}


@pytest.mark.parametrize("path", STORIES, ids=[f"{p.parent.name}/{p.stem}" for p in STORIES])
def test_the_story_reads_the_same(path: Path, rewrite: bool) -> None:
    told = path.read_text()
    seen = play(told)
    if rewrite:
        path.write_text(seen)
    assert told == seen, "rewrite with --rewrite, but only if you understand the difference"
