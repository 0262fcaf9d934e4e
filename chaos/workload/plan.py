"""What one process of clients is to do, as a file that the harness hands it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from chaos.access import Access

QUEUES: Final = ("alpha", "beta", "gamma")
NUMBERS_EACH: Final = 1_000_000_000
"""How far the numbers of two processes' operations are apart."""
NUMBERS_A_LIFE: Final = 10_000_000
"""How far those of a process and of the same process, started again, are apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One process of clients.

    Attributes:
        name: Unique in the run; its clients' names begin with it.
        number: Unique in the run, from 0.
        servers: Client addresses of the cluster.
        ca: As in `Access`.
        token: As in `Access`.
        seed: Of what its clients do; two runs differ all the same, for the cluster answers
            when it likes.
        directory: Of the run.
        tasks_per_s: Tasks its producers submit in a second, all together; 0 for none.
        producers: How many.
        workers: How many; each has a session and a client of its own.
        readers: How many.
        visits_per_s: Clients that come in a second, submit, and go; 0 for none.
        drain_s: How long the work may take to end, seconds.
    """

    name: str
    number: int
    servers: str
    seed: int
    directory: str
    tasks_per_s: float = 0.0
    producers: int = 0
    workers: int = 0
    readers: int = 0
    visits_per_s: float = 0.0
    drain_s: float = 90.0
    ca: str = ""
    token: str = ""

    @property
    def access(self) -> Access:
        """What its clients need to get in."""
        return Access(self.ca, self.token)

    @property
    def journals(self) -> list[Path]:
        """Where it has recorded its operations, one file for each of its lives."""
        return sorted(Path(self.directory).glob(f"journal-{self.name}-[0-9][0-9].jsonl"))

    def next_journal(self) -> tuple[Path, int]:
        """Return where this life is to be recorded, and the number of its first operation."""
        life = len(self.journals)
        path = Path(self.directory) / f"journal-{self.name}-{life:02}.jsonl"
        return path, self.number * NUMBERS_EACH + life * NUMBERS_A_LIFE + 1

    @property
    def path(self) -> Path:
        """Where the plan itself is."""
        return Path(self.directory) / f"plan-{self.name}.json"

    @property
    def told(self) -> Path:
        """Where it says how it ended."""
        return Path(self.directory) / f"told-{self.name}.json"

    def save(self) -> Path:
        """Write it to its file; return the path."""
        self.path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        return self.path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it from its file."""
        return cls(**json.loads(path.read_bytes()))
