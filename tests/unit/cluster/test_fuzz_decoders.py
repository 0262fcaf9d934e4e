"""Whatever bytes come, a decoder gives what it means or its own error, and stays small."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.handshake import Kind
from cluster.messages import Message
from cluster.wire import HANDSHAKE_MAX_BYTES, Decoder, WireError, encode
from tests.fuzz import corpus
from tests.fuzz.targets import SIMPLE, Handshake, Target, framed
from tests.support.authority import Authority

ROUNDS = 300


@pytest.mark.parametrize("target", SIMPLE, ids=lambda target: target.__name__)
async def test_mutated_examples_break_nothing(target: Target, rng: random.Random) -> None:
    base = rng.getrandbits(40)
    for number in range(base, base + ROUNDS):
        try:
            target(random.Random(number))
        except Exception as error:
            replay = f"--target {target.__name__} --seed {number} --rounds 1"
            raise AssertionError(f"replay with: python -m tests.fuzz {replay}") from error


async def test_mutated_tls_breaks_nothing(rng: random.Random, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    target = Handshake(authority.tls(3), authority.tls(1))
    base = rng.getrandbits(40)
    for number in range(base, base + 60):
        target(random.Random(number))


@given(length=st.integers(0, 2**32 - 1), piece=st.binary(min_size=1, max_size=300))
@settings(max_examples=50)
def test_no_announced_length_makes_a_decoder_keep_more_than_its_bound(
    length: int, piece: bytes
) -> None:
    decoder = Decoder(HANDSHAKE_MAX_BYTES)
    try:
        decoder.feed(length.to_bytes(4, "big") + bytes(4))
        for _ in range(2 * HANDSHAKE_MAX_BYTES // len(piece)):
            while decoder.next() is not None:
                pass
            decoder.feed(piece)
            assert decoder._held_bytes <= HANDSHAKE_MAX_BYTES + 8 + len(piece)
    except WireError:
        assert decoder._later == []


def test_a_stranger_costs_little_memory_before_its_handshake_whatever_it_packs() -> None:
    worst = [b"\x90" * 4000, b"\x80" * 4000, b"\xc0" * 4000, b"\x91" * 4000]
    tracemalloc.start()
    try:
        for body in worst:
            for opening in (b"\xdc\x0f\xa0", b"\x91", b"\xdd\x7f\xff\xff\xff"):
                decoder = Decoder(HANDSHAKE_MAX_BYTES)
                decoder.feed(framed(opening + body))
                try:
                    decoder.next()
                except WireError:
                    continue
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 << 20


def test_every_kind_of_frame_and_every_message_is_in_the_corpus() -> None:
    assert {fields[0] for fields in corpus.FRAMES} == {int(kind) for kind in Kind}
    assert {type(message) for message in corpus.MESSAGES} == set(get_args(Message))
    for fields in corpus.FRAMES:
        decoder = Decoder(1 << 20)
        decoder.feed(encode(list(fields)))
        assert decoder.next() is not None
