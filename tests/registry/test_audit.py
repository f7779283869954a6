"""What is told at once shares a write; what cannot be written is told late; sign-ins, floods."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from registry.audit import Event, Outcome, SignIns, token_issued
from registry.audit_log import EACH, Floods
from storage.filesystem import calls
from tests.registry.auditing import check, lines, open_log, told


def event(number: int, outcome: Outcome = Outcome.DONE) -> Event:
    return Event("tag.delete", outcome, "user:ada", "192.0.2.1", detail=str(number))


async def test_what_is_told_at_once_is_one_write_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_log(tmp_path / "audit") as audit:
        await audit.record(event(0))
        syncs: list[int] = []
        real = calls.fdatasync
        monkeypatch.setattr(calls, "fdatasync", lambda file: syncs.append(file) or real(file))

        await asyncio.gather(*(audit.record(event(number)) for number in range(1, 500)))

        # The first is on its way when the others come.
        assert len(syncs) <= 2
    assert [line["detail"] for line in told(tmp_path / "audit")] == [str(n) for n in range(500)]
    assert check(tmp_path / "audit").broken is None


async def test_it_is_durable_when_record_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    for name in ("pwrite", "fdatasync"):
        real = getattr(calls, name)
        monkeypatch.setattr(
            calls, name, lambda *a, _name=name, _real=real: steps.append(_name) or _real(*a)
        )
    async with open_log(tmp_path / "audit") as audit:
        await audit.record(event(0))
        steps.clear()
        await audit.record(event(1))
        assert steps == ["pwrite", "fdatasync"]


async def test_who_does_not_wait_any_more_is_told_nevertheless(tmp_path: Path) -> None:
    async with open_log(tmp_path / "audit") as audit:
        waiting = asyncio.create_task(audit.record(event(1)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await audit.record(event(2))
    assert [line["detail"] for line in told(tmp_path / "audit")] == ["1", "2"]


async def test_what_could_not_be_written_is_told_late_and_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_log(tmp_path / "audit") as audit:
        await audit.record(event(0))
        with monkeypatch.context() as patched:
            patched.setattr(calls, "pwrite", full)
            for number in (1, 2):
                with pytest.raises(OSError, match="audit cannot be written"):
                    await audit.record(event(number))
            with pytest.raises(OSError, match="audit cannot be written"):
                await audit.ready()

        await audit.ready()
        await audit.record(event(3))

    actions = [line["action"] for line in lines(tmp_path / "audit")]
    assert actions == ["audit.begin", "tag.delete", "audit.late", *["tag.delete"] * 3]
    assert [line["detail"] for line in told(tmp_path / "audit")] == ["0", "1", "2", "3"]
    assert check(tmp_path / "audit").broken is None


async def test_what_is_late_at_the_end_is_told_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_log(tmp_path / "audit") as audit:
        with monkeypatch.context() as patched:
            patched.setattr(calls, "write", full)
            with pytest.raises(OSError, match="audit cannot be written"):
                await audit.record(event(1))
    assert [line["detail"] for line in told(tmp_path / "audit")] == ["1"]


def full(*_: object) -> int:
    raise OSError(28, "No space left on device")


async def test_a_full_disk_costs_the_reserve_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnlyOnce:
        whole = True

        async def give_up(self) -> None:
            self.whole = False
            monkeypatch.undo()

        async def fill(self) -> bool:
            return self.whole

        async def trim(self) -> None:
            pass

    reserve = OnlyOnce()
    async with open_log(tmp_path / "audit", reserve) as audit:
        await audit.record(event(0))
        monkeypatch.setattr(calls, "pwrite", full)
        await audit.record(event(1))

    assert not reserve.whole
    assert len(told(tmp_path / "audit")) == 2


# Sign-ins


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_who_signs_in_again_and_again_is_told_once_a_minute_and_address(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with open_log(tmp_path / "audit") as audit:
        signing = SignIns(audit, clock)
        for clock.now in (0, 30, 59.9, 60, 61):
            await signing.succeeded("user:ada", "192.0.2.1", "r", "basic")
        await signing.succeeded("user:ada", "192.0.2.2", "r", "basic")
        await signing.succeeded("user:bob", "192.0.2.1", "r", "basic")

    found = [(line["principal"], line["address"]) for line in lines(tmp_path / "audit")[1:]]
    ada = ("user:ada", "192.0.2.1")
    assert found == [ada, ada, ("user:ada", "192.0.2.2"), ("user:bob", "192.0.2.1")]


async def test_every_failure_is_told_but_never_a_name_that_nobody_has(tmp_path: Path) -> None:
    async with open_log(tmp_path / "audit") as audit:
        signing = SignIns(audit)
        await signing.failed("user:ada", "192.0.2.1", "r", "the password is wrong")
        await signing.failed("user:ada", "192.0.2.1", "r", "the password is wrong")
        await signing.failed(None, "192.0.2.1", "r", "the password is wrong")

    found = told(tmp_path / "audit")
    assert [line["principal"] for line in found] == ["user:ada", "user:ada", "anonymous"]
    assert {line["status"] for line in found} == {401}
    assert {line["outcome"] for line in found} == {"refused"}


async def test_a_token_is_told_without_itself(tmp_path: Path) -> None:
    async with open_log(tmp_path / "audit") as audit:
        await audit.record(
            token_issued("robot:ci", address="192.0.2.1", request="r", life=300, scope="a:pull")
        )
    [line] = told(tmp_path / "audit")
    assert line == {
        "action": "token.issue",
        "outcome": "done",
        "principal": "robot:ci",
        "detail": "for 300 s: a:pull",
    }


# Floods


def test_a_flood_of_refusals_is_counted() -> None:
    clock = Clock()
    floods = Floods(clock)

    assert sum(floods.tells("192.0.2.1") for _ in range(EACH + 50)) == EACH
    assert floods.tells("192.0.2.2")
    assert floods.over() == []
    clock.now = 60
    [flood] = floods.over()
    assert flood.address == "192.0.2.1"
    assert flood.detail.startswith("50 more")
    assert floods.over() == []
    assert floods.tells("192.0.2.1")


def test_what_was_counted_is_not_lost_by_a_new_minute() -> None:
    clock = Clock()
    floods = Floods(clock)
    for _ in range(EACH + 1):
        floods.tells("192.0.2.1")
    clock.now = 600

    assert not floods.tells("192.0.2.1")
    [flood] = floods.over()
    assert flood.detail.startswith("2 more")


async def test_a_flood_is_told_at_the_end_at_the_latest_and_changes_are_never_counted(
    tmp_path: Path,
) -> None:
    async with open_log(tmp_path / "audit") as audit:
        for number in range(EACH + 7):
            await audit.record(event(number, Outcome.REFUSED))
        for number in range(3):
            await audit.record(event(number))
    found = told(tmp_path / "audit")
    assert len(found) == EACH + 3 + 1
    assert found[-1]["action"] == "flood"
    assert found[-1]["detail"].startswith("7 more")
