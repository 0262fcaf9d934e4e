from __future__ import annotations

from typing import Any

import pytest

from tq.addresses import join_address, parse_servers, split_address
from tq.errors import ConfigError


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ("tq://n1:7401,n2:7402", ("n1:7401", "n2:7402")),
        ("n1,n2", ("n1:7401", "n2:7401")),
        ("n1:1, n2:65535 ,", ("n1:1", "n2:65535")),
        ("tq://n1/", ("n1:7401",)),
        (["n1", "tq://n2:1,n3"], ("n1:7401", "n2:1", "n3:7401")),
        ("n1,n1:7401", ("n1:7401",)),
        ("[::1]:7500,[fe80::2]", ("[::1]:7500", "[fe80::2]:7401")),
        ("127.0.0.1:8000", ("127.0.0.1:8000",)),
    ],
)
def test_servers_in_every_form(servers: Any, expected: tuple[str, ...]) -> None:
    assert parse_servers(servers) == expected


@pytest.mark.parametrize("address", ["n1:7401", "[::1]:7401", "10.0.0.1:5"])
def test_an_address_survives_being_parted_and_joined(address: str) -> None:
    assert join_address(*split_address(address)) == address


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        ",",
        [],
        "tq://",
        "n1:0",
        "n1:65536",
        "n1:x",
        "n1:-1",
        "n1:٣",
        ":7401",
        "::1",
        "a:1:2",
        "[::1",
        "[]:1",
        "[::1]x",
        "http://n1",
        "user@n1",
    ],
)
def test_what_is_no_endpoint_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        parse_servers(wrong)
