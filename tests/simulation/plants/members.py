"""Engines that get one rule about members wrong."""

from __future__ import annotations

from cluster.configuration import Configuration
from cluster.engine import Engine
from cluster.messages import SnapshotChunk
from cluster.progress import Follower, Outgoing


class ManyAtOnce(Engine):
    """A second change begins while the first is open."""

    def change_open(self) -> bool:
        return False

    def can_commit(self, configuration: Configuration) -> bool:
        return True


class Hasty(Engine):
    """A new leader changes the members at once (the error found in 2015)."""

    def settled(self) -> bool:
        return True

    def can_commit(self, configuration: Configuration) -> bool:
        return True


class CountsLearners(Engine):
    """A learner is a voter by another name."""

    def take_configuration(self) -> None:
        super().take_configuration()
        for follower in self.followers.values():
            follower.voter = True
        self.electors = tuple(self.followers.values())


class StandsAsLearner(Engine):
    """Who is not a voter stands for election all the same."""

    def take_configuration(self) -> None:
        super().take_configuration()
        self.is_voter = True


class RemovesItself(Engine):
    """A leader lets itself go like anybody, and stays in office."""

    def _refuse_removal(self, node_id: int) -> None:
        return None


class SendsTheLatest(Engine):
    """A snapshot carries the configuration in force, whatever its index."""

    def send_chunks(self, follower: Follower, outgoing: Outgoing) -> None:
        outgoing.configuration = self.log.configuration.to_bytes()
        super().send_chunks(follower, outgoing)


class NeverTakesBack(Engine):
    """A configuration that was cut from the log stays in force."""

    def cut_from(self, index: int) -> None:
        seen, configuration = self.log.configuration_index, self.log.configuration
        super().cut_from(index)
        if seen >= index:
            self.log.configuration = configuration


class ForgetsTheMembers(Engine):
    """A snapshot is installed without the configuration in it."""

    def install(self, message: SnapshotChunk) -> None:
        index, configuration = self.log.configuration_at(self.log.base_index)
        super().install(
            message._replace(configuration_index=index, configuration=configuration.to_bytes())
        )
