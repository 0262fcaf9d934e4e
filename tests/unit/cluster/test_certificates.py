"""Certificates and keys: made once, read strictly; and TLS without a socket."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from cluster.certificates import Files, issue, make_authority, node_of, node_uri, read_facts
from cluster.faults import CertificateError
from cluster.tls import PeerTls, Session, TlsError, TlsFiles, today
from tests.support.authority import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


# ------------------------------------------------------------------------------ the files


def test_a_certificate_names_exactly_one_node() -> None:
    assert node_uri(7) == "tq://node/7"
    assert node_of(["tq://node/7"]) == 7
    assert node_of(["https://example.org", "tq://node/7"]) == 7
    for uris in (
        [],
        ["tq://node/7", "tq://node/8"],
        ["tq://node/07"],
        ["tq://node/0"],
        ["tq://node/7x"],
        ["tq://node/-7"],
        ["TQ://node/7/"],
        ["tq://node/" + "9" * 30],
        ["tq://node/\uff17"],
    ):
        assert node_of(uris) is None, uris


def test_keys_are_for_their_owner_and_nothing_is_overwritten(tmp_path: Path) -> None:
    os.umask(0)
    try:
        files = make_authority(tmp_path / "ca", now=today())
        mine = issue(tmp_path / "ca", 1, days=10, now=today())
    finally:
        os.umask(0o022)
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700
    for key in (files.key, mine.key):
        assert key.stat().st_mode & 0o777 == 0o600
    before = {path: path.read_bytes() for path in (tmp_path / "ca").iterdir()}
    with pytest.raises(CertificateError, match=r"ca\.pem is there already"):
        make_authority(tmp_path / "ca", now=today())
    mine.certificate.unlink()
    with pytest.raises(CertificateError, match=r"node-1\.key is there already"):
        issue(tmp_path / "ca", 1, days=10, now=today())
    del before[mine.certificate]
    assert {path: path.read_bytes() for path in (tmp_path / "ca").iterdir()} == before


def test_without_an_authority_the_text_says_how_to_make_one(tmp_path: Path) -> None:
    nowhere = tmp_path / "ca"
    text = rf"no authority in {nowhere}: .*'tq-node certificates authority {nowhere}'$"
    with pytest.raises(CertificateError, match=text):
        issue(nowhere, 1, days=10, now=today())
    assert not nowhere.exists()


@pytest.mark.parametrize("missing", ["ca.pem", "ca.key"])
def test_half_an_authority_is_not_taken_for_none(tmp_path: Path, missing: str) -> None:
    make_authority(tmp_path, now=today())
    (tmp_path / missing).unlink()
    with pytest.raises(CertificateError, match=rf"/{missing} is missing, half of the authority"):
        issue(tmp_path, 1, days=10, now=today())


def test_a_certificate_bears_its_addresses_and_its_days(tmp_path: Path) -> None:
    make_authority(tmp_path, now=today())
    files = issue(tmp_path, 4, addresses=["node4.example", "::1"], days=10, now=today())
    facts = read_facts(files.certificate)
    assert facts.node_id == 4
    assert datetime.timedelta(days=9) < facts.ends - today() <= datetime.timedelta(days=10)
    assert facts.begins < today()
    with pytest.raises(CertificateError, match="is neither a host name nor an IP address"):
        issue(tmp_path, 5, addresses=["bücher.example"], days=10, now=today())


def _own(authority: Authority, change: Callable[[TlsFiles], TlsFiles]) -> TlsFiles:
    return change(authority.files(1))


def _broken(files: TlsFiles) -> TlsFiles:
    files.certificate.write_text("not a certificate")
    return files


def _open(files: TlsFiles) -> TlsFiles:
    files.key.chmod(0o644)
    return files


def _encrypted(files: TlsFiles) -> TlsFiles:
    key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"a password nobody types"),
    )
    files.key.write_bytes(pem)
    return files


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda files: files._replace(ca=files.ca.with_name("none.pem")), "cannot read the"),
        (lambda files: files._replace(key=files.key.with_name("none.key")), "cannot read the key"),
        (_broken, "holds no certificate in PEM form"),
        (_open, "is open to every user of this host: chmod 600"),
        (_encrypted, "cannot be used together"),
        (lambda files: files._replace(key=files.ca.with_suffix(".key")), "KEY_VALUES_MISMATCH"),
    ],
    ids=["no ca", "no key", "broken", "open key", "encrypted key", "another's key"],
)
def test_files_that_cannot_be_used_are_refused_at_the_start(
    authority: Authority, change: Callable[[TlsFiles], TlsFiles], text: str
) -> None:
    with pytest.raises(CertificateError, match=text):
        PeerTls(1, _own(authority, change), now=today())


def test_the_wrong_nodes_certificate_is_refused_at_the_start(authority: Authority) -> None:
    with pytest.raises(CertificateError, match=r"node-2\.pem is of node 2, this is node 1"):
        PeerTls(1, authority.files(2), now=today())
    ca = TlsFiles(authority.ca, authority.ca, authority.ca.with_suffix(".key"))
    with pytest.raises(CertificateError, match=r"ca\.pem is of no node, this is node 1"):
        PeerTls(1, ca, now=today())


def test_an_expired_certificate_is_refused_at_the_start_with_its_file_and_date(
    authority: Authority,
) -> None:
    files = authority.files(1, age_days=20, days=10)
    ends = read_facts(files.certificate).ends
    with pytest.raises(CertificateError) as caught:
        PeerTls(1, files, now=today())
    assert f"{files.certificate} has expired on {ends:%Y-%m-%d %H:%M} UTC" in str(caught.value)
    with pytest.raises(CertificateError, match="is not valid before"):
        PeerTls(1, files, now=today() - datetime.timedelta(days=30))
    years = today() + datetime.timedelta(days=4000)
    with pytest.raises(CertificateError, match=r"ca\.pem has expired"):
        PeerTls(1, files, now=years)


# ----------------------------------------------------------------------------- the session


def sessions(authority: Authority) -> tuple[Session, Session]:
    return (
        authority.tls(1).session(dialled=True),
        authority.tls(2).session(dialled=False),
    )


def test_a_session_works_byte_by_byte(authority: Authority) -> None:
    one, two = sessions(authority)
    one.receive(b"")
    said = {one: b"", two: b""}
    one_sent = two_sent = False
    for _ in range(6):
        for source, sink in ((one, two), (two, one)):
            for byte in source.take():
                said[sink] += sink.receive(bytes([byte]))
        if one.established and not one_sent:
            one.send(b"x" * 40_000)
            one_sent = True
        if two.established and not two_sent:
            two.send(b"")
            two.send(b"y")
            two_sent = True
    assert said == {one: b"y", two: b"x" * 40_000}
    assert (one.node_id, two.node_id) == (2, 1)


def test_a_flipped_bit_on_the_way_ends_a_session(authority: Authority) -> None:
    one, two = sessions(authority)
    one.receive(b"")
    for _ in range(4):
        two.receive(one.take())
        one.receive(two.take())
    one.send(b"x" * 100)
    data = bytearray(one.take())
    data[50] ^= 1
    with pytest.raises(TlsError, match="speaks broken TLS"):
        two.receive(bytes(data))


def test_files_are_named_by_their_holder(tmp_path: Path) -> None:
    make_authority(tmp_path, now=today())
    assert issue(tmp_path, 12, days=1, now=today()) == Files(
        tmp_path / "node-12.pem", tmp_path / "node-12.key"
    )
