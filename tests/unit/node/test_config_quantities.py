"""Durations, sizes and addresses, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.addresses import Address, is_loopback
from node.quantities import Duration, Size


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500),
        ("5s", 5_000),
        ("1.5s", 1_500),
        ("0s", 0),
        ("90m", 5_400_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("1w", 604_800_000),
        ("1d2h3m4s5ms", 93_784_005),
    ],
)
def test_a_duration_is_read_with_its_unit(text: str, ms: int) -> None:
    assert Duration(ms) == Duration.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5x",
        "s",
        "-5s",
        "5 s",
        "5s1h",
        "5s5s",
        "1h30",
        "0.5ms",
        "1e3s",
        "٣s",
        "37000d",
        "9" * 40 + "s",
    ],
)
def test_a_doubtful_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be "):
        Duration.parse(text)


@given(st.integers(0, 10**12))
def test_a_duration_reads_what_it_wrote(ms: int) -> None:
    assert Duration(ms) == Duration.parse(str(Duration(ms)))


def test_a_duration_is_written_as_people_say_it() -> None:
    assert ["7d", "1h30m", "500ms", "1s", "0s"] == [
        str(Duration(ms)) for ms in (604_800_000, 5_400_000, 500, 1000, 0)
    ]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512B", 512),
        ("64KiB", 65_536),
        ("64kib", 65_536),
        ("10MiB", 10_485_760),
        ("10 MB", 10_000_000),
        ("1.5GiB", 1_610_612_736),
    ],
)
def test_a_size_is_read_with_its_unit(text: str, count: int) -> None:
    assert Size(count) == Size.parse(text)


@pytest.mark.parametrize("text", ["", "5", "64M", "64G", "-1B", "1.5B", "MiB", "1MiB2KiB"])
def test_a_doubtful_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be "):
        Size.parse(text)


@given(st.integers(0, 2**50))
def test_a_size_reads_what_it_wrote(count: int) -> None:
    assert Size(count) == Size.parse(str(Size(count)))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7400", "127.0.0.1", 7400),
        ("localhost:0", "localhost", 0),
        ("node-1.example:65535", "node-1.example", 65_535),
        ("[::1]:7400", "::1", 7400),
        ("[0:0::1]:7400", "::1", 7400),
    ],
)
def test_an_address_has_a_host_and_a_port(text: str, host: str, port: int) -> None:
    address = Address.parse(text)

    assert (host, port) == address
    assert address == Address.parse(str(address))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7400",
        ":7400",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:x",
        "127.0.0.256:1",
        "::1:7400",
        "[::1:7400",
        "[zz]:7400",
        "a b:1",
        "http://a:1",
        "a/b:1",
        "-a:1",
        "ä:1",
        "a" * 300 + ":1",
    ],
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Address.parse(text)


def test_two_spellings_of_loopback_are_one_place() -> None:
    assert Address("localhost", 1).key == Address("127.0.0.1", 1).key
    assert Address("localhost", 1).key != Address("127.0.0.1", 2).key


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("my-host", False),
    ],
)
def test_only_loopback_counts_as_loopback(host: str, *, expected: bool) -> None:
    assert expected is is_loopback(host)
