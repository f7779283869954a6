"""In front of every API: who calls is found out, and is refused what he may not do.

Nothing here looks at what is stored, and no answer depends on it: who may not pull a repository
cannot tell by status, bytes or time whether there is one. Three refusals:

    401  who did not sign in, or did with what is wrong: with challenges that say how
    401  insufficient_scope: the token is too small, and its owner could have a larger one
    403  who signed in, and may not
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from starlette.types import Scope

from registry.access import address, request_id
from registry.auth.authority import called
from registry.auth.gate import Access, Gate
from registry.auth.identity import Credentials, Kind, Principal
from registry.auth.required import required, words
from registry.auth.scope import Action
from registry.errors import Denied, RequestError, Unauthorized
from registry.permissions import Need
from registry.tls import certified
from storage.errors import NameInvalid
from storage.names import RepositoryName

CATALOG: Final = (Access(None, ("*",)),)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent one request. Only made by a Doorman."""

    principal: Principal
    gate: Gate
    scope: Scope
    url: str
    bearer: bool
    """He showed a token of the token service, and could have had one for more."""

    def may(self, action: Action, repository: str | None) -> bool:
        """`repository` is a name, or None for what belongs to none."""
        return self.gate.decide(self.principal, action, repository).allowed

    def may_pull(self, repository: str) -> bool:
        return self.gate.decide(self.principal, Action.PULL, repository).allowed

    def may_deploy(self, repository: str) -> bool:
        """Whether what he pushes may run. No client asks for a token with that: it is its owner's
        right that counts.
        """
        return self._owner_may(Action.DEPLOY, repository)

    def _owner_may(self, action: Action, repository: str | None) -> bool:
        principal = self.principal
        if self.bearer and principal.bounds is not None:
            principal = replace(principal, bounds=None)
        return self.gate.decide(principal, action, repository).allowed

    def demand(self, action: Action, repository: str | None) -> None:
        """Raises Unauthorized or Denied."""
        if not self.may(action, repository):
            raise self.refusal(action, repository)

    def refusal(
        self, action: Action, repository: str | None, message: str | None = None
    ) -> RequestError:
        """The answer to somebody who may not. Knows nothing but who asked for what."""
        access = [Access(repository, words(action))]
        where = repository or "what belongs to no repository"
        message = message or f"{self.principal.text} may not {action} {where}"
        principal = self.principal
        if principal.bounds is not None and self._owner_may(action, repository):
            return self.unauthorized(
                f"this token is not for that: {message}; ask for one that is",
                *(access, "insufficient_scope"),
            )
        if not principal.signed_in:
            return self.unauthorized(f"sign in first: {message}", access)
        return Denied(message)

    def demand_for_mount(self, source: str, target: str) -> bool:
        """Whether a blob of `source` may be shown in `target`, to which he may push.

        Raises Unauthorized for a token that does not reach `source`, though its owner does.
        """
        if self.may(Action.PULL, source):
            return True
        owner = replace(self.principal, bounds=None)
        if not self.bearer or not self.gate.decide(owner, Action.PULL, source).allowed:
            return False
        raise self.unauthorized(
            f"this token is not for {source}; ask for one that is for both",
            [Access(target, words(Action.PUSH)), Access(source, words(Action.PULL))],
            "insufficient_scope",
        )

    def unauthorized(
        self, message: str, access: Sequence[Access], error: str | None = None
    ) -> Unauthorized:
        """401, with the challenges for that access."""
        return Unauthorized(message, self.gate.challenges(self._called, access, error))

    @property
    def _called(self) -> str:
        return self.url or called(self.scope)


class Doorman:
    """One for an API. `url` is how clients reach it (`registry.url`); empty: as they say it is."""

    def __init__(self, gate: Gate, url: str = "") -> None:
        self._gate = gate
        self._url = url

    async def identify(self, scope: Scope, need: Need | None, repository: str) -> Caller:
        """Who calls. Reads nothing of the body. Raises Unauthorized and TooManyRequests.

        `need` and `repository` are for the challenge: what to sign in for. The latter is the part
        of the path that should be a name, or empty.
        """
        authorization = _authorization(scope["headers"])
        try:
            principal = await self._gate.identify(
                Credentials(authorization, address(scope), request_id(scope), certified(scope))
            )
        except Unauthorized as error:
            if error.headers:
                raise
            headers = self._gate.challenges(
                self._url or called(scope),
                _access(need, repository),
                "invalid_token" if _is_exchangeable(authorization) else None,
            )
            raise Unauthorized(str(error), headers) from None
        return Caller(principal, self._gate, scope, self._url, _is_exchangeable(authorization))

    def admit(self, caller: Caller, need: Need | None, repository: str) -> None:
        """Let him pass if he may all that the route needs.

        `need` is None where the path is right and the method is not. Raises Unauthorized, Denied,
        and NameInvalid, but not to somebody who has yet to sign in.
        """
        principal = caller.principal
        # A token for nobody was given out here, and who shows it knows how to get one.
        stranger = (
            self._gate.closed and principal.kind is Kind.ANONYMOUS and principal.bounds is None
        )
        if repository:
            try:
                RepositoryName.parse(repository)
            except NameInvalid:
                if stranger:
                    raise caller.unauthorized("sign in first", ()) from None
                raise
        if stranger and (need is Need.SIGN_IN or (need is None and repository)):
            raise caller.unauthorized("sign in first", ())
        if need is not None:
            for action, where in required(need, repository):
                caller.demand(action, where)


def _access(need: Need | None, repository: str) -> Sequence[Access]:
    """What to sign in for; nothing, where that would be no name."""
    if need is Need.CATALOG:
        return CATALOG
    try:
        asked = required(need, RepositoryName.parse(repository).text) if need else ()
    except NameInvalid:
        return ()
    return [Access(where, words(action)) for action, where in asked]


def _authorization(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The header; sent twice it is joined, which is right for nobody."""
    found = [value for name, value in headers if name == b"authorization"]
    return b", ".join(found).decode("latin-1") if found else None


def _is_exchangeable(authorization: str | None) -> bool:
    """A token of the token service; not a robot's own, which is what it is."""
    if authorization is None or authorization[:7].lower() != "bearer ":
        return False
    return not authorization[7:].lstrip().startswith("spt_")
