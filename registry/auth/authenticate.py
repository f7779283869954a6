"""The gate of a registry where people and programs sign in.

    Basic   a user's password, or as the password a robot's secret or a workload's OIDC token
    Bearer  a robot's secret, or a token that was signed here

A credential says who somebody is, and that is asked anew with each request: a user who was removed,
a robot that was revoked, are nobody from then on, whatever was handed out to them before.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, Generic, Protocol, TypeVar

import structlog

from registry.audit import NoAudit, SignIns
from registry.auth.gate import Access, Decision
from registry.auth.htpasswd import CurrentUsers
from registry.auth.identity import ANONYMOUS, Credentials, Kind, Principal
from registry.auth.jws import TokenInvalid
from registry.auth.passwords import Passwords
from registry.auth.robots import PREFIX, Robot, Robots
from registry.auth.scope import Action, Grant
from registry.auth.users import NameRefused, check_name
from registry.errors import Unauthorized
from storage.errors import StorageError

log = structlog.get_logger(__name__)

LONGEST: Final = 16 << 10  # characters of the header; a token has 8 KiB at most

P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)


class Verified(Protocol):
    """What a token says that was signed here, and is neither too old nor for somebody else."""

    @property
    def subject(self) -> str:
        """Principal.text of whom it was made for."""
        ...

    @property
    def access(self) -> tuple[Grant, ...]: ...

    @property
    def claims(self) -> Mapping[str, str]:
        """Of a workload."""
        ...

    @property
    def issued(self) -> float:
        """Seconds since 1970."""
        ...


class Tokens(Protocol):
    async def verify(self, text: str) -> Verified:
        """Raises TokenInvalid. Some microseconds for a token that was seen before."""
        ...


class Federation(Protocol):
    def recognises(self, password: str) -> bool:
        """Whether it has the form of a workload's token."""
        ...

    async def sign_in(self, password: str) -> Principal:
        """Raises Unauthorized."""
        ...

    def trusts(self, principal: Principal) -> bool:
        """Whether a workload that was let in before still would be."""
        ...


class Policies(Protocol[P_co]):
    def current(self) -> P_co: ...


