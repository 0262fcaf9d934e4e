"""One bit flips in the files of a stopped node: harmless or noticed, at every start."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cluster.watermark import COPIES, COPY_BYTES, HIGH_WATER_FILE
from tests.support.flips import Journal, Outcome, flip_and_start, make_journal, spread

ALONE, THREE = (1,), (1, 2, 3)
NOTICED: dict[tuple[int, ...], Outcome] = {ALONE: "refused", THREE: "amnesiac"}
LOG, TABLES = "db/*.log", "db/*.sst"
EVERYTHING = 1 << 30

log = logging.getLogger(__name__)
"""`--log-cli-level=info` shows the figures of a run."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: thousands of starts are synced in it."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as path:
        yield Path(path)


def flip_each(
    journal: Journal,
    file: Path,
    offsets: Iterable[int],
    *,
    place: Path,
    seed: int,
    twice_every: int = 1,
) -> Counter[Outcome]:
    """Flip one bit at each offset; nothing may be lost silently, no start may fail twice."""
    logging.disable(logging.CRITICAL)
    outcomes: Counter[Outcome] = Counter()
    try:
        for offset in offsets:
            rng = random.Random(f"{seed} {offset}")
            outcome, said = flip_and_start(
                journal, file, offset, place=place, rng=rng, twice=offset % twice_every == 0
            )
            what = f"offset {offset} of {file}, seed {seed}: {outcome}: {said}"
            assert outcome in {"harmless", "amnesiac", "refused"}, what
            outcomes[outcome] += 1
    finally:
        logging.disable(logging.NOTSET)
    return outcomes


@pytest.mark.parametrize("voters", [ALONE, THREE], ids=["alone", "three"])
def test_a_flip_in_the_journal_is_harmless_or_noticed(
    place: Path, seed: int, voters: tuple[int, ...]
) -> None:
    journal = make_journal(place, 20, voters=voters)
    [file] = journal.named(LOG)
    outcomes = flip_each(
        journal, file, spread(25, len(journal.files[file])), place=place, seed=seed
    )
    assert set(outcomes) == {NOTICED[voters]}, "every byte of it belongs to a synced batch"


@pytest.mark.parametrize("voters", [ALONE, THREE], ids=["alone", "three"])
@pytest.mark.parametrize("name", ["db/CURRENT", "db/MANIFEST-*", "identity"])
def test_a_flip_in_a_file_that_is_read_at_every_start_is_noticed(
    place: Path, seed: int, voters: tuple[int, ...], name: str
) -> None:
    journal = make_journal(place, 3, voters=voters)
    [file] = journal.named(name)
    outcomes = flip_each(journal, file, spread(6, len(journal.files[file])), place=place, seed=seed)
    assert set(outcomes) == {"refused" if name == "identity" else NOTICED[voters]}


def test_a_flip_in_one_copy_of_the_mark_is_harmless(place: Path, seed: int) -> None:
    journal = make_journal(place, 3)
    [file] = journal.named(HIGH_WATER_FILE)
    assert len(journal.files[file]) == COPIES * COPY_BYTES
    offsets = [*range(0, 60, 9), *range(COPY_BYTES, COPY_BYTES + 60, 9)]
    outcomes = flip_each(journal, file, offsets, place=place, seed=seed)
    assert set(outcomes) == {"harmless"}


@pytest.mark.parametrize("name", ["db/OPTIONS-*", "db/IDENTITY", "db/rocksdict-config.json"])
def test_a_flip_in_a_file_that_nothing_depends_on_is_harmless(
    place: Path, seed: int, name: str
) -> None:
    journal = make_journal(place, 3)
    [file] = journal.named(name)
    outcomes = flip_each(journal, file, spread(4, len(journal.files[file])), place=place, seed=seed)
    assert set(outcomes) == {"harmless"}


@pytest.mark.parametrize("voters", [ALONE, THREE], ids=["alone", "three"])
def test_a_flip_in_a_table_is_harmless_or_noticed(
    place: Path, seed: int, voters: tuple[int, ...]
) -> None:
    journal = make_journal(place, 20, voters=voters, tables=True)
    outcomes: Counter[Outcome] = Counter()
    for file in journal.named(TABLES):
        offsets = spread(8, len(journal.files[file]))
        outcomes += flip_each(journal, file, offsets, place=place, seed=seed)
    assert outcomes[NOTICED[voters]] > outcomes["harmless"], outcomes


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("half", [0, 1], ids=["even", "odd"])  # each on a processor of its own
@pytest.mark.parametrize(
    ("entries", "count"), [(20, EVERYTHING), (2_000, 2_000)], ids=["every-offset", "spread"]
)
def test_flips_all_over_a_journal_are_harmless_or_noticed(
    place: Path, seed: int, entries: int, count: int, half: int
) -> None:
    journal = make_journal(place, entries)
    [file] = journal.named(LOG)
    size = len(journal.files[file])
    offsets = list(spread(count, size))[half::2]
    outcomes = flip_each(journal, file, offsets, place=place, seed=seed, twice_every=4)
    log.info("%d entries, log of %d bytes: %s", entries, size, dict(outcomes))
    assert outcomes.total() == (min(count, size) + 1 - half) // 2
    assert set(outcomes) == {"amnesiac"}
