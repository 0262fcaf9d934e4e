"""Certificates for tests: authorities, and what they issue, good and bad."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from cluster.certificates import issue, make_authority
from cluster.tls import PeerTls, TlsFiles, today


class Authority:
    """An authority in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        made_at = today() - datetime.timedelta(days=100)
        self.ca = make_authority(directory, now=made_at).certificate

    def files(self, node_id: int, *, age_days: int = 0, days: int = 30) -> TlsFiles:
        """Issue for a node, as of some days ago, for some days."""
        made_at = today() - datetime.timedelta(days=age_days)
        place = self.directory / f"node-{node_id}.pem"
        if place.exists():
            return TlsFiles(self.ca, place, place.with_suffix(".key"))
        files = issue(self.directory, node_id, days=days, now=made_at)
        return TlsFiles(self.ca, *files)

    def tls(self, node_id: int) -> PeerTls:
        """Return what a transport of a node is given."""
        return PeerTls(node_id, self.files(node_id), now=today())

    def client(self, files: TlsFiles | None) -> ssl.SSLContext:
        """Return a client that shows whatever it is told to, and checks nothing."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if files is not None:
            context.load_cert_chain(files.certificate, files.key)
        return context

    def server(self, files: TlsFiles) -> ssl.SSLContext:
        """Return a server that shows whatever it is told to, and asks for nothing."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        return context
