"""The processes of clients of a run: one that ends although nobody told it to is trouble."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from chaos.clients import MAIN, Clients


class Child:
    """Stands for a process of clients."""

    def __init__(self, code: int | None = None) -> None:
        self.code = code
        self.log_path = Path("clients.log")

    @property
    def running(self) -> bool:
        return self.code is None

    def wait(self, *, timeout_s: float) -> int:
        assert self.code is not None
        return self.code

    def signal(self, number: signal.Signals) -> None:
        if number == signal.SIGTERM and self.code is None:
            self.code = 0

    def output(self) -> str:
        return "the last words\n"


def clients(place: Path, **ended: int) -> Clients:
    made = Clients(place, servers="h:1", seed=1, tasks_per_s=1)
    children: dict[str, Any] = {
        name: Child(ended.get(name.replace("-", "_"))) for name in made._children
    }
    made._children = children
    return made


@pytest.mark.parametrize("name", [MAIN, "workers-1", "workers-2"])
@pytest.mark.parametrize("code", [0, 1, -9])
def test_a_process_that_ends_by_itself_is_trouble_at_once(
    tmp_path: Path, name: str, code: int
) -> None:
    assert clients(tmp_path).trouble() == ""
    told = clients(tmp_path, **{name.replace("-", "_"): code}).trouble()
    assert told.startswith(f"the client process {name} ended by itself with exit code {code} ")
    assert "the last words" in told


async def test_a_process_of_workers_that_was_killed_is_trouble_at_the_end(tmp_path: Path) -> None:
    _, troubles = await clients(tmp_path).finish()
    assert troubles == []
    _, [told] = await clients(tmp_path, workers_2=-9).finish()
    assert told == "the client process workers-2 ended with exit code -9:\nthe last words"
