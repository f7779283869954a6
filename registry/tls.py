"""The certificate of a listener: read, checked, and read again when its files change.

Every context is made anew and given to the connections that come after it: those that are open keep
theirs, and no session of an old one, with what was checked for it, can be resumed on a new one.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography import x509
from starlette.types import Scope

from registry.settings import TLSSettings

LOOK: Final = 5.0  # seconds from one look at the files to the next
_SOON: Final = timedelta(days=14)  # before the end of a certificate is told of, once a day
_DAY: Final = timedelta(days=1)

# Of TLS 1.2; what 1.3 has is all of this kind. Each is forward secret and authenticates what it
# encrypts (RFC 7525, section 4.2).
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:!PSK:!SRP"

_CERTIFIED: Final = "client_certificate"  # in a scope's state

log = structlog.get_logger(__name__)


class CertificateInvalid(Exception):
    """Nothing that can be served with; a sentence that names the file."""


@dataclass(frozen=True, slots=True)
class Files:
    """What a listener is told of TLS; all PEM."""

    certificate: Path
    """With the certificates between it and an authority behind it."""
    key: Path
    authorities: Path | None = None
    """Whose certificates clients may show; None: clients are not asked for any."""
    required: bool = False
    """Whether a client that shows none is sent away."""

    @property
    def all(self) -> Sequence[Path]:
        more = () if self.authorities is None else (self.authorities,)
        return (self.certificate, self.key, *more)


def of_registry(settings: TLSSettings) -> Files | None:
    """None: it speaks HTTP."""
    if not _given(settings.certificate):
        return None
    asked = settings.client_authorities if _given(settings.client_authorities) else None
    return Files(settings.certificate, settings.key, asked, settings.client_required)


def of_gateway(settings: TLSSettings) -> Files | None:
    """Applications are for everybody: nobody is asked for a certificate there."""
    if _given(settings.gateway_certificate):
        return Files(settings.gateway_certificate, settings.gateway_key)
    if settings.gateway and _given(settings.certificate):
        return Files(settings.certificate, settings.key)
    return None


def _given(path: Path) -> bool:
    return path != Path()


class Certificates:
    """The context for the next connection. `clock` tells the time of day."""

    def __init__(
        self, files: Files, service: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Raises CertificateInvalid."""
        self._files = files
        self._clock = clock
        self._log = log.bind(service=service)
        self._state = _state(files)
        self.context = make_context(files)
        self.ends = _end(files.certificate)
        """When the certificate in use is not valid any more."""
        self._warned: datetime | None = None

    def look(self) -> None:
        """Take what is in the files now, if that is another certificate and can be used."""
        state = _state(self._files)
        if state != self._state:
            # Noted before they are read: what changes meanwhile is seen by the next look.
            self._state = state
            try:
                context, ends = make_context(self._files), _end(self._files.certificate)
            except CertificateInvalid as error:
                self._log.error("tls.refused", reason=f"{error}; the one before stays in use")
            else:
                self.context, self.ends, self._warned = context, ends, None
                self._log.info("tls.reloaded", ends=self.ends.isoformat())
        self.warn()

    def warn(self) -> None:
        """Tell that the certificate ends soon, if it does and was not told for a day."""
        now = self._clock()
        if self.ends - now < _SOON and (self._warned is None or now - self._warned >= _DAY):
            self._warned = now
            self._log.warning(
                "tls.ended" if self.ends <= now else "tls.ends_soon",
                certificate=str(self._files.certificate),
                ends=self.ends.isoformat(),
            )

    async def keep(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK)


def make_context(files: Files) -> ssl.SSLContext:
    """Raises CertificateInvalid."""
    _check_mode(files.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    locked = False

    def password() -> str:
        """Without this, OpenSSL would ask at the terminal."""
        nonlocal locked
        locked = True
        return ""

    try:
        context.load_cert_chain(files.certificate, files.key, password=password)
    except ssl.SSLError as error:
        if locked:
            raise CertificateInvalid(
                f"{files.key} has a password, which nobody could give when the server starts"
            ) from None
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            why = "do not belong together"
        else:
            why = f"are no certificate and key in PEM ({error.reason or error})"
        raise CertificateInvalid(f"{files.certificate} and {files.key} {why}") from None
    except OSError as error:
        raise CertificateInvalid(
            f"{files.certificate} or {files.key} cannot be read: {error.strerror}"
        ) from None
    if files.authorities is not None:
        try:
            context.load_verify_locations(files.authorities)
        except OSError as error:  # SSLError is one, too
            raise CertificateInvalid(
                f"{files.authorities} has no certificates of authorities in PEM: {error.strerror}"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED if files.required else ssl.CERT_OPTIONAL
        # A session that is resumed would not have its client's certificate looked at again.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


def _check_mode(key: Path) -> None:
    try:
        found = key.stat()
    except OSError as error:
        raise CertificateInvalid(f"{key} cannot be read: {error.strerror}") from None
    mode = stat.S_IMODE(found.st_mode)
    # Secrets that are mounted belong to root, and to a group of whoever may read them.
    allowed = 0o740 if found.st_uid == 0 else 0o700
    if mode & 0o077 & ~allowed:
        raise CertificateInvalid(
            f"{key} is a secret that others can read or change (mode {mode:04o}): chmod 600 it"
        )


def _end(certificate: Path) -> datetime:
    try:
        first, *_ = x509.load_pem_x509_certificates(certificate.read_bytes())
        return first.not_valid_after_utc
    except (OSError, ValueError) as error:
        raise CertificateInvalid(f"{certificate} is no certificate in PEM: {error}") from None


def _state(files: Files) -> tuple[object, ...]:
    """Differs from another one if a file was changed, or what a link on its path leads to."""
    return tuple(_state_of(path) for path in files.all)


def _state_of(path: Path) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


# Who a client is


def common_name(certificate: Mapping[str, object] | None) -> str | None:
    """Of the subject of a verified certificate, as the ssl module describes it. Pure.

    None if it has none, several, or one that could be taken for something else.
    """
    subject = (certificate or {}).get("subject", ())
    assert isinstance(subject, tuple)
    names = [value for parts in subject for name, value in parts if name == "commonName"]
    if len(names) != 1:
        return None
    name: str = names[0]
    return name if name.isascii() and name.isprintable() and 0 < len(name) <= 64 else None


def certify(scope: MutableMapping[str, Any], name: str | None) -> None:
    """Note in a request whose certificate its connection was made with."""
    scope.setdefault("state", {})[_CERTIFIED] = name


def certified(scope: Scope) -> str | None:
    """The common name of the client's certificate, which was verified: for Credentials."""
    name: str | None = scope.get("state", {}).get(_CERTIFIED)
    return name
