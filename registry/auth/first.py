"""The first administrator: made once, where nobody could sign in otherwise."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from registry.auth import htpasswd
from registry.auth.passwords import hash_of
from registry.auth.robots import Robots
from registry.auth.users import Users

ADMINISTRATOR: Final = "admin"


class _SomebodyElse(Exception):
    pass


async def first_administrator(users: Path, robots: Robots) -> str | None:
    """The password of a new user `admin`, to be shown once; only its hash is kept, durably.

    None when there is any user, or ever was a robot. Blocks for a quarter of a second. Raises
    UsersInvalid, OSError.
    """
    if htpasswd.read(users).by_name or await robots.any():
        return None
    password = secrets.token_urlsafe(24)
    hash = hash_of(password)

    def made(found: Users) -> Users:
        if found.by_name:
            raise _SomebodyElse  # who started at the same moment
        return found.with_new(ADMINISTRATOR, hash)

    try:
        htpasswd.change(users, made)
    except _SomebodyElse:
        return None
    return password
