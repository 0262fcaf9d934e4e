"""Stand-ins for what surrounds the node's parts: a clock, a loop, sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from node.session import Limits, Outbox, Session


class FakeLoop:
    """Runs what was scheduled when the test says so."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def turn(self) -> None:
        """One turn: what is scheduled meanwhile waits for the next one."""
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()

    def run(self) -> None:
        """Turn until nothing is left."""
        for _ in range(1000):
            if not self._soon:
                return
            self.turn()
        raise AssertionError("the loop never came to rest")


class FakeClock:
    """A monotonic clock and a wall clock that stand still."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = 1_700_000_000_000

    def now_s(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return self.wall

    def pass_s(self, seconds: float) -> None:
        self.now += seconds
        self.wall += round(seconds * 1000)


class FakeWire:
    """A socket that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False
        self.is_paused = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.is_closed = True

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def take(self) -> list[tuple[int, list[Any]]]:
        """Remove and decode every frame that was written."""
        data = b"".join(self.written)
        self.written.clear()
        return frames_of(data)


def frames_of(data: bytes) -> list[tuple[int, list[Any]]]:
    """Decode whole frames, without the code under test."""
    frames: list[tuple[int, list[Any]]] = []
    while data:
        length = int.from_bytes(data[:4], "big")
        assert len(data) >= 4 + length
        frames.append((data[4], msgpack.unpackb(data[5 : 4 + length], raw=False)))
        data = data[4 + length :]
    return frames


def a_session(loop: FakeLoop, *, limits: Limits | None = None) -> tuple[Session, FakeWire]:
    """A session whose HELLO was accepted, and its socket."""
    wire = FakeWire()
    session = Session(wire=wire, outbox=Outbox(loop.call_soon), limits=limits or Limits())
    session.accepted = True
    return session, wire
