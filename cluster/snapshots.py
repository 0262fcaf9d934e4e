"""Checkpoints of this node and snapshots between nodes.

A checkpoint is the machine's changed records, the applied index and the truncation they
allow, in one batch; what the disk holds at the last one is what a follower is sent. Chunks
are numbered and carry CRCs of themselves and of the whole; an install is one batch again.
A snapshot never moves the commit index before it is whole and in place.
"""

from __future__ import annotations

import logging
from zlib import crc32

from cluster.chunks import ChunkError, decode_records, encode_records
from cluster.configuration import Configuration
from cluster.interface import Record
from cluster.messages import SnapshotChunk, SnapshotReply
from cluster.progress import SNAPSHOT, Follower, Outgoing
from cluster.state import LEADER, InvariantBroken, State

_logger = logging.getLogger(__name__)


class Incoming:
    """A snapshot being received: whose, which, the next chunk, the CRC so far.

    Attributes:
        source: Leader, its term, the snapshot's id.
        number: Of the chunk that is stored next.
        ahead: Chunks that have overtaken it, by number.
        is_whole: The last one is stored.
    """

    __slots__ = ("ahead", "crc", "is_whole", "number", "source")

    def __init__(self, source: tuple[int, int, int]) -> None:
        self.source = source
        self.number = 0
        self.crc = 0
        self.ahead: dict[int, SnapshotChunk] = {}
        self.is_whole = False

    def is_newer_than(self, source: tuple[int, int, int]) -> bool:
        """Whether a leader has begun this one after the other."""
        return self.source[:2] == source[:2] and self.source[2] > source[2]


