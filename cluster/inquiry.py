"""Asking at an address who is there, before the node becomes a member.

A learner that nobody reaches would stay a hole in the cluster until somebody removed it. So
the leader asks first: one connection, proved by TLS where nodes speak it, one question, and
the hello of whoever answers. Nothing else is said, and nobody counts it as a peer.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from cluster.addresses import Address
from cluster.handshake import PROTOCOL_VERSION, Hello, Kind, Refused, question
from cluster.messages import PeerProtocolError
from cluster.tls import PeerTls, Session, TlsError
from cluster.wire import HANDSHAKE_MAX_BYTES, Decoder, WireError, encode

PATIENCE_S: Final = 2.0
_READ_BYTES = 1 << 16


class Finding(NamedTuple):
    """Why a node cannot be let in.

    Attributes:
        text: For the operator: what is at the address, and what to do.
        may_pass: Asking again may help: nobody answered, as while the node starts.
    """

    text: str
    may_pass: bool


class _SilenceError(Exception):
    """Nobody has answered; the text says how."""


class _WrongError(Exception):
    """Somebody else has; the text says what to do."""


async def inquire(
    node_id: int,
    address: Address,
    *,
    me: int,
    cluster_id: bytes,
    tls: PeerTls | None = None,
    patience_s: float = PATIENCE_S,
) -> Finding | None:
    """Ask whether a node waits at an address to be let into this cluster.

    Args:
        node_id: Who should be there.
        address: Where.
        me: This node.
        cluster_id: Of this cluster; a node that has joined it already is welcome.
        tls: Certificates; None speaks in the clear.
        patience_s: Whoever has not answered by then is not there.

    Returns:
        What stands in the way, None when nothing does.
    """
    host, port = address
    try:
        async with asyncio.timeout(patience_s):
            hello = await _ask(node_id, address, me=me, tls=tls)
        _judge(hello, node_id, cluster_id=cluster_id)
    except _WrongError as error:
        return Finding(f"{host}:{port} {error}", may_pass=False)
    except TimeoutError:
        silence = f"nothing within {patience_s:g} s"
    except OSError as error:
        silence = error.strerror or str(error)
    except (_SilenceError, WireError, PeerProtocolError) as error:
        silence = str(error)
    else:
        return None
    return Finding(
        f"node {node_id} does not answer at {host}:{port} ({silence}): start it there with "
        "--join first, or correct the address",
        may_pass=True,
    )


async def _ask(node_id: int, address: Address, *, me: int, tls: PeerTls | None) -> Hello:
    reader, writer = await asyncio.open_connection(*address)
    try:
        session = None if tls is None else tls.session(dialled=True)
        frame = encode(question(me))
        if session is None:
            writer.write(frame)
        else:
            await _prove(session, reader, writer, node_id)
            session.send(frame)
            writer.write(session.take())
        return await _answer(reader, session)
    except TlsError as error:
        raise _WrongError(str(error.refusal)) from error
    finally:
        writer.transport.abort()


async def _prove(
    session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, node_id: int
) -> None:
    """Have both sides prove who they are."""
    try:
        session.receive(b"")
        while not session.established:
            writer.write(session.take())
            session.receive(await _read(reader))
    finally:
        writer.write(session.take())
    if session.node_id != node_id:
        named = f"node {session.node_id}" if session.node_id else "no node"
        raise _WrongError(
            f"has the certificate of {named}, not of node {node_id}: correct the address, or "
            "give each node a certificate of its own"
        )


async def _answer(reader: asyncio.StreamReader, session: Session | None) -> Hello:
    decoder = Decoder(HANDSHAKE_MAX_BYTES)
    while (fields := decoder.next()) is None:
        data = await _read(reader)
        decoder.feed(data if session is None else session.receive(data))
    if fields and fields[0] == Kind.REFUSED:
        raise _WrongError(f"refused: {Refused.from_list(fields).text}")
    return Hello.from_list(fields)


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(_READ_BYTES)
    if not data:
        raise _SilenceError("it hung up")
    return data


def _judge(hello: Hello, node_id: int, *, cluster_id: bytes) -> None:
    """Raise what stands in the way of whoever has answered."""
    if hello.node_id != node_id:
        raise _WrongError(f"is node {hello.node_id}, not node {node_id}: correct the address")
    if hello.version != PROTOCOL_VERSION:
        raise _WrongError(
            f"speaks version {hello.version}, this cluster {PROTOCOL_VERSION}: "
            "run the same version on all nodes"
        )
    if hello.cluster_id not in (None, cluster_id):
        raise _WrongError(
            f"belongs to another cluster: start node {node_id} with --join and an empty directory"
        )
    if hello.cluster_id is None and hello.voters:
        raise _WrongError(
            f"waits to found a cluster of its own: start node {node_id} with --join in place "
            "of --peers, and an empty directory"
        )
