"""Work that takes a while: one piece in a turn of the loop, one client after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from node.session import Limits, Outbox, Session
from node.turns import Turns


class Unread:
    """A socket whose client reads nothing and is not written to."""

    def write(self, data: bytes) -> None:
        raise AssertionError("nothing was sent")

    def pause(self) -> None:
        """Not looked at."""

    def resume(self) -> None:
        """Not looked at."""

    def close(self) -> None:
        """Not looked at."""


class Loop:
    """Runs what is scheduled, a callback at a time, and notes what was done."""

    def __init__(self) -> None:
        self.due: deque[Callable[[], None]] = deque()
        self.turns = Turns(self.due.append)
        self.done: list[str] = []

    def session(self) -> Session:
        return Session(Unread(), Outbox(self.due.append), Limits())

    def add(self, session: Session, name: str) -> None:
        self.turns.add(session, lambda: self.done.append(name))

    def turn(self) -> None:
        self.due.popleft()()

    def run(self) -> list[str]:
        while self.due:
            self.turn()
        return self.done


def test_a_client_with_thousands_of_requests_holds_up_nobody() -> None:
    loop = Loop()
    greedy, modest, late = loop.session(), loop.session(), loop.session()
    for number in range(4096):
        loop.add(greedy, f"greedy {number}")
    loop.add(modest, "modest 0")
    loop.add(modest, "modest 1")
    for _ in range(3):
        loop.turn()
    loop.add(late, "late")
    done = loop.run()
    assert done[:5] == ["greedy 0", "modest 0", "greedy 1", "modest 1", "greedy 2"]
    assert done.index("late") <= 5
    assert [one for one in done if one.startswith("greedy")] == [
        f"greedy {number}" for number in range(4096)
    ]
    assert greedy.in_flight == modest.in_flight == late.in_flight == 0


def test_one_piece_is_done_in_a_turn() -> None:
    loop = Loop()
    session = loop.session()
    for number in range(3):
        loop.add(session, str(number))
    assert (loop.done, len(loop.due)) == ([], 1)
    loop.turn()
    assert (loop.done, len(loop.due)) == (["0"], 1)
    assert loop.run() == ["0", "1", "2"]


def test_work_for_a_client_that_is_gone_is_not_done() -> None:
    loop = Loop()
    gone, there = loop.session(), loop.session()
    loop.add(gone, "gone")
    loop.add(there, "there")
    gone.closed = True
    assert loop.run() == ["there"]
