"""Certificates of nodes: making an authority, issuing for a node, reading what is there.

A node's certificate names it in its subject alternative name: the URI ``tq://node/1`` is
node 1. That, and nothing else in a certificate, is what peers go by: which machine a node
runs on may change, and addresses are no identities.

The only importer of `cryptography`.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.faults import CertificateError

AUTHORITY_CERTIFICATE = "ca.pem"
AUTHORITY_KEY = "ca.key"
AUTHORITY_DAYS = 3650
NODE_DAYS = 397

_BACKDATED = datetime.timedelta(minutes=10)
"""A certificate is good at once on hosts whose clocks are a little behind."""

_URI = re.compile(r"tq://node/([1-9][0-9]{0,18})", re.ASCII)
_FILE_MAX_BYTES = 1 << 20


class Files(NamedTuple):
    """Where the certificate and the key of one holder are."""

    certificate: Path
    key: Path


class Facts(NamedTuple):
    """What a certificate says.

    Attributes:
        node_id: Whose it is, None when it names no node.
        begins: From when it is good.
        ends: Until when.
        hosts: Host names and IP addresses it is good for, in lower case; clients check
            them, peers do not.
    """

    node_id: int | None
    begins: datetime.datetime
    ends: datetime.datetime
    hosts: frozenset[str] = frozenset()


def node_uri(node_id: int) -> str:
    """Return the name of a node in certificates."""
    return f"tq://node/{node_id}"


def node_of(uris: Sequence[str]) -> int | None:
    """Return the one node that subject alternative names of the kind URI name.

    Two names, like none, are nobody: a certificate for two nodes would let either pass as
    the other.
    """
    found = [match for uri in uris if (match := _URI.fullmatch(uri))]
    return int(found[0][1]) if len(found) == 1 else None


def make_authority(directory: Path, *, now: datetime.datetime) -> Files:
    """Make an authority: the one whose certificates the nodes of a cluster accept.

    Args:
        directory: Made when missing, for its owner alone.
        now: The time, with its zone.

    Raises:
        CertificateError: There is one already, or the directory cannot be written.
    """
    files = Files(directory / AUTHORITY_CERTIFICATE, directory / AUTHORITY_KEY)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tq authority")])
    usage = _usage(signs_certificates=True)
    builder = _builder(name, key, now=now, days=AUTHORITY_DAYS).issuer_name(name)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _store(files, certificate, key)
    return files


def issue(
    directory: Path,
    node_id: int,
    *,
    addresses: Sequence[str] = (),
    days: int,
    now: datetime.datetime,
) -> Files:
    """Issue the certificate of one node.

    Args:
        directory: Where the authority is; receives the node's two files.
        node_id: The node.
        addresses: Host names and IP addresses to name as well, for tools that ask for them;
            nodes do not.
        days: For how long it is good.
        now: The time, with its zone.

    Raises:
        CertificateError: There is no authority, the node has files already, or an address
            is none.
    """
    _expect_authority(directory)
    authority = _read(directory / AUTHORITY_CERTIFICATE)[0]
    authority_key = _read_key(directory / AUTHORITY_KEY)
    if authority.public_key() != authority_key.public_key():
        raise CertificateError(
            f"{AUTHORITY_CERTIFICATE} and {AUTHORITY_KEY} do not belong together"
        )
    files = Files(directory / f"node-{node_id}.pem", directory / f"node-{node_id}.key")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tq node {node_id}")])
    names = [x509.UniformResourceIdentifier(node_uri(node_id)), *map(_general_name, addresses)]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = _builder(name, key, now=now, days=days).issuer_name(authority.subject)
    certificate = (
        builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _store(files, certificate, key)
    return files


def read_facts(path: Path) -> Facts:
    """Read the first certificate of a file.

    Raises:
        CertificateError: It cannot be read, or is none.
    """
    certificate = _read(path)[0]
    uris: list[str] = []
    hosts: list[str] = []
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    else:
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        hosts = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
        hosts += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return Facts(
        node_of(uris),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        frozenset(hosts),
    )


def _expect_authority(directory: Path) -> None:
    """Say what to do where a file of the authority is missing."""
    certificate, key = directory / AUTHORITY_CERTIFICATE, directory / AUTHORITY_KEY
    if not certificate.exists() and not key.exists():
        raise CertificateError(
            f"there is no authority in {directory}: make one first with "
            f"'tq-node certificates authority {directory}'"
        )
    for path in (certificate, key):
        if not path.exists():
            raise CertificateError(
                f"{path} is missing, half of the authority: issue where both files are"
            )


def _builder(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, *, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        pass
    try:
        return x509.DNSName(address)
    except ValueError as error:
        raise CertificateError(f"{address!r} is neither a host name nor an IP address") from error


def _read(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_content(path, "certificate"))
    except ValueError as error:
        raise CertificateError(f"{path} holds no certificate in PEM form") from error


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_content(path, "key"), password=None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{path} holds no unencrypted private key in PEM form") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} holds a key of a kind that was not made here")
    return key


def _content(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_FILE_MAX_BYTES)
    except OSError as error:
        raise CertificateError(f"cannot read the {what} {path}: {error.strerror}") from error


def _store(files: Files, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    for path in files:
        if path.exists():
            raise CertificateError(f"{path} is there already: move it aside first")
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        files.key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(files.key, pem, 0o600)
        _create(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise CertificateError(f"cannot write {error.filename}: {error.strerror}") from error


def _create(path: Path, content: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
