"""The golden log replays to its digests, and no damage to it makes apply raise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest

from statemachine import CommandType, Machine, Outcome, decode_entry
from tests.golden.log.generate import DIGESTS, LOG, entries, read, replay
from tests.unit.statemachine.player import MemoryArchive

ROOT = Path(__file__).parents[3]
INDEXES = range(len(read()))


def test_the_golden_log_replays_to_its_digests() -> None:
    assert DIGESTS.read_text() == replay(read())


def test_the_generator_writes_the_golden_log() -> None:
    assert read() == entries()


def test_the_golden_log_uses_every_command() -> None:
    used = {
        item[0]
        for entry in read()
        for item in msgpack.unpackb(entry[1:])[1]
        if isinstance(item, list)
    }
    assert used == set(CommandType)


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_the_seed_of_python_s_hash_changes_nothing(hash_seed: str) -> None:
    program = "from tests.golden.log.generate import *; print(replay(read()), end='')"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    seen = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert DIGESTS.read_text() == seen.stdout


def telling(byte: int) -> list[int]:
    """Values that hurt most: every bit flipped, and the markers of msgpack."""
    return list(dict.fromkeys([*(byte ^ (1 << bit) for bit in range(8)), 0xC0, 0xC1, 0xDD, 0xFF]))


def others(byte: int) -> list[int]:
    """Every other value."""
    return [value for value in range(256) if value != byte]


def mutations(entry: bytes, values: Callable[[int], list[int]]) -> Iterator[bytes]:
    """Each byte replaced, left out, repeated; and the entry cut before it."""
    for position, byte in enumerate(entry):
        head, tail = entry[:position], entry[position + 1 :]
        yield from (head + bytes([value]) + tail for value in values(byte))
        yield from (head, head + tail, head + bytes([byte]) * 2 + tail)


@pytest.mark.parametrize("number", INDEXES)
def test_no_mutation_of_an_entry_makes_apply_raise(number: int) -> None:
    apply_mutations(number, telling)


@pytest.mark.long
@pytest.mark.parametrize("number", INDEXES)
def test_no_value_of_any_byte_makes_apply_raise(number: int) -> None:
    apply_mutations(number, others)


def apply_mutations(number: int, values: Callable[[int], list[int]]) -> None:
    """Apply the golden log up to one entry, then every mutation of that one."""
    listed = read()
    machine = Machine(MemoryArchive())
    for index in range(number):
        machine.apply(index + 1, listed[index])
    index = number
    for entry in mutations(listed[number], values):
        index += 1
        assert isinstance(machine.apply(index, entry), Outcome)
        assert machine.digest_chain == (0, bytes(32))
    assert len(machine.digest()) == 32


def test_the_log_file_is_whole() -> None:
    assert LOG.stat().st_size == sum(len(entry) + 4 for entry in read())
    assert all(decode_entry(entry)[0] > 0 for entry in read())
