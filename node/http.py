"""The HTTP listener: health, status and metrics, for machines and for a quick look.

``/livez`` says that this process works, whatever its peers do: restarting a node because
others are down makes an outage longer. ``/readyz`` says that it is worth talking to.
Neither shows anything that must stay inside, and neither asks for a token; the others do
where the node has tokens.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from node.addresses import Address
from node.client_tls import ClientTls
from node.gate import REFUSAL_DELAY_S, Gate
from node.http_guests import Guests

TICK_AGE_MAX_S = 2.0
"""A node whose consensus engine has not ticked for so long is stuck."""

_CATCH_UP_POLL_S = 0.02
_CATCH_UP_POLLS_MAX = 50
_REQUEST_BYTES_MAX = 4096
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class RaftHealth(Protocol):
    """What readiness reads of the consensus engine's status."""

    @property
    def leader_id(self) -> int | None:
        """The leader this node follows or is."""

    @property
    def amnesiac(self) -> bool:
        """It may have forgotten what it confirmed; it does not vote until it is filled again."""

    @property
    def leader_commit_index(self) -> int:
        """Highest commit index a leader has told; this node's own may lag after a restart."""

    @property
    def applied_index(self) -> int:
        """Highest index the machine has executed."""


@dataclass(frozen=True, slots=True)
class Views:
    """What the listener shows; every callable is asked on each request and must not block.

    Attributes:
        tick_age_s: Seconds since the consensus engine last ticked.
        raft: The engine's status; None while it starts.
        is_stopping: Whether the node is shutting down.
        status: The document of ``/status``: mappings, lists, text, numbers; bytes are shown
            in hexadecimal.
        metrics: Text and content type for an ``Accept`` header.
    """

    tick_age_s: Callable[[], float]
    raft: Callable[[], RaftHealth | None]
    is_stopping: Callable[[], bool]
    status: Callable[[], Mapping[str, object]]
    metrics: Callable[[str], tuple[bytes, str]]


class Check(NamedTuple):
    """One line of a health answer.

    Attributes:
        name: What was looked at.
        flaw: What is wrong; empty when nothing is.
    """

    name: str
    flaw: str

    def __str__(self) -> str:
        return f"[-]{self.name} {self.flaw}" if self.flaw else f"[+]{self.name} ok"


class HttpListener:
    """Serves the views on one address until stopped.

    Args:
        views: What is shown.
        gate: Whom `/status` and `/metrics` are shown to; everybody unless given.
        tls: The port's certificate, None to speak in the clear.
    """

    def __init__(
        self, views: Views, *, gate: Gate | None = None, tls: ClientTls | None = None
    ) -> None:
        self._views = views
        self._gate = gate or Gate()
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def start(self, address: Address) -> Address:
        """Bind and serve.

        Args:
            address: Where; port 0 takes any free port.

        Returns:
            The address it is bound to.

        Raises:
            OSError: The address is in use or not of this machine.
        """
        assert self._runner is None
        # Requests are short and closing must not wait for a keep-alive connection.
        runner = web.AppRunner(
            application(self._views, self._gate),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        assert runner.server is not None
        guests = Guests(runner.server, tls=self._tls, refused=self._gate.refused)
        try:
            self._server = await asyncio.get_running_loop().create_server(
                guests.make, address.host, address.port
            )
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        return Address(address.host, int(self._server.sockets[0].getsockname()[1]))

    async def stop(self) -> None:
        """Close the listener and its connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()


def application(views: Views, gate: Gate) -> web.Application:
    """The routes, ready for a runner or a test client."""
    app = web.Application(
        middlewares=[_problems, _asking(gate)], client_max_size=_REQUEST_BYTES_MAX
    )

    async def livez(request: web.Request) -> web.Response:
        age_s = views.tick_age_s()
        stuck = f"has not ticked for {age_s:.1f} s" if age_s > TICK_AGE_MAX_S else ""
        # That this runs at all shows that the event loop turns.
        return _health(request, [Check("loop", ""), Check("raft", stuck)])

    async def readyz(request: web.Request) -> web.Response:
        return _health(request, await readiness(views))

    async def status(request: web.Request) -> web.Response:
        del request
        text = json.dumps(views.status(), default=_plain, indent=2)
        return web.Response(text=text + "\n", content_type="application/json", headers=_HEADERS)

    async def metrics(request: web.Request) -> web.Response:
        text, content_type = views.metrics(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type, **_HEADERS})

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/status", status)
    app.router.add_get("/metrics", metrics)
    return app


async def readiness(views: Views) -> list[Check]:
    """Whether this node is worth talking to: it knows a leader, its memory, and has caught up.

    Caught up means with what the leader had committed when the check began, for which it
    waits up to a second: under load the newest index is never reached.
    """
    stopping = Check("serving", "shutting down" if views.is_stopping() else "")
    raft = views.raft()
    if raft is None:
        return [stopping, Check("leader", "still starting"), Check("applied", "still starting")]
    leader = Check("leader", "" if raft.leader_id is not None else "no leader known")
    memory = Check("memory", "its disk was lost; a leader fills it again" if raft.amnesiac else "")
    goal = raft.leader_commit_index
    for _ in range(_CATCH_UP_POLLS_MAX):
        if raft.applied_index >= goal:
            return [stopping, leader, memory, Check("applied", "")]
        await asyncio.sleep(_CATCH_UP_POLL_S)
        raft = views.raft() or raft
    lag = Check("applied", f"executed {raft.applied_index} of {goal} entries")
    return [stopping, leader, memory, lag if raft.applied_index < goal else Check("applied", "")]


def _health(request: web.Request, checks: list[Check]) -> web.Response:
    failed = [check for check in checks if check.flaw]
    if "verbose" in request.query:
        text = "\n".join(str(check) for check in checks)
    else:
        text = "\n".join(str(check) for check in failed) or "ok"
    status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
    return web.Response(status=status, text=text + "\n", headers=_HEADERS)


def _asking(gate: Gate) -> Middleware:
    """Ask for a token before anything but health is shown."""

    @web.middleware
    async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
        if gate.is_open or request.path in _HEALTH:
            return await handler(request)
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if gate.admits_reader(token.strip() if kind.lower() == "bearer" else ""):
            return await handler(request)
        await asyncio.sleep(REFUSAL_DELAY_S)  # guessing takes time
        raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})

    return ask


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give errors the form of RFC 9457."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        kept = {name: error.headers[name] for name in _KEPT if name in error.headers}
        return _problem(error.status, detail=_DETAILS.get(error.status, ""), headers=kept)


_HEALTH = frozenset({"/livez", "/readyz"})
_KEPT = ("Allow", "WWW-Authenticate")
_DETAILS = {
    401: "This node wants a token here: Authorization: Bearer TOKEN. /livez and /readyz do not.",
    404: "This node serves /livez, /readyz, /status and /metrics.",
    405: "This resource can only be read.",
}


def _problem(status: int, *, detail: str, headers: Mapping[str, str]) -> web.Response:
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail:
        body["detail"] = detail
    return web.Response(
        status=status,
        text=json.dumps(body) + "\n",
        content_type="application/problem+json",
        headers={**_HEADERS, **headers},
    )


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return str(value)
