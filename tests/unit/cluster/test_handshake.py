"""The first words of a connection: read strictly, whoever speaks them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.handshake import Hello
from cluster.messages import PeerProtocolError
from tests.support.peer_raw import hello_of


@given(
    st.lists(
        st.none()
        | st.integers(-5, 2**64)
        | st.binary(max_size=20)
        | st.text(max_size=400)
        | st.lists(st.integers(0, 5)),
        max_size=12,
    )
)
def test_any_array_is_a_hello_or_an_error(fields: list[object]) -> None:
    for form in (fields, [0, 1, *fields], [*hello_of(1, 2).to_list()[:5], *fields]):
        try:
            assert isinstance(Hello.from_list(form), Hello)
        except PeerProtocolError:
            continue


def test_a_hello_survives_the_wire_and_every_field_is_checked() -> None:
    hello = hello_of(1, 2)
    form = hello.to_list()
    assert Hello.from_list(form) == hello
    assert Hello.from_list(hello_of(1, 2, cluster_id=None).to_list()).cluster_id is None
    for position in range(len(form)):
        with pytest.raises(PeerProtocolError):
            Hello.from_list([*form[:position], -1.5, *form[position + 1 :]])
    with pytest.raises(PeerProtocolError):
        Hello.from_list([*form, 1])


def test_text_from_a_peer_cannot_forge_a_line_of_the_log() -> None:
    form = hello_of(1, 2, client_address="host\n2026 forged").to_list()
    assert Hello.from_list(form).client_address == r"host\n2026 forged"
