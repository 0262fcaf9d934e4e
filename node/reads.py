"""Linearizable reads: what is asked in one turn of the loop shares one barrier.

A barrier is a round to a quorum that proves this node still led after the question
came; when it returns, everything acknowledged before the question is applied here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

_LOG = logging.getLogger(__name__)

Read: TypeAlias = Callable[[bool], None]
"""Called with True when the barrier passed, False when this node could not prove it leads."""


class Barriers:
    """Collects the reads of one turn of the loop.

    Args:
        ask: Starts a barrier; its context comes back to `passed`.
        schedule: Runs a callback soon in the event loop.
    """

    def __init__(
        self,
        ask: Callable[[object], object],
        schedule: Callable[[Callable[[], None]], object],
    ) -> None:
        self._ask = ask
        self._schedule = schedule
        self._waiting: list[Read] = []
        self._under_way: set[_Round] = set()

    def add(self, read: Read) -> None:
        """Run `read` when the next barrier is through."""
        if not self._waiting:
            self._schedule(self._start)
        self._waiting.append(read)

    def passed(self, context: object, ok: bool) -> None:
        """Run the reads of a barrier that returned; a second return is ignored."""
        if isinstance(context, _Round) and context in self._under_way:
            self._under_way.discard(context)
            for read in context.reads:
                _run(read, ok)

    def fail(self) -> None:
        """End every read under way: this node does not lead."""
        rounds, self._under_way = self._under_way, set()
        waiting, self._waiting = self._waiting, []
        for read in [*(read for one in rounds for read in one.reads), *waiting]:
            _run(read, False)

    def _start(self) -> None:
        if not self._waiting:
            return
        one = _Round(self._waiting)
        self._waiting = []
        self._under_way.add(one)
        try:
            self._ask(one)
        except BaseException:
            self.passed(one, ok=False)
            raise


def _run(read: Read, ok: bool) -> None:
    """Run one read; whatever goes wrong must not reach the others, or consensus."""
    try:
        read(ok)
    except Exception:  # noqa: BLE001 - see above
        _LOG.exception("a read could not be answered")


class _Round:
    __slots__ = ("reads",)

    def __init__(self, reads: list[Read]) -> None:
        self.reads = reads
