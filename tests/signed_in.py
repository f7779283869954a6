"""A registry where one has to sign in, and two users of it."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Final

from tests.servers import SPINDLE, Spindle

OWNER: Final = ("ada", "correct horse battery staple")
"""Owns the accounts that the tests push to."""
STRANGER: Final = ("bob", "another password of no use")
"""May pull what is in `public/`, as everybody may."""
ACCOUNTS: Final = ("acme", "conformance", "shop")

POLICY: Final = """\
[accounts]
{accounts}

[[allow]]
who = ["anonymous", "everyone"]
repository = ["public/**"]
actions = ["pull"]

[[allow]]
who = ["user:ada"]
repository = ["**"]
actions = ["admin"]
"""


def basic(user: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(user).encode()).decode()


class SignedIn(Spindle):
    """`challenge` is how clients are told to sign in: basic or bearer."""

    policy = POLICY.format(accounts="\n".join(f'{name} = ["user:ada"]' for name in ACCOUNTS))

    def __init__(self, data: Path, *arguments: str, challenge: str = "bearer") -> None:
        super().__init__(
            data,
            *("--set", "auth.enabled=true", "--set", f"auth.challenge={challenge}"),
            *arguments,
        )
        self.headers = {"Authorization": basic(OWNER)}

    def start(self) -> None:
        policy = self.data / "policy.toml"
        if not policy.exists():
            for user in (OWNER, STRANGER):
                add(self.data, user)
            policy.write_text(self.policy)
            policy.chmod(0o600)
        super().start()


class Anybody(SignedIn):
    """Where nobody needs to sign in, since the policy lets everybody do everything."""

    policy = """
[[allow]]
who = ["anonymous"]
repository = ["**"]
actions = ["admin"]
"""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.headers = {}


def add(data: Path, user: tuple[str, str]) -> None:
    name, password = user
    subprocess.run(
        [SPINDLE, "user", "add", name, "--password-stdin", "--data", data],
        input=f"{password}\n",
        text=True,
        check=True,
        capture_output=True,
    )
