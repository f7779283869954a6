"""Which files are served with, and what happens when they change. No sockets but memory."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from registry.commands.cert import name_of, write
from registry.config import ConfigInvalid, load
from registry.tls import (
    CertificateInvalid,
    Certificates,
    Files,
    common_name,
    make_context,
    of_gateway,
    of_registry,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    make(tmp_path / "tls")
    return tmp_path / "tls"


def make(directory: Path, days: int = 30) -> None:
    write(directory, [name_of("localhost")], days)


def files(directory: Path) -> Files:
    return Files(directory / "certificate.pem", directory / "key.pem")


def serial(context: ssl.SSLContext, directory: Path) -> str:
    """Of the certificate that a client of this server sees. Raises SSLError if it trusts it not."""
    return str(handshake(context, trust(directory)).getpeercert()["serialNumber"])  # type: ignore[index]


def trust(directory: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=directory / "authority.pem")


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The client's side of a handshake in memory."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(down, up, server_hostname="localhost"),
        server.wrap_bio(up, down, server_side=True),
    ]
    waiting = list(sides)
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    return sides[0]


def test_a_self_signed_certificate_can_be_trusted_by_its_authority(directory: Path) -> None:
    assert serial(make_context(files(directory)), directory)


def test_http_1_1_is_what_is_agreed_on(directory: Path) -> None:
    client = trust(directory)
    client.set_alpn_protocols(["h2", "http/1.1"])
    side = handshake(make_context(files(directory)), client)
    assert side.selected_alpn_protocol() == "http/1.1"
    assert side.version() == "TLSv1.3"
    assert side.compression() is None


@pytest.mark.parametrize(
    "cipher", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"]
)
def test_tls_1_2_has_forward_secret_suites(directory: Path, cipher: str) -> None:
    client = trust(directory)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(cipher)
    assert handshake(make_context(files(directory)), client).cipher()[0] == cipher  # type: ignore[index]


@pytest.mark.parametrize(
    "cipher",
    ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "ALL:!AESGCM:!CHACHA20@SECLEVEL=0"],
)
def test_older_suites_are_not_spoken(directory: Path, cipher: str) -> None:
    client = trust(directory)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(cipher)
    with pytest.raises(ssl.SSLError):
        handshake(make_context(files(directory)), client)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_versions_are_not_spoken(directory: Path) -> None:
    """Nor could they be: none of the suites is for them."""
    assert make_context(files(directory)).minimum_version is ssl.TLSVersion.TLSv1_2
    client = trust(directory)
    client.set_ciphers("ALL@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        handshake(make_context(files(directory)), client)


def test_nothing_is_negotiated_anew_nor_compressed(directory: Path) -> None:
    context = make_context(files(directory))
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION


# What is refused


def test_a_key_of_another_certificate_is_refused(directory: Path, tmp_path: Path) -> None:
    make(tmp_path / "other")
    with pytest.raises(CertificateInvalid, match="do not belong together"):
        make_context(Files(directory / "certificate.pem", tmp_path / "other/key.pem"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("certificate.pem", b"", "no certificate and key in PEM"),
        ("certificate.pem", b"rubbish", "no certificate and key in PEM"),
        ("key.pem", b"-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n", "PEM"),
        ("key.pem", b"", "PEM"),
    ],
)
def test_what_is_no_pem_is_refused(directory: Path, name: str, content: bytes, said: str) -> None:
    (directory / name).write_bytes(content)
    with pytest.raises(CertificateInvalid, match=said):
        make_context(files(directory))


@pytest.mark.parametrize("name", ["certificate.pem", "key.pem"])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(CertificateInvalid, match=rf"{name}.* cannot be read"):
        make_context(files(directory))


def test_nobody_is_asked_for_a_password(directory: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key((directory / "key.pem").read_bytes(), None)
    locked = key.private_bytes(
        s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")
    )
    (directory / "key.pem").write_bytes(locked)
    with pytest.raises(CertificateInvalid, match=r"key\.pem has a password"):
        make_context(files(directory))


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777])
def test_a_key_that_others_can_read_is_refused(directory: Path, mode: int) -> None:
    (directory / "key.pem").chmod(mode)
    with pytest.raises(CertificateInvalid, match="chmod 600"):
        make_context(files(directory))


def test_a_group_may_read_what_belongs_to_root_and_no_other_key(directory: Path) -> None:
    key = directory / "key.pem"
    key.chmod(0o640)
    if key.stat().st_uid == 0:
        make_context(files(directory))
        import os

        os.chown(key, 12345, -1)
    with pytest.raises(CertificateInvalid, match="others can read"):
        make_context(files(directory))


# What changes


def look(certificates: Certificates) -> list[dict[str, Any]]:
    """What is told of a look."""
    with capture_logs() as told:
        certificates._log = structlog.get_logger()
        certificates.look()
    return [dict(line) for line in told]


def test_a_new_certificate_is_for_new_connections(directory: Path) -> None:
    certificates = Certificates(files(directory), "test")
    before, first = certificates.context, serial(certificates.context, directory)
    assert look(certificates) == []
    assert certificates.context is before
    make(directory)
    [told] = look(certificates)
    assert told["event"] == "tls.reloaded"
    assert serial(certificates.context, directory) != first
    assert look(certificates) == []


def test_a_link_that_leads_elsewhere_is_noticed(tmp_path: Path) -> None:
    """As certbot does with a link for each file, and Kubernetes with one for the directory."""
    make(tmp_path / "1")
    make(tmp_path / "2")
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "live").mkdir()
    for name in ("certificate.pem", "key.pem"):
        (tmp_path / "live" / name).symlink_to(f"../..data/{name}")
    certificates = Certificates(files(tmp_path / "live"), "test")
    serial(certificates.context, tmp_path / "1")
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").replace(tmp_path / "..data")
    assert [line["event"] for line in look(certificates)] == ["tls.reloaded"]
    serial(certificates.context, tmp_path / "2")


def test_half_of_a_pair_is_refused_once_and_the_old_one_stays(
    directory: Path, tmp_path: Path
) -> None:
    make(tmp_path / "next")
    certificates = Certificates(files(directory), "test")
    before = certificates.context
    (tmp_path / "next/certificate.pem").replace(directory / "certificate.pem")
    [told] = look(certificates)
    assert told["event"] == "tls.refused"
    assert "do not belong together" in told["reason"]
    assert certificates.context is before
    assert look(certificates) == []
    (tmp_path / "next/key.pem").replace(directory / "key.pem")
    assert [line["event"] for line in look(certificates)] == ["tls.reloaded"]
    serial(certificates.context, tmp_path / "next")


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_what_cannot_be_read_is_refused_once_and_the_old_one_stays(
    directory: Path, content: bytes | None
) -> None:
    certificates = Certificates(files(directory), "test")
    before = certificates.context
    if content is None:
        (directory / "key.pem").unlink()
    else:
        (directory / "certificate.pem").write_bytes(content)
    assert [line["event"] for line in look(certificates)] == ["tls.refused"]
    assert look(certificates) == []
    assert certificates.context is before


def test_the_end_of_a_certificate_is_told_once_a_day(directory: Path) -> None:
    now = datetime.now(UTC)
    certificates = Certificates(files(directory), "test", lambda: now)
    events = []
    for day in range(32):
        for hour in (0, 8, 16):
            now = datetime.now(UTC) + timedelta(days=day, hours=hour)
            events += [(day, line["event"]) for line in look(certificates)]
    days = [day for day, _ in events]
    assert days[0] == 16
    assert days == sorted(set(days))
    assert {event for day, event in events if day < 30} == {"tls.ends_soon"}
    assert events[-1] == (31, "tls.ended")


# Who a client is


def test_a_session_is_not_resumed_where_clients_show_certificates(directory: Path) -> None:
    """Else a certificate that has ended would be good for two hours more."""
    without = make_context(files(directory))
    asking = make_context(replace(files(directory), authorities=directory / "authority.pem"))
    assert (without.num_tickets, asking.num_tickets) == (2, 0)
    assert asking.options & ssl.OP_NO_TICKET
    assert asking.verify_mode is ssl.CERT_OPTIONAL


def test_authorities_that_are_none_are_refused(directory: Path) -> None:
    with pytest.raises(CertificateInvalid, match=r"key\.pem has no certificates"):
        make_context(replace(files(directory), authorities=directory / "key.pem"))


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ([[("commonName", "ada")]], "ada"),
        ([[("organizationName", "Acme")], [("commonName", "ada")]], "ada"),
        ([], None),
        ([[("organizationName", "ada")]], None),
        ([[("commonName", "ada")], [("commonName", "root")]], None),
        ([[("commonName", "ada"), ("commonName", "root")]], None),
        ([[("commonName", "")]], None),
        ([[("commonName", "ada\nroot")]], None),
        ([[("commonName", "ada\0")]], None),
        ([[("commonName", "\u0430da")]], None),  # a Cyrillic letter
        ([[("commonName", "a" * 65)]], None),
    ],
)
def test_the_name_of_a_client(subject: list[list[tuple[str, str]]], name: str | None) -> None:
    assert common_name({"subject": tuple(map(tuple, subject))}) == name


def test_who_showed_no_certificate_has_no_name() -> None:
    assert common_name(None) is None
    assert common_name({}) is None


# The settings


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ({"tls.certificate": "c"}, "tls.key"),
        ({"tls.key": "k"}, "tls.certificate"),
        ({"tls.gateway_certificate": "c"}, "tls.gateway_key"),
        ({"tls.client_authorities": "a"}, "tls.certificate"),
        (
            {"tls.certificate": "c", "tls.key": "k", "tls.client_required": "true"},
            "tls.client_authorities",
        ),
    ],
)
def test_half_of_what_belongs_together_stops_the_start(flags: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        load(flags=flags)
    assert refused.value.name == missing


def test_which_listener_has_which_certificate() -> None:
    def chosen(**given: str) -> tuple[Files | None, Files | None]:
        config = load(flags={f"tls.{name}": value for name, value in given.items()})
        return of_registry(config.tls), of_gateway(config.tls)

    pair = {"certificate": "c", "key": "k"}
    one, other = Files(Path("c"), Path("k")), Files(Path("gc"), Path("gk"))
    assert chosen() == (None, None)
    assert chosen(**pair) == (one, one)
    assert chosen(**pair, gateway="false") == (one, None)
    assert chosen(gateway_certificate="gc", gateway_key="gk") == (None, other)
    asked = Files(Path("c"), Path("k"), Path("a"), True)
    authorities = {"client_authorities": "a", "client_required": "true"}
    assert chosen(**pair, **authorities) == (asked, one)
