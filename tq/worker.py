"""The worker: claims tasks, runs them, keeps their leases, and leaves in good order.

The event loop that runs `serve` holds the connection, the heartbeats and every
decision; task functions run elsewhere (`tq.runner`), so nothing they do can stop a
heartbeat. A worker claims only what it can start at once: a task that waits, waits in
the cluster, where another worker can take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from tq.app import App
from tq.bell import Bell
from tq.decisions import Phase, Shutdown, Slots
from tq.durations import Duration
from tq.errors import BadRequest, ConfigError, Forbidden, TqError, Unauthenticated, UnknownSession
from tq.heart import Heart
from tq.holding import GRACE_S, Holding, ReportClient
from tq.identity import capabilities, default_name
from tq.node_info import NodeInfo, WorkerDefaults, said
from tq.protocol import CLAIM_QUEUES_MAX, is_name
from tq.runner import Runner, TaskRunner
from tq.worker_calls import Grant, WorkerSession

CLAIM_WAIT_MAX_S: Final = 15.0
PAUSE_MIN_S: Final = 0.2
PAUSE_MAX_S: Final = 5.0
LEAVE_S: Final = 2.0
"""How long the last words to the cluster may take."""

_HOPELESS = (BadRequest, ConfigError, Forbidden, Unauthenticated)
"""Asking again would get the same answer: the worker ends."""

log = logging.getLogger("tq.worker")


class WorkClient(ReportClient, Protocol):
    """What a worker asks of a client; `tq.Client` is one."""

    async def close(self) -> None: ...  # noqa: D102 - each as in `tq.Client`
    async def node_info(self) -> NodeInfo: ...  # noqa: D102
    async def register_worker(  # noqa: D102
        self, worker_id: bytes, *, name: str, queues: Sequence[str], capabilities: Mapping[str, str]
    ) -> WorkerSession: ...
    async def deregister_worker(self, session: int) -> None: ...  # noqa: D102
    async def claim(  # noqa: D102
        self,
        session: int,
        queues: Sequence[str],
        count: int,
        *,
        wait: Duration,
        deadline: Duration | None = None,
    ) -> list[Grant]: ...
    async def heartbeat(  # noqa: D102
        self, session: int, tokens: Sequence[int], stats: Mapping[str, int]
    ) -> list[int]: ...


class Worker:
    """Runs an app's tasks until it is told to stop.

    Args:
        app: Has the tasks, and knows where the cluster is.
        servers: The cluster, in place of the app's, and so are the next two.
        token: Proves who is asking.
        ca: File with the certificate of the cluster's authority.
        concurrency: Most tasks at once; it bounds the threads for plain functions, too.
            This and the two spans are the cluster's (`worker` in its configuration) if None.
        queues: What to claim from, all alike.
        heartbeat: How often to say which leases are held; leases that are shorter are
            renewed in time whatever it is.
        shutdown_timeout: How long running tasks may take to finish after `stop`.
        name: For people; host name and process id unless given.
        client: Makes the client in place of `tq.Client`; for tests.
        runner: Makes what runs the functions, in place of threads; for tests.

    Raises:
        ConfigError: An argument makes no sense.
    """

    def __init__(
        self,
        app: App,
        *,
        servers: str | Sequence[str] | None = None,
        token: str | None = None,
        ca: str | Path | None = None,
        concurrency: int | None = None,
        queues: Sequence[str] = ("default",),
        heartbeat: Duration | None = None,
        shutdown_timeout: Duration | None = None,
        name: str | None = None,
        client: Callable[[], WorkClient] | None = None,
        runner: Callable[[], TaskRunner] | None = None,
    ) -> None:
        if not 1 <= len(queues) <= CLAIM_QUEUES_MAX or not all(is_name(q) for q in queues):
            raise ConfigError(f"queues {list(queues)}: give 1 to {CLAIM_QUEUES_MAX} queue names")
        self._told = said(concurrency, heartbeat, shutdown_timeout)
        self._given_name = name
        self.name = name or default_name()
        self._app = app
        self._queues = tuple(queues)
        self._make_client = client or (
            lambda: app.make_client(servers=servers, token=token, ca=ca, name=self.name)
        )
        self._make_runner = runner or (lambda: Runner(threads_max=self._settings.concurrency))
        # Until the cluster says; a worker may be stopped before.
        self._settings = WorkerDefaults()._replace(**self._told)
        self._worker_id = b""
        self._shutdown = Shutdown(timeout_s=self._settings.shutdown_ms / 1000)
        self._session: WorkerSession | None = None
        self._holdings: dict[int, Holding] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._rest_until_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    # -------------------------------------------------------------------- start and stop

    def run(self) -> None:
        """Serve until a signal or `stop`; blocks.

        In the main thread SIGTERM and SIGINT drain the worker, and a second one makes
        it leave at once.

        Raises:
            TqError: The cluster refuses this worker for good.
        """
        asyncio.run(self._serve_with_signals())

    def stop(self) -> None:
        """Drain; called again, leave at once. From any thread, also before `serve` and after."""
        if self._loop is None:
            self._shutdown.signal(time.monotonic())
        else:
            with contextlib.suppress(RuntimeError):  # its loop has ended, and it with that
                self._loop.call_soon_threadsafe(self._signalled)

    async def serve(self) -> None:
        """Serve in the running event loop, which must not be blocked by anything else.

        Raises:
            TqError: The cluster refuses this worker for good.
        """
        # One id as long as it serves: registering again ends the session before. Not earlier,
        # for this object may have been copied to several processes by a fork.
        self._worker_id = os.urandom(16)
        self.name = self._given_name or default_name()
        self._loop = asyncio.get_running_loop()
        self._bell, self._slot_bell, self._beat_bell = Bell(), Bell(), Bell()
        self._registering = asyncio.Lock()
        self._client = self._make_client()
        self._runner: TaskRunner | None = None
        work = asyncio.create_task(self._work())
        work.add_done_callback(lambda _: self._bell.ring())
        try:
            await self._wait_until_over(work)
        finally:
            await self._leave(work)
        if work.done() and not work.cancelled():
            work.result()

    async def _serve_with_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._signalled)
        await self.serve()

    def _signalled(self) -> None:
        phase = self._shutdown.signal(self._now())
        log.info(
            "stopping", extra={"facts": {"phase": phase.value, "running": len(self._holdings)}}
        )
        self._bell.ring()

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    async def _wait_until_over(self, work: asyncio.Task[None]) -> None:
        while not work.done():
            phase = self._shutdown.step(self._now(), running=len(self._holdings))
            if phase is Phase.LEAVING:
                return
            await self._bell.wait(self._shutdown.wake_at())

    async def _leave(self, work: asyncio.Task[None]) -> None:
        """Give everything back and say goodbye, within a few seconds."""
        work.cancel()
        for holding in self._holdings.values():
            holding.leave()
        pending = {work, *self._tasks}
        await asyncio.wait(pending, timeout=GRACE_S + LEAVE_S)
        for task in pending:
            task.cancel()
        try:
            async with asyncio.timeout(LEAVE_S):
                if self._session is not None:
                    await self._client.deregister_worker(self._session.session)
        except (TqError, TimeoutError) as error:
            # The session ends by itself two heartbeats later, and its leases with it.
            log.warning("deregister_failed", extra={"facts": {"error": str(error)}})
        with contextlib.suppress(TqError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._client.close()
        if self._runner is not None:
            self._runner.close()
        log.info("stopped", extra={"facts": {"worker": self.name}})

    # --------------------------------------------------------------------------- session

    async def _work(self) -> None:
        await self._register()
        self._settle_in(await self._client.node_info())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat_forever())
                group.create_task(self._claim_while_serving())
        except ExceptionGroup as group_of_errors:
            raise group_of_errors.exceptions[0] from None  # whichever came first ended the other

    def _settle_in(self, node: NodeInfo) -> None:
        """Make what depends on the cluster's defaults, once they are known."""
        assert self._session is not None
        self._settings = settings = node.worker._replace(**self._told)
        self._shutdown.timeout_s = settings.shutdown_ms / 1000
        # The session, too, ends when it is silent for too long.
        interval_ms = min(settings.heartbeat_ms, self._session.lease_ms / 2)
        self._heart = Heart(interval_s=interval_ms / 1000, now=self._now())
        self._slots = Slots(settings.concurrency)
        self._claim_max = node.claim_max
        self._runner = self._make_runner()

    async def _register(self) -> None:
        pause_s = PAUSE_MIN_S
        while True:
            try:
                self._session = await self._client.register_worker(
                    self._worker_id,
                    name=self.name,
                    queues=self._queues,
                    capabilities=capabilities(),
                )
            except _HOPELESS:
                raise
            except TqError as error:
                log.warning("register_failed", extra={"facts": {"error": str(error)}})
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
                pause_s = min(pause_s * 2, PAUSE_MAX_S)
            else:
                facts = {"worker": self.name, "session": self._session.session}
                log.info("registered", extra={"facts": {**facts, "queues": ",".join(self._queues)}})
                return

    async def _register_again(self, ended: WorkerSession) -> None:
        """Replace a session that is over; its leases are lost."""
        async with self._registering:
            if self._session is ended:
                log.warning("session_ended", extra={"facts": {"session": ended.session}})
                self._heart.lose_all()
                self._look_at_leases()
                await self._register()

    def _look_at_leases(self) -> None:
        for holding in self._holdings.values():
            holding.look()

    # ------------------------------------------------------------------------ heartbeats

    async def _beat_forever(self) -> None:
        while True:
            # A new lease rings: it may need a heartbeat before the next one was due.
            while self._now() < (due_at := self._heart.next_beat_at()):
                await self._beat_bell.wait(due_at)
            await self._beat()

    async def _beat(self) -> None:
        session, tokens, sent_at = self._session, self._heart.tokens, self._now()
        assert session is not None
        stats = {"slots": self._settings.concurrency, "running": len(self._holdings)}
        self._heart.sent(sent_at)
        try:
            lost = await self._client.heartbeat(session.session, tokens, stats)
        except UnknownSession:
            await self._register_again(session)
        except _HOPELESS:
            raise
        except TqError as error:
            log.warning("heartbeat_failed", extra={"facts": {"error": str(error)}})
            self._heart.unanswered(self._now())
        else:
            self._heart.confirmed(tokens, lost, sent_at=sent_at)
            self._look_at_leases()

    # ---------------------------------------------------------------------------- claims

    async def _claim_while_serving(self) -> None:
        while self._shutdown.phase is Phase.SERVING:
            rest_s = self._rest_until_s - self._now()
            count = self._slots.to_claim(self._claim_max)
            if rest_s > 0:
                await asyncio.sleep(rest_s)
            elif count:
                await self._claim(count)
            else:
                await self._slot_bell.wait()

    async def _claim(self, count: int) -> None:
        session, sent_at = self._session, self._now()
        assert session is not None
        # While the claim waits its leases do not run, but this worker counts them as if.
        wait_s = min(CLAIM_WAIT_MAX_S, session.lease_ms / 4000)
        try:
            # Not the app's deadline: a claim that is given up takes tasks that wait for nobody.
            grants = await self._client.claim(
                session.session,
                self._queues,
                count,
                wait=wait_s,
                deadline=session.lease_ms / 1000,
            )
        except UnknownSession:
            await self._register_again(session)
        except BadRequest:
            if count == 1:
                raise
            self._claim_max = count // 2  # the cluster's own limit may be lower
        except _HOPELESS:
            raise
        except TqError as error:
            log.warning("claim_failed", extra={"facts": {"error": str(error)}})
            await asyncio.sleep(PAUSE_MIN_S)
        else:
            for grant in grants:
                self._admit(grant, sent_at=sent_at)

    def _admit(self, grant: Grant, *, sent_at: float) -> None:
        """Start a granted task, or give it back if the worker is on its way out."""
        self._heart.hold(grant.token, lease_s=grant.lease_ms / 1000, sent_at=sent_at)
        self._beat_bell.ring()
        assert self._runner is not None
        holding = Holding(
            grant,
            client=self._client,
            heart=self._heart,
            runner=self._runner,
            tasks=self._app.tasks,
            on_over=self._function_over,
        )
        if self._shutdown.phase is Phase.SERVING and self._slots.take():
            self._holdings[grant.token] = holding
            task = asyncio.create_task(holding.carry())
            task.add_done_callback(lambda _: self._give_up_slot(grant.token))
        else:
            task = asyncio.create_task(holding.give_back())
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, grant.token))

    def _function_over(self) -> None:
        self._slots.report()
        self._slot_bell.ring()

    def _give_up_slot(self, token: int) -> None:
        self._slots.give_back(reported=self._holdings.pop(token).is_over)
        self._slot_bell.ring()

    def _ended(self, task: asyncio.Task[None], token: int) -> None:
        self._tasks.discard(task)
        self._heart.drop(token)
        self._bell.ring()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_dropped", exc_info=error, extra={"facts": {"token": token}})
            # It may be the same with every task: a worker that cannot run any leaves the
            # queue to those that can.
            self._rest_until_s = self._now() + PAUSE_MAX_S
