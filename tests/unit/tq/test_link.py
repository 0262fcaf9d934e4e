"""One client for many threads: closed beside its calls, and copied by a fork."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.unit.tq.test_sync import LateNetwork
from tq.errors import TqError, UnknownOutcome
from tq.link import Link
from tq.sync import SyncClient

N1 = "n1:7401"
WAIT_S = 20.0  # far more than any of it takes


class Patient:
    """A client that is under way until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.closed = False

    async def rest(self) -> None:
        self.entered.set()
        await asyncio.Event().wait()

    async def answer(self) -> str:
        await asyncio.sleep(0)
        if self.closed:
            raise UnknownOutcome("closed")
        return "done"

    async def close(self) -> None:
        self.closed = True


def hold_loop(link: Link[Patient]) -> Callable[[], None]:
    """Let the link's loop stand still; returns what lets it go on."""
    go_on, stands = threading.Event(), threading.Event()

    async def stand(_: Patient) -> None:
        stands.set()
        go_on.wait(WAIT_S)

    link._start(stand)
    assert stands.wait(WAIT_S)
    return go_on.set


def test_a_call_that_is_under_way_when_the_client_is_closed_has_an_outcome() -> None:
    made: list[Patient] = []

    def make() -> Patient:
        made.append(Patient())
        return made[-1]

    link = Link(make)
    with ThreadPoolExecutor(1) as pool:
        resting: Future[None] = pool.submit(link.call, lambda client: client.rest(), hint="")
        link.call(lambda client: client.answer(), hint="")
        assert made[0].entered.wait(WAIT_S)
        link.close()
        with pytest.raises(UnknownOutcome):
            resting.result(WAIT_S)


def test_a_call_that_the_loop_has_not_begun_when_the_client_is_closed_has_an_outcome() -> None:
    made: list[Patient] = []

    def make() -> Patient:
        made.append(Patient())
        return made[-1]

    link = Link(make)
    let_go = hold_loop(link)
    under_way = [link._start(lambda client: client.answer()) for _ in range(3)]
    closing = threading.Thread(target=link.close)
    closing.start()
    let_go()
    for call in under_way:
        assert isinstance(call.exception(WAIT_S), TqError | None)
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert 1 == len(made)
    assert made[0].closed


def test_a_use_beside_a_close_gets_a_client_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Patient] = []

    def make() -> Patient:
        made.append(Patient())
        return made[-1]

    link = Link(make)
    let_go = hold_loop(link)
    line, begun = link._line, threading.Event()
    assert line is not None
    end = line.close

    def close() -> None:
        begun.set()
        end()

    monkeypatch.setattr(line, "close", close)
    closing = threading.Thread(target=link.close)
    closing.start()
    assert begun.wait(WAIT_S)
    try:
        assert "done" == link.call(lambda client: client.answer(), hint="")
    finally:
        let_go()
        closing.join(WAIT_S)
    assert [True, False] == [client.closed for client in made]
    link.close()


def in_a_fork(act: Callable[[], Any]) -> int:
    """Run this in a forked child; return its exit code, or minus the signal that ended it."""
    process_id = os.fork()
    if process_id == 0:
        code = 1
        try:
            signal.alarm(10)  # nothing here takes so long
            act()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(process_id, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_call_leaves_the_child_a_client_that_works() -> None:
    client = SyncClient(N1, dial=LateNetwork().dial)
    client.connect()

    def submit() -> None:
        child = SyncClient.__new__(SyncClient)
        child.__dict__ = client.__dict__
        assert child.submit("echo", b"four").log_index == 4
        child.close()

    with client._link._lock:  # as another thread does in every call
        assert 0 == in_a_fork(submit)
    assert client.submit("echo", b"four").log_index == 4
    client.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_closing_in_a_fork_leaves_the_parents_connection_alone() -> None:
    network = LateNetwork()
    with SyncClient(N1, dial=network.dial) as client:
        assert 0 == in_a_fork(client.close)
        assert client.submit("echo", b"four").log_index == 4
        assert network.node is not None
        assert 1 == len(network.node.peers)
