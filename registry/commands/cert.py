"""`spindle cert`: certificates for a registry that no public authority vouches for."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cryptography import x509

command = typer.Typer(help="Certificates for TLS.", no_args_is_help=True)

_LONGEST = 825  # days; several systems trust no certificate for longer
_FILES = ("authority.pem", "certificate.pem", "key.pem")

USE = """\
{directory}:
  authority.pem    for clients: they trust what it signed, which is this one certificate
  certificate.pem  for the server, with key.pem; valid for {names} until {until}
  key.pem          the server's secret

  spindle serve --set tls.certificate={directory}/certificate.pem --set tls.key={directory}/key.pem

Clients trust it by, for instance:

  curl --cacert {directory}/authority.pem https://{host}:5000/v2/
  docker   copy authority.pem to /etc/docker/certs.d/{host}:5000/ca.crt
  podman, skopeo, buildah   copy it to /etc/containers/certs.d/{host}:5000/ca.crt
  oras     --ca-file {directory}/authority.pem
  crane, helm, spin, spindle and most others   SSL_CERT_FILE={directory}/authority.pem
"""


@command.callback()
def certificates() -> None:
    """Certificates for TLS."""


@command.command("self-signed")
def self_signed(
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="A name or address by which clients call the server; may be repeated. "
            "Else localhost, its addresses, and this machine's name.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the files are written.")
    ] = Path("tls"),
    days: Annotated[
        int, typer.Option("--days", min=1, max=_LONGEST, help="How long it is valid.")
    ] = _LONGEST,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the files of an earlier run.")
    ] = False,
) -> None:
    """Make a certificate and key for a server, and what clients need to trust it."""
    hosts = host or _own_names()
    try:
        names = [name_of(one) for one in hosts]
        there = [name for name in _FILES if (out / name).exists()]
        if there and not force:
            raise ValueError(f"{out / there[0]} is there already; --force replaces it")
        until = write(out, names, days)
    except (ValueError, OSError) as error:
        typer.echo(f"spindle: {error}", err=True)
        raise typer.Exit(2) from None
    shown = f"[{hosts[0]}]" if ":" in hosts[0] else hosts[0]
    typer.echo(USE.format(directory=out, names=", ".join(hosts), until=until, host=shown), nl=False)


def _own_names() -> list[str]:
    names = ["localhost", "127.0.0.1", "::1"]
    try:
        name_of(own := socket.gethostname())
    except ValueError:  # machines may have names that no certificate can hold
        return names
    return names if own in names else [*names, own]


def name_of(text: str) -> x509.GeneralName:
    """Raises ValueError."""
    import re

    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    label = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
    if len(text) > 253 or not re.fullmatch(rf"(\*\.)?{label}(\.{label})*", text):
        raise ValueError(
            f"{text!r} is no host name, nor an address; it has neither a port nor a scheme"
        )
    return x509.DNSName(text.lower())


def write(out: Path, names: list[x509.GeneralName], days: int) -> str:
    """The files, each whole or not at all; returns the last day. Raises OSError.

    The authority's key is thrown away: who trusts the authority trusts this certificate and
    nothing else that anybody could make later.
    """
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    start, end = now - datetime.timedelta(hours=1), now + datetime.timedelta(days=days)
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    first = str(names[0].value)
    above = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Spindle"),
            # Told apart by their serial number, where somebody trusts several of one host.
            x509.NameAttribute(NameOID.COMMON_NAME, f"{first[:40]} {os.urandom(4).hex()}"),
        ]
    )
    below = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, first[:64])])

    def sign(subject: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool) -> bytes:
        identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        usage = x509.KeyUsage(
            digital_signature=not ca,
            key_cert_sign=ca,
            crl_sign=ca,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(above)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), True)
            .add_extension(usage, True)
            .add_extension(identifier, False)
        )
        if not ca:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
            server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
            builder = (
                builder.add_extension(x509.SubjectAlternativeName(names), False)
                .add_extension(server, False)
                .add_extension(issuer, False)
            )
        signed = builder.sign(authority, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    trusted = sign(above, authority.public_key(), ca=True)
    certificate = sign(below, key.public_key(), ca=False)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    out.mkdir(parents=True, exist_ok=True)
    # A server that looks meanwhile sees a pair that does not fit, and looks again.
    for name, content in zip(_FILES, (trusted, certificate, secret), strict=True):
        temporary = out / f".{name}.new"
        temporary.unlink(missing_ok=True)
        with open(
            temporary, "xb", opener=lambda path, flags: os.open(path, flags, _mode(path))
        ) as file:
            file.write(content)
        temporary.replace(out / name)
    return end.date().isoformat()


def _mode(path: str) -> int:
    return 0o600 if "key" in Path(path).name else 0o644
