"""Mutual TLS between nodes: both show a certificate of the same authority, for their own id.

Sans I/O: a `Session` takes what came from a socket and gives what must go to it, so that it
behaves the same on every event loop, each failure is told with its cause, and the bounds of
the connection (time, strangers, bytes) hold from its first byte on.
"""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import NamedTuple

from cluster.certificates import Facts, node_of, read_facts
from cluster.faults import CertificateError
from cluster.refusals import Reason, Refusal

_RECORD_BYTES = 16_384
_EXPIRED = 10
_NOT_YET_VALID = 9
_UNKNOWN_ISSUER = frozenset({2, 7, 18, 19, 20, 21, 30})
_READABLE_BY_ALL = 0o007
_ALERTS = {
    "UNKNOWN_CA": "it was not issued by an authority the other side knows",
    "CERTIFICATE_EXPIRED": "it has expired",
    "CERTIFICATE_REQUIRED": "none was shown",
    "BAD_CERTIFICATE": "it is not valid",
    "UNSUPPORTED_CERTIFICATE": "it is not for this use",
    "DECRYPT_ERROR": "its key does not fit",
}
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST"})


class TlsFiles(NamedTuple):
    """Where a node's certificates are.

    Attributes:
        ca: Certificates of the authorities whose nodes are accepted.
        certificate: This node's.
        key: Its private key, for its owner alone.
    """

    ca: Path
    certificate: Path
    key: Path


