"""What a caller must be allowed to do. Every route of every API names one of these."""

from __future__ import annotations

from enum import StrEnum


class Need(StrEnum):
    """With the repository in the path, if it has one."""

    NOTHING = "nothing"
    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    CATALOG = "catalog"
    DEPLOY = "deploy"
    ADMIN = "admin"
