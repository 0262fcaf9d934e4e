"""One connection to one node: handshake, frames out and in, keep-alive.

A connection knows nothing of leaders and retries (`tq.channel` does): it joins the
frames of one turn of the event loop into one write, cuts what comes in, says a word
when it was quiet for too long, and tells its owner once when it is lost.

A node that hangs, or that vanished without closing, looks like a quiet one. Whenever
answers are due and nothing came for a while, a HEARTBEAT is sent that any node answers at
once, however slow its disk is. Without a byte after it in either direction the node is
*silent*, which is told to the owner, who may look around; and lost after `LOST_S`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from tq.errors import ProtocolError, TqError, from_refusal
from tq.outflow import Outflow
from tq.protocol import (
    FRAME_MAX_BYTES,
    HEARTBEAT_INTERVAL_MS,
    REQUEST_ID_MAX,
    VERSION,
    Decoder,
    Type,
    encode,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Dial = Callable[[str, asyncio.Protocol], Awaitable[object]]
    """Connects a protocol to `host:port`; raises OSError when that fails."""
    Receive = Callable[["Connection", int, list[Any]], None]
    Lost = Callable[["Connection", str], None]

LOOK_S: Final = 0.25
"""How often a connection looks after itself at least, seconds."""
PROBE_S: Final = 1.0
"""How long it may be quiet while all that is due are answers that may take their time."""
PROBE_SOON_S: Final = 0.25
"""How long it may be quiet while somebody waits for an answer; twice as long after each
probe that was answered, up to `PROBE_S`, so that a slow node is not asked ever again."""
SILENT_S: Final = 0.25
"""How long the answer to a probe may take before the node counts as silent, seconds."""
LOST_S: Final = 2.0
"""After how many seconds of silence a connection is given up; half of them after the probe."""
KEEP_ALIVE_S: Final = HEARTBEAT_INTERVAL_MS / 1000
OPEN_MAX_S: Final = 2.0
"""How long connecting and HELLO may take together, seconds."""
GOODBYE_S: Final = 1.0
"""How long a connection that was closed may still write, seconds."""

_OWN_REQUEST_ID = REQUEST_ID_MAX  # HELLO and keep-alive; calls stay far below
_FLUSH_BYTES = 1024 * 1024
_LOOK_MIN_S: Final = 0.01


class Connection(asyncio.Protocol):
    """One connection to one node.

    Args:
        address: `host:port`, as it was dialled.
        receive: Called with each answer: connection, type, payload.
        lost: Called once with the reason, "" after `close`; not if HELLO was never accepted.
        resumed: Called when writing may go on after `paused`.
        silent: Called when answers are due and the node does not even answer a probe.
        is_urgent: Whether somebody waits for an answer that should come at once.
    """

    info: Mapping[str, Any]
    """What the node said of itself in its answer to HELLO."""

    def __init__(
        self,
        address: str,
        *,
        receive: Receive,
        lost: Lost,
        resumed: Callable[[], None] = lambda: None,
        silent: Callable[[Connection], None] = lambda _: None,
        is_urgent: Callable[[], bool] = lambda: False,
    ) -> None:
        self.address = address
        self.info = {}
        self.frame_max_bytes = FRAME_MAX_BYTES
        self._receive = receive
        self._lost = lost
        self._resumed = resumed
        self._tell_silent = silent
        self._is_urgent = is_urgent
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._hello: asyncio.Future[None] = self._loop.create_future()
        self._accepted = False
        self._closed_because: str | None = None
        self._gone = asyncio.Event()
        self._outflow = Outflow()
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._flush_due = False
        # Requests sent minus answers received: each request has exactly one answer.
        self._unanswered = 0
        self._sent_at_s = self._heard_at_s = self._due_since_s = self._loop.time()
        # Since when a probe is without an answer.
        self._probed_at_s: float | None = None
        self._patience_s = PROBE_SOON_S
        self._silent = False
        self._timer: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.TimerHandle | None = None

    @property
    def paused(self) -> bool:
        """Whether more is waiting to be written than should be."""
        return self._outflow.is_full

    @property
    def is_closed(self) -> bool:
        """Whether it is lost or closed: what is sent now goes nowhere."""
        return self._closed_because is not None

    @property
    def has_unanswered(self) -> bool:
        """Whether requests were sent that have no answer yet."""
        return self._unanswered > 0

    @property
    def is_silent(self) -> bool:
        """Whether answers are due and a probe was not answered either, so far."""
        return self._silent

    @property
    def term(self) -> int:
        """The term of that leader, as of HELLO; 0 if the node does not say."""
        term = self.info.get("term")
        return term if type(term) is int and term > 0 else 0

    @property
    def leader(self) -> str:
        """Client address of the leader as this node knew it at HELLO; "" if unknown."""
        leader = self.info.get("leader", "")
        return leader if isinstance(leader, str) else ""

    async def open(self, dial: Dial, *, name: str, options: Mapping[str, str]) -> None:
        """Connect and say HELLO.

        Args:
            dial: Makes the transport.
            name: The client's name, for the node's logs.
            options: `namespace`, and `token` if there is one.

        Raises:
            OSError: It cannot be reached, does not answer in time (TimeoutError), or
                closed the connection.
            TqError: HELLO was refused, or answered with nonsense.
        """
        hello = encode(Type.HELLO, [_OWN_REQUEST_ID, VERSION, name, dict(options)])
        try:
            async with asyncio.timeout(OPEN_MAX_S):
                await dial(self.address, self)
                self.send(hello)
                await self._hello
        except BaseException:
            self.abort("HELLO was not accepted")
            raise
        self._timer = self._loop.call_later(LOOK_S, self._look_after)

    def send(self, frame: bytes) -> None:
        """Write a whole frame, together with all others of this turn of the loop."""
        self._outbox.append(frame)
        self._outbox_bytes += len(frame)
        if not self._unanswered:
            self._due_since_s = self._loop.time()
        self._unanswered += 1
        if self._outbox_bytes >= _FLUSH_BYTES:
            self._flush()
        elif not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Write what is waiting, then close; what is not read within `GOODBYE_S` is dropped."""
        self._flush()
        self._outflow.finish()
        self._end("")
        if self._transport is not None and not self._gone.is_set():
            self._transport.close()
            # A transport waits until all is written: of a node that hangs for ever.
            self._goodbye = self._loop.call_later(GOODBYE_S, self._transport.abort)

    async def wait_closed(self) -> None:
        """Wait until the transport is gone, after `close` or `abort`."""
        if self._transport is not None:
            await self._gone.wait()

    def abort(self, reason: str) -> None:
        """Close at once; what is waiting is thrown away."""
        self._end(reason)
        self._outflow.abort()

    # ------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; see `asyncio.Protocol`."""
        # uvloop's transports have the methods of asyncio.Transport, not its class.
        self._transport = cast("asyncio.Transport", transport)
        self._outflow.attach(self._transport)
        if self._closed_because is not None:
            self._transport.abort()  # given up while it was being made

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner; see `asyncio.Protocol`."""
        self._end(f"connection lost: {exc}" if exc else "closed by the node")
        if self._goodbye is not None:
            self._goodbye.cancel()
        self._gone.set()

    def pause_writing(self) -> None:
        """Note that the transport is full; see `asyncio.Protocol`."""
        self._outflow.pause()

    def resume_writing(self) -> None:
        """Note that the transport has room, and tell the owner; see `asyncio.Protocol`."""
        self._outflow.resume()
        if not self._outflow.is_full:
            self._resumed()

    def data_received(self, data: bytes) -> None:
        """Cut bytes into answers and hand them on; see `asyncio.Protocol`."""
        self._heard()
        try:
            for message_type, body in self._decoder.feed(data):
                self._unanswered -= 1
                self._take(message_type, unpack(body))
        except ProtocolError as error:
            self._refuse(error)

    # ------------------------------------------------------------------------ inside

    def _take(self, message_type: int, payload: list[Any]) -> None:
        if self._closed_because is not None:
            return
        if not self._accepted:
            self._take_hello(message_type, payload)
        elif payload[0] == _OWN_REQUEST_ID:
            self._patience_s = min(PROBE_S, 2 * self._patience_s)
        else:
            self._patience_s = PROBE_SOON_S
            self._receive(self, message_type, payload)

    def _take_hello(self, message_type: int, payload: list[Any]) -> None:
        if self._hello.done():
            return
        if message_type == Type.NACK:
            self._hello.set_exception(refusal(payload))
            return
        match payload:
            case [_, dict() as info] if message_type == Type.ACK:
                self.info = info
                limit = info.get("frame_max_bytes")
                if isinstance(limit, int) and 0 < limit <= FRAME_MAX_BYTES:
                    self.frame_max_bytes = limit
                self._accepted = True
                self._hello.set_result(None)
            case _:
                raise ProtocolError(f"HELLO was answered with type {message_type:#04x}")

    def _refuse(self, error: ProtocolError) -> None:
        if not self._hello.done():
            self._hello.set_exception(error)
        self.abort(f"not understood: {error}")

    def _flush(self) -> None:
        self._flush_due = False
        if self._transport is None or not self._outbox:
            return
        data = self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox)
        self._outbox.clear()
        self._outbox_bytes = 0
        self._sent_at_s = self._loop.time()
        self._outflow.write(data)

    def _heard(self) -> None:
        self._heard_at_s = self._loop.time()
        self._probed_at_s = None
        self._silent = False

    def _look_after(self) -> None:
        """Say a word if it was quiet for long; tell if nobody answers, and give up in the end."""
        now_s = self._loop.time()
        if self._outflow.has_moved():
            self._heard()  # a long frame on a slow line is no silence
        quiet_since_s = max(self._heard_at_s, self._due_since_s) if self._unanswered else now_s
        probe_at_s = quiet_since_s + (self._patience_s if self._is_urgent() else PROBE_S)
        if self._probed_at_s is not None:
            self._look_at_silence(now_s, quiet_since_s, self._probed_at_s)
        elif now_s >= probe_at_s:
            self._probed_at_s = now_s
            self._speak()
        elif now_s - self._sent_at_s + PROBE_S > KEEP_ALIVE_S:
            self._speak()
        if self._closed_because is None:
            sooner_s = probe_at_s - now_s if now_s < probe_at_s else LOOK_S
            delay_s = max(_LOOK_MIN_S, min(LOOK_S, sooner_s))
            self._timer = self._loop.call_later(delay_s, self._look_after)

    def _look_at_silence(self, now_s: float, quiet_since_s: float, probed_at_s: float) -> None:
        if now_s - quiet_since_s >= LOST_S and now_s - probed_at_s >= LOST_S / 2:
            self.abort(f"no answer for {now_s - quiet_since_s:.1f} s")
        elif now_s - probed_at_s >= SILENT_S and not self._silent:
            self._silent = True
            self._tell_silent(self)

    def _speak(self) -> None:
        self.send(encode(Type.HEARTBEAT, [_OWN_REQUEST_ID, 0, []]))

    def _end(self, reason: str) -> None:
        if self._closed_because is not None:
            return
        self._closed_because = reason
        if self._timer is not None:
            self._timer.cancel()
        if self._accepted:
            self._lost(self, reason)
        elif not self._hello.done():
            self._hello.set_exception(ConnectionResetError(reason))
            self._hello.exception()  # nobody may be waiting for it


def refusal(payload: list[Any]) -> TqError:
    """Read the payload of a NACK.

    Raises:
        ProtocolError: It is none.
    """
    match payload:
        case [_, str() as code, str() as text, (int() | None) as retry_after_ms]:
            return from_refusal(code, text, retry_after_ms)
        case _:
            raise ProtocolError("a NACK without code, text and hint")
