"""docs/protocol.md, byte by byte: its examples are what the implementation says.

`pytest --rewrite` cuts the examples into tests/golden/wire/ anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wire_examples import Example, examples, hex_lines
from tq import protocol
from tq.protocol import Decoder, Type, encode, unpack

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests/golden/wire"
DOCUMENT = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
EXAMPLES = list(examples(DOCUMENT))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_the_bytes_that_are_sent(example: Example) -> None:
    expected = encode(example.type, example.payload)
    assert example.frame == expected, f"should be\n{hex_lines(expected)}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_read_as_what_it_says(example: Example) -> None:
    [(message_type, body)] = Decoder().feed(example.frame)
    assert (message_type, unpack(body)) == (example.type, example.payload)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_said_by_the_right_side(example: Example) -> None:
    assert example.arrow == ("->" if example.type < 0x80 else "<-")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_golden_frame_is_its_example(example: Example, rewrite: bool) -> None:
    path = GOLDEN / f"{example.name}.hex"
    if rewrite:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(example.golden(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == example.golden()


def test_every_golden_frame_has_an_example_and_no_two_share_a_name() -> None:
    names = [example.name for example in EXAMPLES]
    assert len(names) == len(set(names))
    assert {path.stem for path in GOLDEN.iterdir()} == set(names)


def test_every_type_has_an_example_and_a_heading_with_its_number() -> None:
    assert {example.type for example in EXAMPLES} == set(Type)
    for one in Type:
        assert f"\n### {one.name} 0x{one:02X}\n" in DOCUMENT


def test_a_block_that_says_nothing_is_noticed() -> None:
    with pytest.raises(AssertionError, match="example bad"):
        list(examples("```wire bad\nHELLO 1\n00\n```\n"))


@pytest.mark.parametrize(
    "text",
    [
        f"({protocol.FRAME_MAX_BYTES:,})",
        f"({protocol.FRAME_BEFORE_HELLO_MAX_BYTES:,})",
        f"listens on port {protocol.DEFAULT_PORT}",
        f"| payload, result | {protocol.PAYLOAD_MAX_BYTES // 2**20} MiB |",
        f"| error text | {protocol.ERROR_MAX_BYTES // 2**10} KiB |",
        f"| note, reason | {protocol.NOTE_MAX_BYTES // 2**10} KiB |",
        f"| name | {protocol.NAME_MAX_BYTES} characters |",
        f"| tasks of a list, entries of LOG_HASHES | {protocol.LIST_MAX} |",
        f"| `limit` | int 1..{protocol.LIST_MAX} | {protocol.LIST_DEFAULT} |",
        f"limit | int 1..{protocol.LIST_MAX} |",
        f"| tasks in a batch | {protocol.BATCH_TASKS_MAX} |",
        f"| queues in a claim | {protocol.CLAIM_QUEUES_MAX} |",
        f"int 0..{protocol.WAIT_MAX_MS:,}",
        f"`priority` | 0..{protocol.PRIORITY_MAX} |",
        f"`delay_ms` | 0..{protocol.DELAY_MAX_MS:,} |",
        f"`retry_max` | 0..{protocol.RETRY_MAX} |",
        f"`lease_ms` | {protocol.LEASE_MIN_MS:,}..{protocol.LEASE_MAX_MS:,} |",
        f"permille: 0..{protocol.PERMILLE_MAX}",
        f"sent no frame for {protocol.IDLE_MS // 1000} s",
        f"frame has {protocol.FRAME_ARRIVAL_MAX_MS // 1000} s to arrive",
        f"quiet for {protocol.HEARTBEAT_INTERVAL_MS // 1000} s",
        f"client protocol, version {protocol.VERSION}",
    ],
)
def test_a_limit_of_the_document_is_the_limit_of_the_code(text: str) -> None:
    assert text in DOCUMENT
