"""Entries decoded once for all machines of a world: the same history as when each decodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from statemachine import Advance, Machine, Outcome, decode_entry, encode_internal, join_entry
from tests.simulation.decoded import Decoded, Listed
from tests.simulation.options import Options
from tests.simulation.play import Played, play
from tests.simulation.world import Parts

_OPTIONS = replace(Options(), kinds=("kill", "transfer"), faults_per_s=1.0)


class _HashesCommands(Machine):
    """What can be hashed through and through cannot be changed by one machine for another."""

    hashed = 0

    def apply(self, index: int, entry: bytes, decoded: object | None = None) -> Outcome:
        assert decoded is not None, "nobody shares in this world"
        before = hash(decoded) if isinstance(decoded[1], tuple) else None  # type: ignore[index]
        outcome = super().apply(index, entry, decoded)
        if before is not None:
            assert hash(decoded) == before, f"entry {index} was changed by who applied it"
            _HashesCommands.hashed += 1
        return outcome


def _played(parts: Parts | None = None) -> Played:
    played = play(3, _OPTIONS, parts=parts, chaos_s=8.0)
    assert played.violation is None
    return played


def test_shared_commands_are_immutable_and_no_machine_changes_them() -> None:
    _HashesCommands.hashed = 0
    _played(Parts(machine=_HashesCommands))
    assert _HashesCommands.hashed > 100


def test_a_world_plays_the_same_history_when_each_node_decodes_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = _played()

    def anew(self: Decoded, index: int, entry: bytes) -> Listed:
        del self, index
        now_ms, listed = decode_entry(entry)
        return now_ms, tuple(listed)

    monkeypatch.setattr(Decoded, "entry", anew)
    assert _played().digest == shared.digest


def test_other_bytes_at_an_index_are_decoded_anew() -> None:
    decoded = Decoded()
    advance = encode_internal(Advance())
    first = decoded.entry(1, join_entry(5, [advance]))
    assert first == (5, (Advance(),))
    assert decoded.entry(1, join_entry(5, [advance])) is first
    assert decoded.entry(1, join_entry(6, [])) == (6, ())


def test_worlds_whose_messages_are_bytes_share_nothing() -> None:
    class Alone(Machine):
        def apply(self, index: int, entry: bytes, decoded: object | None = None) -> Outcome:
            assert not isinstance(decoded, tuple) or not isinstance(decoded[1], tuple)
            return super().apply(index, entry, decoded)

    options = replace(_OPTIONS, codec=True)
    assert play(3, options, parts=Parts(machine=Alone), chaos_s=4.0).violation is None
