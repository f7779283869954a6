"""Passwords: who is let in, what it tells to others, and what guessing costs whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network

import bcrypt
import pytest

from registry.auth.attempts import FREE_OF_ADDRESS, FREE_OF_NAME, LONGEST, Attempts, parse, place_of
from registry.auth.passwords import QUEUE, THREADS, PasswordRefused, Passwords, hash_of
from registry.auth.users import Users
from registry.errors import TooManyRequests

HERE = "192.0.2.7"
ELSEWHERE = "198.51.100.9"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class File:
    """CurrentUsers that a test changes."""

    def __init__(self, **passwords: str) -> None:
        self.users = Users()
        for name, password in passwords.items():
            self.users = self.users.with_new(name, hash_of(password, cost=10))

    def current(self) -> Users:
        return self.users


class Counted:
    """bcrypt, and how often it was asked at which cost."""

    def __init__(self) -> None:
        self.costs: list[int] = []

    def __call__(self, password: bytes, hash: str) -> bool:
        self.costs.append(int(hash[4:6]))
        return bcrypt.checkpw(password, hash.encode())


class Scene:
    def __init__(self) -> None:
        self.clock = Clock()
        self.file = File(ada="right", bob="also right")
        self.bcrypt = Counted()
        self.passwords = Passwords(self.file, clock=self.clock, compare=self.bcrypt)

    async def wait_of(self, name: str, password: str, address: str) -> float:
        with pytest.raises(TooManyRequests) as refused:
            await self.passwords.check(name, password, address)
        return refused.value.after


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    one = Scene()
    yield one
    one.passwords.close()


async def test_only_the_right_password_of_a_user_is_right(scene: Scene) -> None:
    assert await scene.passwords.check("ada", "right", HERE)
    assert not await scene.passwords.check("ada", "also right", HERE)
    assert not await scene.passwords.check("ada", "", HERE)
    assert not await scene.passwords.check("eve", "right", HERE)
    assert not await scene.passwords.check("", "right", HERE)
    assert not await scene.passwords.check("ada\0", "right", HERE)


@pytest.mark.parametrize(
    "password", ["x" * 73, "right\0", "right\0tail", "\0", "é" * 37, "x" * 100_000, "\udcff"]
)
async def test_what_bcrypt_cannot_take_is_wrong_and_no_failure_of_ours(
    scene: Scene, password: str
) -> None:
    assert not await scene.passwords.check("ada", password, HERE)


async def test_72_bytes_are_taken(scene: Scene) -> None:
    scene.file.users = scene.file.users.with_hash("ada", hash_of("é" * 36, cost=10))
    assert await scene.passwords.check("ada", "é" * 36, HERE)


async def test_a_name_that_is_nobodys_costs_what_a_users_does(scene: Scene) -> None:
    await scene.passwords.check("ada", "wrong", HERE)
    await scene.passwords.check("nobody", "wrong", HERE)
    assert scene.bcrypt.costs == [10, 10]
    scene.file.users = Users()
    await scene.passwords.check("nobody", "wrong", HERE)
    assert scene.bcrypt.costs == [10, 10, 12]  # that of `spindle user add`


async def test_what_was_right_is_remembered_for_a_minute(scene: Scene) -> None:
    for _ in range(3):
        assert await scene.passwords.check("ada", "right", HERE)
    assert len(scene.bcrypt.costs) == 1
    assert scene.passwords.remembers("ada", "right")
    assert not scene.passwords.remembers("ada", "wrong")
    assert not scene.passwords.remembers("bob", "right")
    scene.clock.now += 60
    assert not scene.passwords.remembers("ada", "right")
    assert await scene.passwords.check("ada", "right", HERE)
    assert len(scene.bcrypt.costs) == 2


async def test_a_new_password_and_a_removed_user_end_what_is_remembered(scene: Scene) -> None:
    await scene.passwords.check("ada", "right", HERE)
    await scene.passwords.check("bob", "also right", HERE)
    scene.file.users = scene.file.users.with_hash("ada", hash_of("new", cost=10)).without("bob")
    assert not scene.passwords.remembers("ada", "right")
    assert not scene.passwords.remembers("bob", "also right")
    assert not await scene.passwords.check("ada", "right", HERE)
    assert not await scene.passwords.check("bob", "also right", HERE)


async def test_what_was_wrong_is_not_remembered(scene: Scene) -> None:
    for _ in range(2):
        await scene.passwords.check("ada", "wrong", HERE)
    assert len(scene.bcrypt.costs) == 2


async def test_a_client_that_begins_with_many_requests_asks_once(scene: Scene) -> None:
    answers = await asyncio.gather(
        *(scene.passwords.check("ada", "right", HERE) for _ in range(100))
    )
    assert all(answers)
    assert len(scene.bcrypt.costs) == 1


async def test_who_leaves_does_not_take_the_answer_with_them(scene: Scene) -> None:
    first = asyncio.create_task(scene.passwords.check("ada", "right", HERE))
    second = asyncio.create_task(scene.passwords.check("ada", "right", HERE))
    await asyncio.sleep(0)
    first.cancel()
    assert await second


async def test_more_than_the_queue_holds_are_told_to_come_again(scene: Scene) -> None:
    answers = await asyncio.gather(
        *(scene.passwords.check(f"u{one}", "x", f"192.0.2.{one}") for one in range(200)),
        return_exceptions=True,
    )
    refused = [one for one in answers if isinstance(one, TooManyRequests)]
    assert len(scene.bcrypt.costs) == THREADS + QUEUE
    assert len(refused) == 200 - THREADS - QUEUE
    assert answers.count(False) == THREADS + QUEUE
    assert await scene.passwords.check("ada", "right", HERE)


async def test_who_was_wrong_too_often_waits_and_others_do_not(scene: Scene) -> None:
    for _ in range(FREE_OF_NAME):
        assert not await scene.passwords.check("ada", "wrong", HERE)
    calls = len(scene.bcrypt.costs)
    assert await scene.wait_of("ada", "right", HERE) == 1.0  # from here not even the right one
    assert len(scene.bcrypt.costs) == calls
    assert await scene.passwords.check("ada", "right", ELSEWHERE)
    assert await scene.passwords.check("bob", "also right", HERE)
    scene.clock.now += 1
    assert await scene.passwords.check("ada", "right", HERE)


async def test_the_wait_doubles_up_to_half_a_minute(scene: Scene) -> None:
    waits = []
    for _ in range(FREE_OF_NAME):
        await scene.passwords.check("ada", "wrong", HERE)
    for _ in range(8):
        waits.append(await scene.wait_of("ada", "wrong", HERE))
        scene.clock.now += waits[-1]
        assert not await scene.passwords.check("ada", "wrong", HERE)
    assert waits[:3] == [1.0, 2.0, 4.0]
    assert sorted(waits) == waits
    assert waits[-1] == LONGEST


async def test_many_names_from_one_address_wait_too(scene: Scene) -> None:
    for one in range(FREE_OF_ADDRESS):
        assert not await scene.passwords.check(f"name-{one}", "guess", HERE)
    assert await scene.wait_of("ada", "right", HERE) > 0
    assert await scene.passwords.check("ada", "right", ELSEWHERE)


async def test_attempts_at_once_are_counted_before_they_are_wrong(scene: Scene) -> None:
    answers = await asyncio.gather(
        *(scene.passwords.check("ada", f"guess {one}", HERE) for one in range(15)),
        return_exceptions=True,
    )
    assert answers.count(False) == FREE_OF_NAME
    assert len(scene.bcrypt.costs) == FREE_OF_NAME


async def test_ones_own_password_does_not_pay_for_guesses_at_others(scene: Scene) -> None:
    """Else whoever has an account guesses without end, with a success now and then."""
    for one in range(FREE_OF_ADDRESS):
        await scene.passwords.check(f"name-{one}", "guess", HERE)
        scene.passwords._right.clear()
        if one < FREE_OF_ADDRESS - 1:
            assert await scene.passwords.check("bob", "also right", HERE)
    assert await scene.wait_of("name-x", "guess", HERE) > 0


async def test_what_is_remembered_goes_on_while_others_guess_from_there(scene: Scene) -> None:
    assert await scene.passwords.check("ada", "right", HERE)
    for one in range(FREE_OF_ADDRESS):
        await scene.passwords.check(f"name-{one}", "guess", HERE)
    assert await scene.passwords.check("ada", "right", HERE)


async def test_on_loopback_each_name_counts_for_itself(scene: Scene) -> None:
    """Behind it may be all of a proxy's clients."""
    for one in range(FREE_OF_ADDRESS + 5):
        assert not await scene.passwords.check(f"name-{one}", "guess", "127.0.0.1")
    for _ in range(FREE_OF_NAME):
        await scene.passwords.check("bob", "wrong", "127.0.0.1")
    assert await scene.wait_of("bob", "wrong", "127.0.0.1") > 0
    assert await scene.passwords.check("ada", "right", "127.0.0.1")


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_an_address_counts_as_the_network_of_one_client(address: str, place: str) -> None:
    ip = parse(address)
    assert ip
    assert place_of(ip) == place


