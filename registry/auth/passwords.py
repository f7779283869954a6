"""Whether a password is a user's.

bcrypt takes a quarter of a second of a core, so it has threads and a short queue of its own, and
what was right is remembered for a minute: docker sends the password with every request.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import bcrypt

from registry.auth.attempts import Attempts, Network
from registry.auth.htpasswd import CurrentUsers
from registry.auth.robots import PREFIX
from registry.auth.users import COST, User
from registry.errors import TooManyRequests
from storage.threads import Threads

LONGEST: Final = 72  # bytes that bcrypt looks at
THREADS: Final = 2
QUEUE: Final = 16  # that wait for a thread; at cost 12 the last of them for two seconds
REMEMBERED: Final = 60.0  # seconds
MOST: Final = 4096  # passwords that are remembered; some 200 bytes each


NO_HASH: Final = f"$2b$12${'.' * 22}{'a' * 31}"
"""Fits no password that anybody could find."""


class PasswordRefused(ValueError):
    """A sentence for who chooses one."""


def hash_of(password: str, *, cost: int = COST) -> str:
    """For the users' file. Takes a quarter of a second. Raises PasswordRefused."""
    if not password:
        raise PasswordRefused("a password has at least one character")
    encoded = password.encode("utf-8", "surrogatepass")
    if len(encoded) > LONGEST:
        raise PasswordRefused(
            f"a password has at most {LONGEST} bytes, for bcrypt sees no more, and this one has"
            f" {len(encoded)}"
        )
    if password.startswith(PREFIX):
        raise PasswordRefused(f"a password does not begin with {PREFIX!r}: that is a robot's")
    if any(character < " " or character == "\x7f" for character in password):
        raise PasswordRefused("a password has no control characters, for no client sends them")
    return bcrypt.hashpw(encoded, bcrypt.gensalt(cost)).decode("ascii")


def _compare(password: bytes, hash: str) -> bool:
    return bcrypt.checkpw(password, hash.encode("ascii"))


class Passwords:
    def __init__(
        self,
        users: CurrentUsers,
        *,
        clock: Callable[[], float] = time.monotonic,
        compare: Callable[[bytes, str], bool] = _compare,
        shared: Iterable[Network] = (),
    ) -> None:
        """`compare` is bcrypt's; it runs in a thread, and only there. `shared`: see Attempts."""
        self._users = users
        self._clock = clock
        self._compare = compare
        self._attempts = Attempts(clock, shared=shared)
        self._threads = Threads("passwords", THREADS)
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, float] = OrderedDict()
        """Until when, by what `_mark` makes of user and password."""
        self._under_way: dict[tuple[bytes, str], asyncio.Task[bool]] = {}

    def remembers(self, name: str, password: str) -> bool:
        """Whether it was right a short while ago, and nothing of that user was changed since.

        Some microseconds. False says nothing.
        """
        user = self._users.current().find(name)
        if user is None:
            return False
        mark = self._mark(name, password, user)
        until = self._right.get(mark)
        if until is None:
            return False
        if until <= self._clock():
            del self._right[mark]
            return False
        return True

    async def check(self, name: str, password: str, address: str) -> bool:
        """Whether there is such a user with that password.

        No answer, and no time that it takes, tells whether there is such a user. Raises
        TooManyRequests after too many failures, or when too many wait for an answer.
        """
        if self.remembers(name, password):
            return True
        user = self._users.current().find(name)
        key = (self._mark(name, password, user), address)
        # A client that begins with ten requests at once asks one question.
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= THREADS + QUEUE:
                raise TooManyRequests("too many sign in at the same time; try again", after=1)
            if (wait := self._attempts.begin(name, address)) > 0:
                raise TooManyRequests(
                    "too many failed sign-ins from this address; wait, then try again", after=wait
                )
            task = asyncio.create_task(self._judge(name, password, user, address, key[0]))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        # Whoever asked first may leave; the others still want to know.
        return await asyncio.shield(task)

    async def _judge(
        self, name: str, password: str, user: User | None, address: str, mark: bytes
    ) -> bool:
        encoded = password.encode("utf-8", "surrogatepass")
        if len(encoded) > LONGEST or b"\0" in encoded:
            return False  # nobody's: bcrypt would raise, whoever the user is
        hash = self._no_hash(name) if user is None else user.hash
        right = await self._threads.run(partial(self._compare, encoded, hash)) and user is not None
        if right:
            self._attempts.succeed(name, address)
            self._right[mark] = self._clock() + REMEMBERED
            self._right.move_to_end(mark)
            if len(self._right) > MOST:
                self._right.popitem(last=False)
        return right

    def _mark(self, name: str, password: str, user: User | None) -> bytes:
        """Of a user with the hash that the file has for it: another hash makes another mark."""
        parts = (name, user.hash if user else "", password)
        content = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, content, "sha256")

    def _no_hash(self, name: str) -> str:
        """Fits no password, at the cost that a user's hash has.

        Which one's is up to the name: with costs of many sorts, one for all names that are nobody's
        would tell them apart.
        """
        costs = self._users.current().costs or (COST,)
        drawn = hmac.digest(self._key, name.encode("utf-8", "surrogatepass"), "sha256")
        cost = costs[int.from_bytes(drawn[:8], "big") % len(costs)]
        return NO_HASH.replace("$12$", f"${cost}$")

    def close(self) -> None:
        """Waits for what is under way."""
        self._threads.close()
