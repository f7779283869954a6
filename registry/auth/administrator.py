"""What holds where there is no policy: `admin` may do everything, a robot what its token says."""

from __future__ import annotations

from typing import Final

from registry.auth.gate import Decision
from registry.auth.identity import Kind, Principal
from registry.auth.scope import Action

ADMINISTRATOR: Final = "admin"


class NoPolicy:
    """Policies of a registry that has none."""

    def current(self) -> None:
        return None


def decide(policy: None, principal: Principal, action: Action, repository: str | None) -> Decision:
    bounds = principal.bounds
    if bounds is not None and not any(one.covers(action, repository) for one in bounds):
        return Decision(False, "the token that was shown is not for that")
    if any(one.covers(action, repository) for one in principal.grants):
        return Decision(True, f"the token of {principal.text}")
    if principal.kind is Kind.USER and principal.name == ADMINISTRATOR:
        return Decision(True, f"there is no policy, and then {ADMINISTRATOR} may do everything")
    return Decision(False, f"there is no policy, and then only {ADMINISTRATOR} may")
