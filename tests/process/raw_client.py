"""A client written from docs/protocol.md alone: sockets, struct and msgpack, nothing of ours."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from typing import Any

import msgpack

HELLO, REGISTER_WORKER, SUBMIT_TASK, CLAIM_TASK, TASK_RESULT, QUERY_STATUS = 1, 2, 5, 7, 8, 13
ACK, NACK, REDIRECT = 0x80, 0x81, 0x82


class RawClient:
    """One connection; one request at a time."""

    def __init__(self, address: str, *, hello: bool = True) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._request_ids = itertools.count(1)
        if hello:
            kind, self.info = self.request(HELLO, 1, "raw-client", {})
            assert kind == ACK, self.info

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, kind: int, *fields: Any) -> tuple[int, list[Any]]:
        """Send one request; return the answer's type and its fields after the request id."""
        request_id = self.ask(kind, *fields)
        answer_kind, answer = self.receive()
        assert answer[0] == request_id
        return answer_kind, answer[1:]

    def ask(self, kind: int, *fields: Any) -> int:
        """Send one request, whose answer is not waited for; return its request id."""
        request_id = next(self._request_ids)
        payload = msgpack.packb([request_id, *fields], use_bin_type=True)
        self.send(struct.pack(">IB", len(payload) + 1, kind) + payload)
        return request_id

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def receive(self) -> tuple[int, list[Any]]:
        """Read one frame: its type and its payload array."""
        length, kind = struct.unpack(">IB", self._exactly(5))
        return kind, msgpack.unpackb(self._exactly(length - 1), raw=False)

    def closed(self) -> bool:
        """True when the server has closed the connection."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._socket.recv(count - len(parts))
            if not part:
                raise ConnectionError("the server closed the connection")
            parts += part
        return bytes(parts)


def new_task_id() -> bytes:
    """Make a UUIDv7: 48 bits of milliseconds, version 7, variant 2, the rest random."""
    value = int.from_bytes(os.urandom(16), "big")
    value = value & ~(0xFFFF_FFFF_FFFF << 80) | int(time.time() * 1000) << 80
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return value.to_bytes(16, "big")
