"""What a caller must be allowed to do. Every route of every API names one of these."""

from __future__ import annotations

from enum import StrEnum


class Need(StrEnum):
    """With the repository in the path, if it has one."""

    NOTHING = "nothing"
    SIGN_IN = "sign-in"
    """To be somebody, if anything here needs that: clients find out there how to sign in."""
    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    CATALOG = "catalog"
    """Nothing more: the list has what its reader may pull."""
    APPS = "apps"
    """Nothing more: the list has what its reader may deploy."""
    DEPLOY = "deploy"
    ADMIN = "admin"
