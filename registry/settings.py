"""What can be set: every setting with its type, its default and what it is for.

A type knows how to read itself from text (`parse` raises ValueError), so that a file, the
environment and a flag say everything alike.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from registry.auth.authority import is_authority
from registry.auth.trust import Issuer
from storage.retention import Rule, Scope

ENVIRONMENT_PREFIX = "SPINDLE_"
TABLES = {"tables": True}  # marks what is no setting with a name of its own: see registry.rules


@dataclass(frozen=True, slots=True)
class Listen:
    """HOST:PORT; port 0 takes any free one."""

    host: str
    port: int

    @staticmethod
    def parse(text: str) -> Listen:
        host, colon, port = text.rpartition(":")
        host = host.strip("[]")
        if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:5000")
        return Listen(host, int(port))

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Bytes(int):
    """A number of bytes; written as one, or with KiB, MiB or GiB behind it."""

    _UNITS: Mapping[str, int] = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

    @classmethod
    def parse(cls, text: str) -> Bytes:
        match = re.fullmatch(r"([0-9]{1,15})\s*(|KiB|MiB|GiB)", text.strip())
        if not match:
            raise ValueError(f"{text!r} is not a size, such as 4MiB")
        return cls(int(match[1]) * cls._UNITS[match[2]])

    def __str__(self) -> str:
        for unit in ("GiB", "MiB", "KiB"):
            if self and self % self._UNITS[unit] == 0:
                return f"{self // self._UNITS[unit]}{unit}"
        return str(int(self))


class Seconds(float):
    """More than nothing, and finite; written as seconds, or with min, h or d behind the number."""

    _UNITS: Mapping[str, int] = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 24 * 3600}

    @classmethod
    def parse(cls, text: str) -> Seconds:
        number, unit = text.strip(), ""
        if match := re.fullmatch(r"([0-9.]{1,15})\s*(s|min|h|d)", number):
            number, unit = match[1], match[2]
        value = cls(float(number) * cls._UNITS[unit])  # float raises ValueError itself
        if not 0 < value < 1e9:
            raise ValueError(f"{text!r} is not a time above 0, such as 90, 12h or 30d")
        return value

    def __str__(self) -> str:
        return f"{float(self):.15g}"


class Rest(Seconds):
    """Seconds, or none."""

    @classmethod
    def parse(cls, text: str) -> Rest:
        return cls(0) if text.strip() == "0" else cls(super().parse(text))


class Age(Seconds):
    """Seconds, or never."""

    @property
    def in_units(self) -> str:
        """The same in the largest unit of which it is a whole number, for people."""
        for unit in ("d", "h", "min"):
            if self != NEVER and self % self._UNITS[unit] == 0:
                return f"{int(self / self._UNITS[unit])}{unit}"
        return str(self)

    @classmethod
    def parse(cls, text: str) -> Age:
        return NEVER if text.strip() == "never" else cls(super().parse(text))

    def __str__(self) -> str:
        return "never" if self == NEVER else super().__str__()


NEVER = Age("inf")


class Count(int):
    """At least one."""

    @classmethod
    def parse(cls, text: str) -> Count:
        if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or int(text) < 1:
            raise ValueError(f"{text!r} is not a whole number of 1 or more")
        return cls(text)


class Rate(float):
    """So many a second; 0 for no limit."""

    @classmethod
    def parse(cls, text: str) -> Rate:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text.strip()):
            raise ValueError(
                f"{text!r} is not a number a second, such as 50 or 0.5; 0 for no limit"
            )
        return cls(text)

    def __str__(self) -> str:
        return f"{float(self):.15g}"


class Networks(tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]):
    """Addresses and networks, separated by commas; possibly none."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Networks:
        try:
            return cls(ipaddress.ip_network(part.strip()) for part in text.split(",") if part)
        except ValueError as error:
            raise ValueError(f"{error}; give networks such as 192.0.2.7,10.0.0.0/8") from None

    def __str__(self) -> str:
        return ",".join(map(str, self))


class Flag:
    """Marks a yes-or-no setting; its values are Python's own."""

    @staticmethod
    def parse(text: str) -> bool:
        try:
            return {"true": True, "false": False}[text.strip().lower()]
        except KeyError:
            raise ValueError(f"{text!r} is neither true nor false") from None


