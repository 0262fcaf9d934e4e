"""What becomes of each packet in one direction: no clock, no device, chance from a seed."""

from __future__ import annotations

import random
from typing import Final

from chaos.links import Impairment

CLEAN: Final = Impairment()


class Way:
    """One direction between two.

    Args:
        rng: Its stream of chance.

    Attributes:
        impairment: What happens to packets from now on.
        passed: How many were handed on, copies not counted.
        lost: How many were not.
        doubled: How many were handed on twice.
        held: How many were held back, for others to overtake.
    """

    __slots__ = ("_free_s", "_rng", "doubled", "held", "impairment", "lost", "passed")

    def __init__(self, rng: random.Random) -> None:
        self.impairment = CLEAN
        self.passed = self.lost = self.doubled = self.held = 0
        self._rng = rng
        self._free_s = 0.0

    def fate(self, now_s: float, size: int) -> tuple[float, ...]:
        """Return at which moments a packet arrives: none if it is lost, two if it is doubled.

        Packets arrive in the order they were sent in, but for those that are held back.

        Args:
            now_s: The moment, on any clock that does not go back.
            size: Of the packet, bytes.
        """
        rough = self.impairment
        chance = self._rng.random
        if rough is CLEAN:
            self.passed += 1
            return (max(now_s, self._free_s),)
        if size > rough.size_max or chance() < rough.loss:
            self.lost += 1
            return ()
        self.passed += 1
        due_s = max(now_s + self._rng.uniform(rough.low_ms, rough.high_ms) / 1000, self._free_s)
        if chance() < rough.reorder:
            self.held += 1
            due_s += self._rng.uniform(rough.held_low_ms, rough.held_high_ms) / 1000
        else:
            self._free_s = due_s
        if chance() < rough.duplicate:
            self.doubled += 1
            return due_s, due_s
        return (due_s,)

    def counts(self) -> dict[str, int]:
        """Return what became of packets so far."""
        return {
            "passed": self.passed,
            "lost": self.lost,
            "doubled": self.doubled,
            "held": self.held,
        }