class Authentication(Generic[P]):
    """Gate. Nobody has to sign in only where the policy lets everybody do everything."""

    def __init__(
        self,
        policies: Policies[P],
        decide: Callable[[P, Principal, Action, str | None], Decision],
        users: CurrentUsers,
        passwords: Passwords,
        robots: Robots,
        *,
        tokens: Tokens | None = None,
        federation: Federation | None = None,
        sign_ins: SignIns | None = None,
        challenge: str = "bearer",
        service: str = "spindle",
    ) -> None:
        """`challenge` is of the setting auth.challenge; without `tokens` it is basic anyway."""
        self._policies = policies
        self._decide = decide
        self._users = users
        self._passwords = passwords
        self._robots = robots
        self._tokens = tokens
        self._federation = federation
        self._sign_ins = sign_ins or SignIns(NoAudit())
        self._bearer = challenge == "bearer" and tokens is not None
        self._service = service
        self._notes: set[asyncio.Task[None]] = set()

    @property
    def closed(self) -> bool:
        return not self.decide(ANONYMOUS, Action.ADMIN, None).allowed

    async def identify(self, credentials: Credentials) -> Principal:
        header = credentials.authorization
        if header is None:
            return self._certified(credentials.certificate)
        told = credentials.address, credentials.request
        try:
            principal = await self._identify(header, credentials.address)
        except Unauthorized as error:
            await self._tell(self._sign_ins.failed(self._claimed(header), *told, str(error)))
            raise
        # A token was told of when it was made.
        if principal.bounds is None:
            how = header.partition(" ")[0].lower()
            await self._tell(self._sign_ins.succeeded(principal.text, *told, how))
        return principal

    def _certified(self, name: str | None) -> Principal:
        """Whoever shows a certificate of the configured authorities: it vouches for the name."""
        if name is None:
            return ANONYMOUS
        try:
            return Principal(Kind.USER, check_name(name))
        except NameRefused:
            raise _refused("the name in the certificate is no name of a user") from None

    async def _tell(self, telling: Awaitable[None]) -> None:
        try:
            await telling
        except OSError as error:  # on a full disk one can still pull and delete
            log.warning("a sign-in is not in the audit", reason=str(error))

    def _claimed(self, header: str) -> str | None:
        """Whom somebody said to be, if there is one of that name."""
        scheme, _, rest = header.partition(" ")
        with suppress(Unauthorized):
            if scheme.lower() == "basic":
                name, _ = _pair(rest.strip(" "))
                if self._users.current().find(name) is not None:
                    return f"{Kind.USER}:{name}"
        return None

    async def _identify(self, header: str, address: str) -> Principal:
        scheme, _, rest = header.partition(" ")
        if len(header) > LONGEST:
            raise _refused("the Authorization header is too long")
        match scheme.lower():
            case "basic":
                name, password = _pair(rest.strip(" "))
                return await self._basic(name, password, address)
            case "bearer":
                return await self._token(rest.strip(" "))
            case _:
                raise _refused("the Authorization header is neither of Basic nor of Bearer")

    async def _basic(self, name: str, password: str, address: str) -> Principal:
        if password.startswith(PREFIX):
            return await self._robot(password)
        if not name and not password:
            # skopeo, podman and buildah say so where they have nothing to say to a Basic challenge.
            return ANONYMOUS
        if self._federation is not None and self._federation.recognises(password):
            return await self._federation.sign_in(password)
        if self._passwords.remembers(name, password) or await self._passwords.check(
            name, password, address
        ):
            return Principal(Kind.USER, name)
        raise _refused("the user name or the password is wrong")

    async def _token(self, text: str) -> Principal:
        if text.startswith(PREFIX):
            return await self._robot(text)
        if self._tokens is None or not text:
            raise _refused("no such token was handed out here")
        try:
            verified = await self._tokens.verify(text)
        except TokenInvalid:
            raise _refused("the token is not valid, or not any more; sign in again") from None
        owner = await self._owner(verified)
        if owner is None:
            raise _refused("whom the token was made for is nobody here any more")
        return replace(owner, bounds=verified.access)

    async def _owner(self, verified: Verified) -> Principal | None:
        """Whom a token was made for, as of now."""
        kind, _, name = verified.subject.partition(":")
        match kind:
            case Kind.ANONYMOUS if not name:
                return ANONYMOUS
            case Kind.USER if self._users.current().find(name):
                return Principal(Kind.USER, name)
            case Kind.ROBOT:
                robot = await self._robots.of_name(name)
                # One that was made later has only the name in common with the one that asked.
                if robot is not None and int(robot.created) <= verified.issued:
                    return robot.principal
            case Kind.WORKLOAD if self._federation is not None and name:
                workload = Principal(Kind.WORKLOAD, name, claims=verified.claims)
                if self._federation.trusts(workload):
                    return workload
        return None

    async def _robot(self, secret: str) -> Principal:
        robot = await self._robots.of_secret(secret)
        if robot is None:
            raise _refused("the token is not valid, or not any more; ask for another one")
        if self._robots.unnoted(robot):
            self._note(robot)
        return robot.principal

    def _note(self, robot: Robot) -> None:
        """Beside the request, which goes on whatever becomes of it."""

        async def note() -> None:
            with suppress(StorageError, OSError, sqlite3.Error):
                await self._robots.note(robot)

        if len(self._notes) < 16:
            task = asyncio.create_task(note())
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    def decide(self, principal: Principal, action: Action, repository: str | None) -> Decision:
        return self._decide(self._policies.current(), principal, action, repository)

    def challenges(
        self, host: str, access: Sequence[Access], error: str | None = None
    ) -> list[tuple[bytes, bytes]]:
        if not self._bearer:
            return [_challenge("Basic", [("realm", self._service), ("charset", "UTF-8")], ", ")]
        parameters = [("realm", f"{host}/auth/token"), ("service", self._service)]
        if access:
            parameters.append(("scope", " ".join(map(_scope, access))))
        if error is not None:
            parameters.append(("error", error))
        # No space after a comma: so all registries write it, and so some clients read it.
        return [_challenge("Bearer", parameters, ",")]

    async def close(self) -> None:
        """Waits for what is under way."""
        if self._notes:
            await asyncio.wait(self._notes)
        self._passwords.close()


def _scope(access: Access) -> str:
    what = "registry:catalog" if access.repository is None else f"repository:{access.repository}"
    return f"{what}:{','.join(access.actions)}"


def _challenge(
    scheme: str, parameters: Sequence[tuple[str, str]], separator: str
) -> tuple[bytes, bytes]:
    """RFC 9110, section 11.6.1."""
    shown = separator.join(f'{name}="{_quoted(value)}"' for name, value in parameters)
    return b"www-authenticate", f"{scheme} {shown}".encode("latin-1", "replace")


def _quoted(text: str) -> str:
    kept = "".join(character for character in text if " " <= character != "\x7f")
    return kept.replace("\\", "\\\\").replace('"', '\\"')


def _pair(text: str) -> tuple[str, str]:
    """User name and password (RFC 7617, section 2). Raises Unauthorized."""
    try:
        decoded = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
        # One spelling only: base64 that ends in other bits decodes to the same bytes.
        if base64.b64encode(decoded) != text.encode("ascii"):
            raise ValueError
        name, colon, password = decoded.decode("utf-8").partition(":")
    except ValueError:
        raise _refused("the Authorization header is not the Base64 of UTF-8 text") from None
    if not colon:
        raise _refused("the Authorization header has no colon after the user name")
    return name, password


def _refused(message: str) -> Unauthorized:
    """Says nothing of what was sent; whoever answers adds the challenges."""
    return Unauthorized(message)