def _domain(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", text):
        raise ValueError(f"{text!r} is not a domain name in lower case, such as apps.example.org")
    if len(text) > 120:
        raise ValueError("is longer than 120 characters, which leaves no room for the apps' names")
    return text


def _service(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:/-]{1,128}", text, re.ASCII):
        raise ValueError(f"{text[:140]!r} is not 1 to 128 letters, digits and . _ : / -")
    return text


def _origin(text: str) -> str:
    """An absolute URL without a path; empty for none."""
    if not text:
        return text
    match = re.fullmatch(r"(https?)://([^/?#@\s]+)/?", text, re.ASCII)
    if match is None or not is_authority(match[2]):
        raise ValueError(
            f"{text[:140]!r} is not http:// or https:// with a host and nothing behind it, such as"
            " https://r.example.org"
        )
    return f"{match[1]}://{match[2]}"


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is none of: {', '.join(choices)}")
        return text

    return parse


def _seconds(least: str, most: str) -> Callable[[str], Seconds]:
    def parse(text: str) -> Seconds:
        value = Seconds.parse(text)
        if not Seconds.parse(least) <= value <= Seconds.parse(most):
            raise ValueError(f"{text!r} is not from {least} to {most}")
        return value

    return parse


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip(), re.ASCII):
        raise ValueError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _setting(default: Any, help: str, parse: Callable[[str], Any] | None = None) -> Any:
    return field(default=default, metadata={"help": help, "parse": parse})


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    listen: Listen = _setting(Listen("127.0.0.1", 5000), "where clients push and pull")
    workers: Count = _setting(Count(1), "processes that serve the registry")
    url: str = _setting(
        "", "how clients reach it, such as https://r.example.org; else as they call it", _origin
    )
    drain: Seconds = _setting(Seconds(30), "for what is being answered when a process has to go")
    notice: Rest = _setting(
        Rest(0), "/readyz says 503 before a stop, and all else goes on: for balancers to look away"
    )
    stuck: Seconds = _setting(Seconds(60), "until a process is replaced whose loop stands still")
    open: bool = _setting(
        False, "listen on other than a loopback address although everybody may push", Flag.parse
    )
    trusted_proxies: Networks = _setting(
        Networks(), "in front of both listeners: what they say of their clients is believed"
    )
    proxy_headers: str = _setting(
        "x-forwarded",
        "x-forwarded or forwarded: in which fields they say it",
        _one_of("x-forwarded", "forwarded"),
    )


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    listen: Listen = _setting(Listen("127.0.0.1", 5080), "where applications answer")
    domain: str = _setting("localhost", "applications answer to <app>.<account>.<domain>", _domain)
    first_byte_timeout: Seconds = _setting(
        Seconds(60), "how long an application may take until its answer begins"
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    manifest: Bytes = _setting(Bytes(4 << 20), "largest manifest that can be pushed")
    blob: Bytes = _setting(Bytes(0), "largest blob that can be pushed; 0 for no limit")
    page: Count = _setting(Count(10_000), "most entries of one page of a listing")
    uploads: Count = _setting(Count(10_000), "uploads that may be open at a time")
    upload_bytes: Bytes = _setting(Bytes(1 << 40), "bytes that may lie in open uploads")
    reserve: Bytes = _setting(
        Bytes(64 << 20), "kept of the disk so that deletes go on when it is full; 0 keeps nothing"
    )


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Each listener of each process counts for itself."""

    limit: Count = _setting(Count(4096), "connections at a time; then the oldest idle one goes")
    per_address: Count = _setting(
        Count(256), "of them from one address, or one /64 of IPv6; loopback has no limit"
    )
    exempt: Networks = _setting(
        Networks(), "proxies: addresses and networks with no limit of their own, with commas"
    )
    first_byte: Seconds = _setting(Seconds(10), "a new connection may be silent")
    handshake: Seconds = _setting(Seconds(10), "until TLS is agreed on, where that is spoken")
    header: Seconds = _setting(Seconds(15), "from a header's first byte to its last")
    header_bytes: Bytes = _setting(Bytes(32 << 10), "largest header of a request")
    header_count: Count = _setting(Count(100), "most fields in it")
    request_line: Bytes = _setting(Bytes(8 << 10), "longest first line of a request")
    body_grace: Seconds = _setting(Seconds(20), "a body may take before its rate counts")
    body_rate: Bytes = _setting(
        Bytes(8 << 10), "a second that the registry's clients have to send of a body, at least"
    )
    body_window: Seconds = _setting(Seconds(30), "a body may stand still that came fast before")
    stall: Seconds = _setting(Seconds(60), "a client may take nothing of an answer on its way")
    idle: Seconds = _setting(Seconds(75), "a connection is kept between two requests")
    drain_bytes: Bytes = _setting(
        Bytes(1 << 20), "still read of a body that was refused, so that the answer is seen"
    )
    drain_time: Seconds = _setting(Seconds(1), "for the same")


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """Each process counts for itself."""

    uploads: Count = _setting(Count(512), "requests at a time that bring a blob or a manifest")
    pulls: Count = _setting(Count(2048), "blobs that are pulled at a time")
    auth: Count = _setting(Count(16), "sign-ins at a time")
    other: Count = _setting(Count(256), "other requests at a time; they are short")
    wait: Seconds = _setting(Seconds(1), "for a place; then, or if as many wait, 429 is answered")


@dataclass(frozen=True, slots=True)
class RateSettings:
    """Each process counts for itself; 0 sets no limit."""

    address: Rate = _setting(Rate(0), "requests a second from one address, or one /64 of IPv6")
    principal: Rate = _setting(Rate(0), "requests a second of one user, robot or workload")
    pushes: Rate = _setting(Rate(0), "manifests pushed a second by one of them, or one address")
    burst: Seconds = _setting(Seconds(10), "whose requests may come at once")
    bytes: Bytes = _setting(Bytes(0), "uploaded in a day by one of them, or one address")


@dataclass(frozen=True, slots=True)
class AuthSettings:
    enabled: bool = _setting(False, "who may do what is decided by the policy file", Flag.parse)
    users: Path = _setting(Path(), "an htpasswd file (bcrypt); else `htpasswd` in the data")
    policy: Path = _setting(Path(), "the policy file; else `policy.toml` in the data directory")
    challenge: str = _setting(
        "bearer", "bearer or basic: how clients are told to sign in", _one_of("bearer", "basic")
    )
    service: str = _setting(
        "spindle", "the name of this registry in tokens and challenges", _service
    )
    token_life: Seconds = _setting(
        Seconds(3600), "a token can be used: 5min to 24h", _seconds("5min", "24h")
    )
    key_life: Seconds = _setting(
        Seconds(30 * 24 * 3600),
        "a key signs tokens until another one is made: 1h or more",
        _seconds("1h", "3650d"),
    )
    refresh_tokens: bool = _setting(
        False,
        "docker login keeps a token instead of the password; Spin cannot read such a login",
        Flag.parse,
    )


@dataclass(frozen=True, slots=True)
class AuditSettings:
    enabled: str = _setting(
        "auto",
        "write down who changed what and who was refused; auto: when auth.enabled",
        lambda text: _one_of("auto", "true", "false")(text.strip().lower()),
    )
    directory: Path = _setting(Path(), "for its files; else `audit` in the data directory")
    size: Bytes = _setting(Bytes(64 << 20), "of one file, before the next one is begun")
    keep: int = _setting(0, "files that stay, the oldest go; 0 keeps all", _whole)


@dataclass(frozen=True, slots=True)
class TLSSettings:
    """PEM files, read again when they change."""

    certificate: Path = _setting(Path(), "the registry's, then those up to an authority; else HTTP")
    key: Path = _setting(Path(), "of the certificate, without a password; nobody else may read it")
    client_authorities: Path = _setting(
        Path(), "who has a certificate of theirs is the user of its common name; else ask nobody"
    )
    client_required: bool = _setting(False, "without such a certificate nobody enters", Flag.parse)
    gateway: bool = _setting(True, "the applications answer by TLS, too", Flag.parse)
    gateway_certificate: Path = _setting(Path(), "another one for the applications")
    gateway_key: Path = _setting(Path(), "of that")


@dataclass(frozen=True, slots=True)
class DeploySettings:
    enabled: bool = _setting(True, "deploy the Spin applications that are pushed", Flag.parse)
    health_timeout: Seconds = _setting(Seconds(60), "until a new revision must be healthy")
    drain_timeout: Seconds = _setting(Seconds(30), "for what the old revision still answers")


@dataclass(frozen=True, slots=True)
class CollectSettings:
    enabled: bool = _setting(True, "collect garbage while the server runs", Flag.parse)
    interval: Seconds = _setting(Seconds(60), "from one look for garbage to the next")
    grace: Seconds = _setting(
        Seconds(24 * 3600), "a blob stays that no manifest names; longer than any push takes"
    )
    quarantine: Seconds = _setting(
        Seconds(3600), "the bytes stay of a blob that no repository has any more"
    )
    untagged: Age = _setting(
        NEVER, "until a manifest goes that no tag, index or subject keeps; never keeps all"
    )
    upload_age: Seconds = _setting(
        Seconds(24 * 3600), "an upload stays to which nothing more is sent"
    )


@dataclass(frozen=True, slots=True)
class VerifySettings:
    enabled: bool = _setting(True, "read all that is kept again while the server runs", Flag.parse)
    interval: Seconds = _setting(
        Seconds(7 * 24 * 3600), "from the beginning of one such pass to that of the next"
    )
    rate: Bytes = _setting(Bytes(10 << 20), "read in a second at most; 0 for no bound")


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    workers: Count = _setting(Count(2), "processes of each running revision")
    concurrency: Count = _setting(Count(32), "requests at once in each of them")
    memory: Bytes = _setting(Bytes(128 << 20), "for each request's instance of a component")
    cpu: Seconds = _setting(Seconds(10), "of processor time for each request")
    wall: Seconds = _setting(Seconds(60), "from a request's first byte to its answer's last")
    private_networks: bool = _setting(
        False, "let applications reach loopback and private addresses they ask for", Flag.parse
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    level: str = _setting(
        "info", "debug, info, warning or error", _one_of("debug", "info", "warning", "error")
    )
    format: str = _setting(
        "auto", "json, text, or auto: text on a terminal", _one_of("auto", "json", "text")
    )


@dataclass(frozen=True, slots=True)
class Config:
    data: Path = _setting(Path("spindle-data"), "the one directory that everything is kept in")
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    connections: ConnectionSettings = field(default_factory=ConnectionSettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    rates: RateSettings = field(default_factory=RateSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    tls: TLSSettings = field(default_factory=TLSSettings)
    deploy: DeploySettings = field(default_factory=DeploySettings)
    collect: CollectSettings = field(default_factory=CollectSettings)
    verify: VerifySettings = field(default_factory=VerifySettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    log: LogSettings = field(default_factory=LogSettings)
    retention: tuple[Rule, ...] = field(default=(), metadata=TABLES)
    immutable: tuple[Scope, ...] = field(default=(), metadata=TABLES)
    issuer: tuple[Issuer, ...] = field(default=(), metadata=TABLES)

    @property
    def audited(self) -> bool:
        """Whether there is an audit."""
        return self.audit.enabled == "true" or (self.audit.enabled == "auto" and self.auth.enabled)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of what can be set."""

    name: str
    default: Any
    help: str
    parse: Callable[[str], Any]

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.replace(".", "_").upper()


def settings(section: Any = Config, prefix: str = "") -> Iterator[Setting]:
    hints = get_type_hints(section)
    for row in dataclasses.fields(section):
        if row.metadata.get("tables"):
            continue
        kind = hints[row.name]
        if dataclasses.is_dataclass(kind) and kind is not Listen:
            yield from settings(kind, f"{prefix}{row.name}.")
        else:
            parse = row.metadata["parse"] or getattr(kind, "parse", kind)
            yield Setting(f"{prefix}{row.name}", row.default, row.metadata["help"], parse)


SETTINGS = {setting.name: setting for setting in settings()}
