"""`spindle verify`: is what is kept what was pushed? Also beside a running server."""

from __future__ import annotations

import asyncio

from registry import app
from registry.audit import Event, Outcome, at_the_terminal
from registry.commands.serve import CannotStart
from registry.settings import Config
from storage.errors import StorageError
from storage.records.seals import Unreadable
from storage.verify import Gravity, Report, Verifier


def verify(config: Config, *, read: bool, accept: bool, within: float | None) -> bool:
    """Print what is wrong, the worst first; whether anything is. Raises CannotStart.

    `within`: seconds, after which the rest is left to the next such run.
    """
    try:
        report = asyncio.run(_verify(config, read, accept, within))
    except (StorageError, OSError) as error:
        raise CannotStart(str(error)) from None
    except Unreadable as error:
        print(f"damaged the records cannot be opened: {error}; restore them from a backup")
        return True
    _print(report)
    return bool(report.findings)


async def _verify(config: Config, read: bool, accept: bool, within: float | None) -> Report:
    async with app.open_records(config) as records:
        if accept:
            await records.audit.record(Event("records.accept", Outcome.DONE, at_the_terminal()))
        verifier = Verifier(records.store, read=read, accept=accept)
        if within is None:
            return await verifier.run()
        # Each kind goes on where the last of its kind stopped.
        return await verifier.run("command, reading" if read else "command", within)


def _print(report: Report) -> None:
    for finding in report.findings:
        print(f"{_WORDS[finding.gravity]:8}{finding}")
    print(
        f"{report.blobs} blobs, {report.bytes} bytes, {report.manifests} manifests and"
        f" {report.rows} records verified in {report.seconds:.1f} s:"
        f" {len(report.findings) or 'no'} findings, {report.strays} blobs without a repository"
    )
    if not report.finished:
        print("The time was up; the next run with --max-duration goes on here.")


_WORDS = {
    Gravity.LOST: "lost",
    Gravity.RECORD: "damaged",
    Gravity.MENDED: "mended",
    Gravity.ODD: "odd",
}
