"""What became of every payload: `python -m tests.proxies.table`, one after the other.

So each innocent client is given the connection that the payload was sent on. Takes minutes.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.proxies.conversations import hold_all
from tests.proxies.payloads import PAYLOADS
from tests.proxies.programs import PROXIES
from tests.servers import Spindle

OUTCOMES = ("forwarded", "refused by the proxy", "refused by Spindle", "disagreements")


def main(at_once: int) -> None:
    print(f"{'':10} {'':18}", *(f"{outcome:>21}" for outcome in OUTCOMES))
    for number, kind in enumerate([None, *PROXIES]):
        with tempfile.TemporaryDirectory() as name, Spindle(Path(name) / "data") as server:
            if kind is None:
                found = hold_all(server, None, at_once=at_once)
            else:
                with kind(Path(name) / "proxy", server.registry) as proxy:
                    found = hold_all(server, proxy, at_once=at_once)
        title = kind.name if kind else "none"
        for group in dict.fromkeys(payload.kind for payload in PAYLOADS):
            counts = Counter(one.outcome for one in found if one.payload.kind == group)
            print(f"{title:10} {group:18}", *(f"{counts[outcome]:21}" for outcome in OUTCOMES))
        for one in found:
            for problem in one.problems:
                print(f"  {number} {one.number:03} {one.payload.name}: {problem}")
            if "-v" in sys.argv:
                print(
                    f"    {one.number:03} {one.outcome}; {one.payload.name}; "
                    f"{one.answer[:12]!r} {one.passed} {one.asked}"
                )


if __name__ == "__main__":
    main(24 if "--at-once" in sys.argv else 1)
