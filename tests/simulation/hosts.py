"""A machine in the rack: a clock, a disk, and power; processes come and go on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cluster.watermark import HIGH_WATER_FILE, read_mark
from statemachine import FAMILIES
from tests.support.sim_directory import SimDirectory
from tests.support.sim_disk import SimDisk

if TYPE_CHECKING:
    from tests.simulation.world import World

_EPOCH_MS = 1_700_000_000_000
"""Wall time of a clock that is right, at true time 0."""


class Host:
    """What outlives the processes of one node.

    Attributes:
        node_id: Whose it is.
        directory: What is on its disk.
        rate: Of its clocks, against true time.
        wall_offset_ms: Of its wall clock, besides.
        is_dark: It has no power.
        file_damaged: A bit of a small file has flipped, and nothing has read it yet.
        note_lost: The power went, and no start since has said anew how far the disk had come.
        stalled_until: Syncs do not end before.
    """

    def __init__(self, world: World, node_id: int) -> None:
        options = world.options
        rng = world.rng(f"clocks {node_id}")
        self.world = world
        self.node_id = node_id
        self.directory = SimDirectory(FAMILIES, Path(f"node{node_id}"))
        self.directory.disk.log_records = options.wal_records
        self.rate = 1.0 + options.drift * (2 * rng.random() - 1)
        self.wall_offset_ms = int(options.wall_spread_s * 1000 * (2 * rng.random() - 1))
        self.is_dark = self.file_damaged = self.note_lost = False
        self.stalled_until = 0.0
        self.clock_rng = rng
        self._monotonic_s = 0.0
        self._disk_rng = world.rng(f"disk {node_id}")

    def power_up(self) -> None:
        """Boot, if it is dark: the monotonic clock begins somewhere else."""
        if self.is_dark:
            self.is_dark = False
            self._monotonic_s = self.clock_rng.uniform(0, 1000)
            self.world.network.host_up(self.node_id)

    def monotonic(self) -> float:
        """The monotonic clock of this boot, seconds."""
        return self._monotonic_s + self.world.now * self.rate

    def true_time(self, monotonic_s: float) -> float:
        """True time of a moment of the monotonic clock."""
        return (monotonic_s - self._monotonic_s) / self.rate

    def wall_ms(self) -> int:
        """The wall clock, milliseconds since the Unix epoch."""
        return int(self.world.now * self.rate * 1000) + _EPOCH_MS + self.wall_offset_ms

    @property
    def disk(self) -> SimDisk:
        """The database as it is now."""
        return self.directory.disk

    @property
    def is_damaged(self) -> bool:
        """Something on its disk differs from what was written, and nothing has read it yet."""
        disk = self.directory.disk
        families = disk._content.values()
        known = disk._manifest_damaged or disk._damaged_from is not None
        return known or self.file_damaged or any(family.damaged for family in families)

    @property
    def marked(self) -> int:
        """The last batch that its durable high-water mark speaks of."""
        content = self.directory.read(HIGH_WATER_FILE)
        try:
            return 0 if content is None else read_mark(content).sequence
        except ValueError:
            return 0

    @property
    def notes_count(self) -> bool:
        """Whether all that was answered for is noted where the next start looks for it."""
        return not (self.note_lost or self.file_damaged)

    @property
    def is_damaged_past_the_mark(self) -> bool:
        """A bit has flipped in what only the note speaks of, and nothing has read it yet."""
        damaged = self.directory.disk._damaged_from
        return damaged is not None and damaged > self.marked

    def sync_ends_at(self) -> float:
        """True time at which a sync that begins now ends."""
        options, draw = self.world.options, self._disk_rng.random
        seconds = options.sync_s * (0.5 + draw())
        if options.sync_slow_s and draw() < 0.01:
            seconds += options.sync_slow_s * draw()
        return max(self.world.now + seconds, self.stalled_until)