class TlsError(Exception):
    """The connection cannot be used; `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(str(refusal))


def today() -> datetime.datetime:
    """Return the time certificates are judged by."""
    return datetime.datetime.now(datetime.UTC)


class PeerTls:
    """The certificates of one node, read and checked.

    Args:
        node_id: Whose certificate it must be.
        files: Where they are.
        now: The time, with its zone.

    Attributes:
        files: Where they are.
        ends: Until when the node's certificate is good.

    Raises:
        CertificateError: One of them cannot be used; the text says which, and why.
    """

    def __init__(self, node_id: int, files: TlsFiles, *, now: datetime.datetime) -> None:
        self.files = files
        authority, own = read_facts(files.ca), read_facts(files.certificate)
        check_time(files.ca, authority, now)
        check_time(files.certificate, own, now)
        if own.node_id != node_id:
            named = "no node" if own.node_id is None else f"node {own.node_id}"
            raise CertificateError(
                f"the certificate {files.certificate} is of {named}, this is node {node_id}: issue "
                f"one with 'tq-node certificates issue DIR --id {node_id}'"
            )
        check_key_mode(files.key)
        self.ends = own.ends
        self._accepting = self._context(ssl.PROTOCOL_TLS_SERVER)
        self._accepting.num_tickets = 0  # nothing is resumed: each connection proves itself
        self._dialling = self._context(ssl.PROTOCOL_TLS_CLIENT)

    def session(self, *, dialled: bool) -> Session:
        """Return the TLS of a new connection."""
        context = self._dialling if dialled else self._accepting
        return Session(context, self.files, server_side=not dialled)

    def _context(self, protocol: int) -> ssl.SSLContext:
        files = self.files
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # a certificate names a node, not a place
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.ca)
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(f"{files.ca} holds no usable authority: {error}") from error
        try:
            # Without a password here OpenSSL would ask for one at the terminal.
            context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(
                f"the certificate {files.certificate} and the key {files.key} cannot be used "
                f"together: {getattr(error, 'reason', None) or error.strerror or error}"
            ) from error
        return context


class Session:
    """TLS of one connection.

    Args:
        context: Of the side this node is on.
        files: Named in texts.
        server_side: The other node dialled.

    Attributes:
        established: Both sides have proved who they are.
        node_id: Whom the other side's certificate names, None when nobody.
    """

    def __init__(self, context: ssl.SSLContext, files: TlsFiles, *, server_side: bool) -> None:
        self.established = False
        self.node_id: int | None = None
        self._files = files
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)

    def receive(self, data: bytes) -> bytes:
        """Take what came from the socket; return what it said.

        Whatever happens, `take` may have something to send afterwards.

        Args:
            data: Ciphertext; none begins the handshake of the side that dials.

        Raises:
            TlsError: The other side is not to be talked to.
        """
        self._incoming.write(data)
        try:
            if not self.established:
                self._object.do_handshake()
                self.established = True
                self.node_id = _named_by(self._object)
            return self._read()
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            raise TlsError(self._refusal(error)) from error

    def send(self, data: bytes) -> None:
        """Encrypt what is to be said; `take` gives it."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._object.write(rest) :]

    def take(self) -> bytes:
        """Return what must go to the socket now."""
        return self._outgoing.read()

    def _read(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            try:
                piece = self._object.read(_RECORD_BYTES)
            except ssl.SSLWantReadError:
                break
            if not piece:
                break  # the other side will say nothing more; its socket closes next
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _refusal(self, error: ssl.SSLError) -> Refusal:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Refusal(Reason.CERTIFICATE, self._unverified(error))
        reason = error.reason or type(error).__name__
        if "ALERT" in reason:
            return Refusal(Reason.BY_PEER, self._alert(reason))
        if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return Refusal(Reason.CERTIFICATE, "shows no certificate")
        if reason in _NO_TLS:
            return Refusal(Reason.TLS, "does not speak TLS: set raft.tls on every node")
        return Refusal(Reason.TLS, f"speaks broken TLS: {reason}")

    def _unverified(self, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code == _EXPIRED:
            return "shows a certificate that has expired: its node names the file"
        if error.verify_code == _NOT_YET_VALID:
            return "shows a certificate that is not valid yet: compare the clocks of the hosts"
        if error.verify_code in _UNKNOWN_ISSUER:
            return f"shows a certificate that no authority in {self._files.ca} has issued"
        return f"shows a certificate that is not valid: {error.verify_message}"

    def _alert(self, reason: str) -> str:
        for name, text in _ALERTS.items():
            if reason.endswith(name):
                ends = f"; {_expiry(self._files)}" if name == "CERTIFICATE_EXPIRED" else ""
                return f"refuses this node's certificate {self._files.certificate}: {text}{ends}"
        return f"ends the TLS handshake: {reason}"


def looks_like_tls(data: bytes) -> bool:
    """Whether the first byte of a connection begins a TLS handshake or alert.

    A frame of the handshake in the clear begins with a length below 2**24: with 0.
    """
    return data[:1] in {b"\x16", b"\x15"}


def _named_by(connection: ssl.SSLObject) -> int | None:
    names = (connection.getpeercert() or {}).get("subjectAltName", ())
    return node_of([str(name[1]) for name in names if name[0] == "URI"])


def _expiry(files: TlsFiles) -> str:
    try:
        return f"it was good until {read_facts(files.certificate).ends:%Y-%m-%d %H:%M} UTC"
    except CertificateError as error:
        return str(error)


def check_time(path: Path, facts: Facts, now: datetime.datetime) -> None:
    """Refuse a certificate that is not good at a time.

    Raises:
        CertificateError: It has expired, or is not good yet.
    """
    if now >= facts.ends:
        raise CertificateError(
            f"the certificate {path} has expired on {facts.ends:%Y-%m-%d %H:%M} UTC: issue a new "
            "one with 'tq-node certificates issue', and start again"
        )
    if now < facts.begins:
        raise CertificateError(
            f"the certificate {path} is not valid before {facts.begins:%Y-%m-%d %H:%M} UTC: "
            "correct the clock of this host"
        )


def check_key_mode(key: Path) -> None:
    """Refuse a private key that every user of the host can read.

    Raises:
        CertificateError: It is one, or is not there.
    """
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise CertificateError(f"cannot read the key {key}: {error.strerror}") from error
    if mode & _READABLE_BY_ALL:
        raise CertificateError(f"the key {key} is open to every user of this host: chmod 600 {key}")
