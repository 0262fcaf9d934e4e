"""Claims whose caller has gone before their answer came: what they bring is given back.

A claim that is given up (its deadline passed, or its caller was cancelled) still rests at the
node, ahead of later ones, and takes the next tasks. Nobody would run those, and each would be
charged a lost lease. So its answer, when it comes, is answered with a RELEASE of each task:
it keeps its place, and nothing is charged.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from tq.errors import TqError
from tq.protocol import Type

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tq.connection import Connection

RELEASE_S: Final = 10.0
"""How long a release is tried; a lease that is not given back until then runs out."""


class GivenUpClaims:
    """Claims that nobody waits for any more, while their answer may still come.

    Args:
        ask: Sends a request: its type, its fields, and how long it may take, seconds.
    """

    def __init__(self, ask: Callable[..., Awaitable[object]]) -> None:
        self._ask = ask
        self._claims: dict[int, Connection] = {}
        self._releases: set[asyncio.Task[None]] = set()

    def note(self, request_id: int, connection: Connection) -> None:
        """Note a claim that was sent on this connection and has no answer yet."""
        self._claims[request_id] = connection

    def lost(self, connection: Connection) -> None:
        """Forget the claims of a connection: the node has forgotten them, too."""
        self._claims = {rid: kept for rid, kept in self._claims.items() if kept is not connection}

    def answered(self, request_id: int, message_type: int, payload: list[Any]) -> None:
        """Give back what the answer brings, if it is one to such a claim."""
        if self._claims.pop(request_id, None) is not None and message_type == Type.ACK:
            self.give_back(payload)

    def give_back(self, payload: list[Any]) -> None:
        """Release every task of the answer to a claim."""
        match payload:
            case [_, list() as grants, *_]:
                for grant in grants:
                    release = asyncio.create_task(self._release(grant))
                    self._releases.add(release)
                    release.add_done_callback(self._releases.discard)

    async def _release(self, grant: Any) -> None:  # noqa: ANN401 -- whatever the node sent
        match grant:
            case [bytes() as task_id, int() as token, *_]:
                # Without an answer the lease runs out, as that of any worker that is gone.
                with contextlib.suppress(TqError):
                    await self._ask(Type.RELEASE, [task_id, token], deadline_s=RELEASE_S)
