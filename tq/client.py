"""The asynchronous client: every request of the protocol as a typed method.

Each call has one deadline. Until then it follows redirects and survives lost
connections and changes of leader by sending the very same request again, which the
protocol makes harmless; then it raises `Unavailable` (certainly not accepted) or
`UnknownOutcome` (sent, never answered).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final, Self

from tq.addresses import parse_servers
from tq.channel import Channel
from tq.dialling import Dialler
from tq.durations import Duration, seconds
from tq.errors import ConfigError
from tq.listing import ListCalls
from tq.new_task import NewTask, Retry, Submitted
from tq.node_info import NodeInfo
from tq.protocol import Type, is_name
from tq.task_calls import TaskCalls
from tq.worker_calls import Grant, WorkerCalls, WorkerSession

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from tq.connection import Dial

__all__ = ["Client", "Grant", "NewTask", "NodeInfo", "Retry", "Submitted", "WorkerSession"]

DEADLINE_DEFAULT: Final = "10s"
IN_FLIGHT_MAX: Final = 10_000


class Client(TaskCalls, ListCalls, WorkerCalls):
    """A client of one cluster, for one event loop.

    It connects when it is first used, and again whenever it must.

    Args:
        servers: `"tq://h1:7401,h2:7401"`, `"h1:7401,h2:7401"` or a list of endpoints.
        namespace: Where the queues live.
        token: Proves who we are; never shown, logged or put into an error.
        ca: File with the certificate of the cluster's authority: every node is spoken to by
            TLS, and must have a certificate for the host it is dialled by. Without it
            connections are in the clear, and a token goes over loopback only.
        deadline: How long a call may take unless it says otherwise.
        name: For the nodes' logs.
        in_flight_max: Requests at one time; more wait for room.
        rng: Draws the jitter of retries.
        dial: Makes transports, in place of TCP and TLS; for tests.

    Raises:
        ConfigError: An argument makes no sense.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        namespace: str = "default",
        token: str | None = None,
        ca: str | Path | None = None,
        deadline: Duration = DEADLINE_DEFAULT,
        name: str = "tq-client",
        in_flight_max: int = IN_FLIGHT_MAX,
        rng: random.Random | None = None,
        dial: Dial | None = None,
    ) -> None:
        if not is_name(namespace):
            raise ConfigError(f"{namespace!r} cannot name a namespace")
        if in_flight_max < 1:
            raise ConfigError("in_flight_max must be 1 or more")
        self.servers = parse_servers(servers)
        self.namespace = namespace
        self.name = name
        self._deadline_s = seconds(deadline)
        self._options = {"namespace": namespace}
        if token is not None:
            self._options["token"] = token
        self._dial = dial or self._dialler(ca=ca, has_token=token is not None)
        jitter = rng or random.Random()  # noqa: S311 -- jitter is no secret

        def channel(*, any_node: bool) -> Channel:
            return Channel(
                self.servers,
                name=name,
                options=self._options,
                dial=self._dial,
                rng=jitter,
                in_flight_max=in_flight_max,
                any_node=any_node,
            )

        self._channel = channel(any_node=False)
        self._readers = channel(any_node=True)  # connects with the first stale read

    def _dialler(self, *, ca: str | Path | None, has_token: bool) -> Dialler:
        dialler = Dialler(ca=ca, has_token=has_token)
        for address in self.servers:
            dialler.check(address)
        return dialler

    def __repr__(self) -> str:
        return f"Client({','.join(self.servers)!r}, namespace={self.namespace!r})"

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def connect(self, *, deadline: Duration | None = None) -> None:
        """Find the leader now, rather than with the first call.

        Raises:
            Unavailable: No leader was found within the deadline; the text says what
                each endpoint answered.
            Rejected: The cluster does not want us, e.g. `Unauthenticated`.
        """
        await self._call(Type.HEARTBEAT, [0, []], deadline=deadline)

    async def close(self) -> None:
        """Give up what is in flight and close the connection; not to be used again."""
        await self._channel.close()
        await self._readers.close()

    # ----------------------------------------------------------------------- cluster

    async def node_info(self, *, deadline: Duration | None = None) -> NodeInfo:
        """Return what the node that leads said of itself; connects if nothing did yet.

        Later calls answer from memory: the node says it once for each connection.

        Raises:
            Unavailable: No leader was found within the deadline.
        """
        if not self._channel.info:
            await self.connect(deadline=deadline)
        return NodeInfo.of(self._channel.info)

    async def stats(self, *, deadline: Duration | None = None) -> dict[str, Any]:
        """Count tasks by state and queue, and workers; linearizable."""
        answer = await self._call(Type.GET_STATS, [], deadline=deadline, size=2)
        return dict(answer[1])

    async def workers(self, *, deadline: Duration | None = None) -> list[dict[str, Any]]:
        """List the workers that have a session."""
        answer = await self._call(Type.LIST_WORKERS, [], deadline=deadline, size=2)
        return list(answer[1])

    async def add_node(
        self, node_id: int, address: str, *, deadline: Duration | None = None
    ) -> int:
        """Let a node that was started with `--join` into the cluster, as a learner.

        Args:
            node_id: Its number.
            address: `host:port` where its peers reach it.
            deadline: Instead of the client's own.

        Returns:
            The log index of the change.

        Raises:
            ChangeRefused: It was not; `code` says why.
            Conflict: The node is a member already, at another address.
        """
        return await self._change_members("add", node_id, address, deadline)

    async def promote_node(self, node_id: int, *, deadline: Duration | None = None) -> int:
        """Make a learner that has caught up a voter; otherwise as `add_node`."""
        return await self._change_members("promote", node_id, "", deadline)

    async def remove_node(self, node_id: int, *, deadline: Duration | None = None) -> int:
        """Remove a voter or a learner; a leader hands over first. Otherwise as `add_node`."""
        return await self._change_members("remove", node_id, "", deadline)

    async def _change_members(
        self, verb: str, node_id: int, address: str, deadline: Duration | None
    ) -> int:
        fields = [verb, node_id, address]
        answer = await self._call(Type.CHANGE_MEMBERS, fields, deadline=deadline, size=2)
        return int(answer[1])

    async def node_status(self, address: str, *, deadline: Duration = "1s") -> dict[str, Any]:
        """Ask one node about itself, whatever its role.

        Raises:
            Unavailable: It did not answer; the text says why.
        """
        answer = await self._ask_node(address, Type.NODE_STATUS, [], deadline=deadline, size=2)
        return dict(answer[1])

    async def node_digest(self, address: str, *, deadline: Duration = "10s") -> tuple[int, bytes]:
        """Have one node compute the digest over its whole state.

        Returns:
            Its applied index and the 32 bytes; replicas agree at the same index.

        Raises:
            Unavailable: It did not answer; the text says why.
            RateLimited: It computed one a moment ago, which stops it as long as it takes;
                the error says when to ask again.
        """
        answer = await self._ask_node(address, Type.DIGEST, [], deadline=deadline, size=3)
        return int(answer[1]), bytes(answer[2])
