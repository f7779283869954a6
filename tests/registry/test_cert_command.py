"""`spindle cert self-signed`: files for a server, and one for its clients."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner

from registry.cli import command


def made(out: Path, *arguments: str, status: int = 0) -> str:
    """What is printed."""
    result = CliRunner().invoke(command, ["cert", "self-signed", "--out", str(out), *arguments])
    assert result.exit_code == status, result.output
    return result.output


def certificate(out: Path, name: str = "certificate") -> x509.Certificate:
    return x509.load_pem_x509_certificate((out / f"{name}.pem").read_bytes())


def names(out: Path) -> set[str]:
    extension = certificate(out).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return {str(name.value) for name in extension.value}


def test_a_server_is_named_as_clients_call_it(tmp_path: Path) -> None:
    hosts = ["reg.example.org", "*.apps.example.org", "192.0.2.7", "2001:db8::7", "[2001:db8::8]"]
    made(tmp_path / "tls", *(word for host in hosts for word in ("--host", host)))
    assert names(tmp_path / "tls") == {
        *("reg.example.org", "*.apps.example.org", "192.0.2.7", "2001:db8::7", "2001:db8::8"),
    }
    extension = certificate(tmp_path / "tls").extensions
    found = extension.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(found.get_values_for_type(x509.IPAddress)) == 3
    assert ipaddress.ip_address("192.0.2.7") in found.get_values_for_type(x509.IPAddress)


def test_without_names_it_is_for_this_machine(tmp_path: Path) -> None:
    made(tmp_path / "tls")
    assert names(tmp_path / "tls") >= {"localhost", "127.0.0.1", "::1"}


def test_what_it_can_be_used_for(tmp_path: Path) -> None:
    made(tmp_path / "tls", "--days", "30")
    server, authority = certificate(tmp_path / "tls"), certificate(tmp_path / "tls", "authority")
    constraints = [
        one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        for one in (server, authority)
    ]
    assert constraints == [False, True]
    usage = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    key = server.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    server.verify_directly_issued_by(authority)
    lasting = server.not_valid_after_utc - server.not_valid_before_utc
    assert timedelta(days=30) <= lasting < timedelta(days=31)


def test_the_authority_can_sign_nothing_more(tmp_path: Path) -> None:
    """Its key is nowhere: the one key there is belongs to the server."""
    made(tmp_path / "tls")
    written = b"".join(file.read_bytes() for file in (tmp_path / "tls").iterdir())
    assert written.count(b"PRIVATE KEY-----") == 2  # the begin and the end of one
    pair = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair.load_cert_chain(tmp_path / "tls/certificate.pem", tmp_path / "tls/key.pem")
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        pair.load_cert_chain(tmp_path / "tls/authority.pem", tmp_path / "tls/key.pem")


def test_only_the_owner_can_read_the_key(tmp_path: Path) -> None:
    made(tmp_path / "tls")
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "tls").iterdir()}
    assert modes["key.pem"] == 0o600
    assert len(modes) == 3


def test_what_is_there_stays_unless_one_insists(tmp_path: Path) -> None:
    made(tmp_path / "tls")
    before = (tmp_path / "tls/certificate.pem").read_bytes()
    assert "--force" in made(tmp_path / "tls", status=2)
    assert (tmp_path / "tls/certificate.pem").read_bytes() == before
    made(tmp_path / "tls", "--force")
    assert (tmp_path / "tls/certificate.pem").read_bytes() != before


@pytest.mark.parametrize(
    "host",
    [
        *("https://reg.example.org", "reg.example.org:5000", "a b", "", "-a", "a..b", "*", "a.*"),
        *("ü.example.org", "a/b", "x" * 64, ".".join(["x" * 60] * 5), "a\nb", "192.0.2.7/24"),
    ],
)
def test_what_is_no_name_is_refused_and_nothing_is_written(tmp_path: Path, host: str) -> None:
    assert "no host name" in made(tmp_path / "tls", "--host", host, status=2)
    assert not (tmp_path / "tls").exists()


def test_it_says_how_to_use_it(tmp_path: Path) -> None:
    said = made(tmp_path / "tls", "--host", "reg.example.org")
    for hint in ("--set tls.key=", "--cacert", "certs.d/reg.example.org:5000", "SSL_CERT_FILE="):
        assert hint in said
