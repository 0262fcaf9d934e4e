"""What producers, workers and readers have in common: a name, a client and a record."""

from __future__ import annotations

import random
from dataclasses import dataclass

from chaos.workload.recorder import Recorder
from chaos.workload.tasks import Known
from tq import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What one client of a process works with.

    Attributes:
        name: Of the client, unique in the run.
        client: Its own: stale states do not go back within one.
        recorder: Of the process.
        known: Tasks of the process.
        rng: Draws what the client does.
    """

    name: str
    client: Client
    recorder: Recorder
    known: Known
    rng: random.Random


class Caller:
    """One client of a process, in its seat."""

    def __init__(self, seat: Seat) -> None:
        self._name = seat.name
        self._client = seat.client
        self._recorder = seat.recorder
        self._known = seat.known
        self._rng = seat.rng