class Snapshots(State):
    """Checkpoints, sending, installing."""

    def set_up(self) -> None:
        """Give this part's fields their first values."""
        super().set_up()
        self.incoming: Incoming | None = None
        self.told_refusal = ""

    def save_checkpoint(self, index: int, term: int, changes: list[Record]) -> None:
        """Put the machine's changes and the truncation they allow into the pending batch."""
        disk = self.disk
        for family, key, value in changes:
            if value is None:
                disk.delete(family, key)
            else:
                disk.put(family, key, value)
        self.log.save_applied(index, term)
        self.cut_log(index)

    def cut_log(self, applied_index: int) -> None:
        """Keep a tail for followers that lag, and what follows a snapshot on its way.

        What a node lacks once its snapshot is in place is kept too, until it has caught up:
        under load it would otherwise need one snapshot after the other, for ever.
        """
        index_max = applied_index
        if self.log.tail_bytes < self.timing.log_pin_bytes:
            for follower in self.followers.values():
                if follower.snapshot is not None:
                    index_max = min(index_max, follower.snapshot.index)
                elif self.is_awaited(follower):
                    index_max = min(index_max, follower.match)
        self.log.cut_to(self.log.cut_point(self.timing.log_tail_bytes, index_max))

    def is_awaited(self, follower: Follower) -> bool:
        """Whether the log is kept for a follower; for a while also after its link is lost.

        Loading a large snapshot may take longer than the link bears to hear nothing.
        """
        near = follower.connected or self.now - follower.heard_at < self.timing.snapshot_stall_s
        return follower.catching_up and near

    # ------------------------------------------------------------------ leader

    def start_snapshot(self, follower: Follower) -> None:
        """Open a view of the last checkpoint and send its first chunks."""
        self.write_batch()  # the view must include a checkpoint made in this very step
        follower.start_probing(follower.next, self.sequence)
        follower.mode = SNAPSHOT
        self.sequence += 1
        view = self.disk.open_snapshot()
        follower.snapshot = Outgoing(self.sequence, view, self.log, self.now)
        self.send_chunks(follower, follower.snapshot)

    def send_chunks(self, follower: Follower, outgoing: Outgoing) -> None:
        """Send on, as far as the follower's answers allow."""
        while not outgoing.done and outgoing.number - outgoing.acked < self.timing.chunk_flight_max:
            records = outgoing.reader.next_chunk(self.timing.chunk_max_bytes)
            data = encode_records(records)
            outgoing.crc = crc32(data, outgoing.crc)
            outgoing.done = not records
            self.sequence += 1
            self.send(
                follower.peer,
                SnapshotChunk(
                    term=self.term,
                    sequence=self.sequence,
                    snapshot_id=outgoing.snapshot_id,
                    number=outgoing.number,
                    last_index=outgoing.index,
                    last_term=outgoing.term,
                    data=data,
                    crc=crc32(data),
                    done=outgoing.done,
                    total_crc=outgoing.crc,
                    configuration_index=outgoing.configuration_index,
                    configuration=outgoing.configuration,
                ),
            )
            outgoing.number += 1

    def on_snapshot_reply(self, peer: int, message: SnapshotReply) -> None:
        """Send on, start again or finish, as the follower says."""
        if message.term > self.term:
            self.become_follower(message.term)
        if self.role != LEADER or message.term != self.term:
            return
        follower = self.followers[peer]
        self.note_answer(follower, message.sequence, amnesiac=message.amnesiac)
        outgoing = follower.snapshot
        if outgoing is None:
            return
        if message.snapshot_id != outgoing.snapshot_id:
            # One that was given up while its sync took so long is in place all the same, and of
            # use as long as the log goes on behind it.
            if message.next_index > self.log.base_index:
                self.finish_sending(follower, message.next_index)
        elif message.next_index:
            self.finish_sending(follower, message.next_index)
        elif message.number == 0:
            # Start again at the next heartbeat: a fault that repeats must not spin.
            follower.start_probing(follower.next, self.sequence)
        elif message.number > outgoing.acked:
            outgoing.acked = min(message.number, outgoing.number)
            outgoing.moved_at = self.now
            self.send_chunks(follower, outgoing)

    def give_up_snapshots(self) -> None:
        """Let go of views that nobody reads on; the next heartbeat begins anew."""
        for follower in self.followers.values():
            outgoing = follower.snapshot
            if outgoing is None or self.now - outgoing.moved_at < self.timing.snapshot_stall_s:
                continue
            _logger.warning(
                "node %d: node %d has not moved on in its snapshot for %.0f s, which begins anew: "
                "see whether the disk of node %d hangs",
                *(self.node_id, follower.peer, self.timing.snapshot_stall_s, follower.peer),
            )
            follower.start_probing(follower.next, self.sequence)

    def finish_sending(self, follower: Follower, next_index: int) -> None:
        """The follower stands at the snapshot; go on with the log behind it."""
        self.snapshots_sent += 1
        follower.start_probing(min(next_index, self.log.last_index + 1), self.sequence)
        follower.catching_up = next_index <= self.commit_index
        self.confirm(follower, next_index - 1)

    # ---------------------------------------------------------------- follower

    def on_chunk(self, peer: int, message: SnapshotChunk) -> None:
        """Take one chunk; the last one installs the whole."""
        if message.term < self.term:
            self.reply_chunk(peer, message, number=0)
            return
        self.accept_leader(peer, message.term)
        self.leader_commit_index = max(self.leader_commit_index, message.last_index)
        source = (peer, message.term, message.snapshot_id)
        if self.incoming is not None and self.incoming.is_newer_than(source):
            self.reply_chunk(peer, message, number=0)
            return
        if message.last_index <= self.applied_index:
            self.stop_receiving()
            self.reply_chunk(peer, message, next_index=self.applied_index + 1)
            return
        incoming = self.receive(peer, message)
        if incoming is None:
            self.stop_receiving()
            self.reply_chunk(peer, message, number=0)
        elif incoming.is_whole:
            self.install(message)
            self.reply_chunk(peer, message, next_index=message.last_index + 1)
        elif incoming.number:  # 0 would ask for the first chunk, which is on its way
            self.reply_chunk(peer, message, number=incoming.number)

    def receive(self, peer: int, message: SnapshotChunk) -> Incoming | None:
        """Store what a chunk completes; None when it does not fit what came before.

        A chunk that has overtaken another waits for it, one that comes twice is passed over.
        """
        if not self.agrees_with_itself(peer, message):
            return None
        incoming, source = self.incoming, (peer, message.term, message.snapshot_id)
        if incoming is None or incoming.source != source:
            self.stop_receiving()
            self.disk.begin_install()
            incoming = self.incoming = Incoming(source)
        if message.number >= incoming.number + self.timing.chunk_flight_max:
            return None
        if message.number >= incoming.number:
            incoming.ahead[message.number] = message
        while (chunk := incoming.ahead.pop(incoming.number, None)) is not None:
            incoming.crc = crc32(chunk.data, incoming.crc)
            if crc32(chunk.data) != chunk.crc or incoming.crc != chunk.total_crc:
                return None
            if not self.store_chunk(peer, chunk.data):
                return None
            incoming.number += 1
            incoming.is_whole = chunk.done
        return incoming

    def store_chunk(self, peer: int, data: bytes) -> bool:
        """Store the records of a chunk; False when they cannot be this node's."""
        try:
            self.disk.add_install(decode_records(data))
        except (ChunkError, KeyError) as error:
            self.tell_refusal(peer, repr(error))
            return False
        return True

    def agrees_with_itself(self, peer: int, message: SnapshotChunk) -> bool:
        """Whether the members a snapshot brings are those as of its end, and no later ones.

        The entry that made others members is not in it: they could not be taken back with it.
        """
        if message.configuration_index <= message.last_index:
            return True
        self.tell_refusal(peer, "its configuration is from beyond its end")
        return False

    def tell_refusal(self, peer: int, why: str) -> None:
        """Log that a snapshot is of no use here, once: the leader tries again and again."""
        refusal = f"node {peer} sends a snapshot that cannot be stored here: {why}"
        if refusal != self.told_refusal:
            self.told_refusal = refusal
            _logger.warning("node %d: %s: run the same version on all nodes", self.node_id, refusal)

    def stop_receiving(self) -> None:
        """Drop what was received of an unfinished snapshot."""
        if self.incoming is not None:
            self.incoming = None
            self.disk.abort_install()

    def install(self, message: SnapshotChunk) -> None:
        """Stand where the snapshot stands: one batch, then the machine reads it.

        A log that holds the snapshot's last entry is right beyond it too, and stays.

        Raises:
            InvariantBroken: The machine cannot read the records.
        """
        index, term = message.last_index, message.last_term
        self.incoming = None
        self.disk.finish_install()
        configuration = Configuration.from_bytes(message.configuration)
        if self.log.term_at(index) == term:
            self.log.cut_to(index)
        else:
            self.forget_durable(index + 1)
            self.log.restart_at(index, term)
        self.log.found_on(message.configuration_index, configuration)
        self.adopt_configuration()
        self.log.save_applied(index, term)
        self.commit_index = max(self.commit_index, index)
        self.applied_index = index
        self.write_batch()
        try:
            self.machine.restore(self.disk.iterate)
        except Exception as error:
            raise InvariantBroken(f"the machine cannot load the snapshot: {error!r}") from error
        self.snapshots_installed += 1

    def reply_chunk(
        self, peer: int, message: SnapshotChunk, *, number: int = 0, next_index: int = 0
    ) -> None:
        """Answer a chunk, once what it wrote is durable."""
        self.answer(
            peer,
            SnapshotReply(
                self.term,
                message.sequence,
                message.snapshot_id,
                number,
                next_index,
                self.amnesiac,
            ),
        )