def failures_until_wait(attempts: Attempts, address: str, *, one_name: bool) -> int:
    """How many are begun, of at most 50."""
    return next(
        (one for one in range(50) if attempts.begin("x" if one_name else f"x{one}", address)), 50
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "", "10.1.2.3", "::ffff:10.1.2.3"])
def test_where_many_clients_are_behind_one_address_only_each_name_counts(address: str) -> None:
    def fresh() -> Attempts:
        return Attempts(Clock(), shared=[ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])

    assert failures_until_wait(fresh(), address, one_name=False) == 50
    assert failures_until_wait(fresh(), address, one_name=True) == FREE_OF_NAME
    assert failures_until_wait(fresh(), HERE, one_name=False) == FREE_OF_ADDRESS


def test_time_forgives() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(FREE_OF_NAME):
        assert attempts.begin("ada", HERE) == 0
    assert attempts.begin("ada", HERE) > 0
    clock.now += 600
    for _ in range(FREE_OF_NAME):
        assert attempts.begin("ada", HERE) == 0


def test_only_so_many_addresses_are_remembered() -> None:
    attempts = Attempts(Clock(), most=100)
    for one in range(1000):
        attempts.begin("ada", f"10.0.{one // 256}.{one % 256}")
    assert len(attempts._names) == len(attempts._addresses) == 100


@pytest.mark.parametrize(
    ("password", "sentence"),
    [("", "at least one"), ("é" * 37, "at most 72 bytes"), ("a\nb", "control"), ("\0", "control")],
)
def test_a_password_that_could_not_be_used_is_refused(password: str, sentence: str) -> None:
    with pytest.raises(PasswordRefused, match=sentence):
        hash_of(password)


def test_a_new_hash_has_cost_12() -> None:
    assert hash_of("x").startswith("$2b$12$")
