"""Which component answers a request: Spin's HTTP trigger. Pure.

Routes are exact (`/users`), have parameters (`/users/:id`) and may end in `/...` (or `/*`), which
takes the rest of the path. An exact segment beats a parameter, a parameter beats the wildcard, so
the longest prefix wins; of two triggers with the same route the later one wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from registry.deploy.runtimes import CLIENT_ADDRESS

RESERVED = "/.well-known/spin/"


@dataclass(frozen=True, slots=True)
class StaticResponse:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Route:
    text: str
    segments: tuple[str, ...]
    wildcard: bool
    target: str | StaticResponse
    """A component's id, or the answer itself."""

    @classmethod
    def parse(cls, text: str, target: str | StaticResponse) -> Route:
        path = text if text.startswith("/") else f"/{text}"
        segments = _split(path)
        wildcard = bool(segments) and segments[-1] in ("...", "*")
        return cls(path, tuple(segments[:-1] if wildcard else segments), wildcard, target)

    @property
    def prefix(self) -> str:
        """The route without its wildcard."""
        return "/" + "/".join(self.segments) if self.segments else ("" if self.wildcard else "/")

    def match(self, path: str) -> Match | None:
        given = _split(path)
        if len(given) < len(self.segments) or (
            len(given) > len(self.segments) and not self.wildcard
        ):
            return None
        values: list[tuple[str, str]] = []
        for wanted, actual in zip(self.segments, given, strict=False):
            if wanted.startswith(":"):
                values.append((wanted[1:], actual))
            elif wanted != actual:
                return None
        rest = ""
        if self.wildcard:
            # The rest as it was sent, a slash at the end included.
            rest = "/" + "/".join(path.split("/")[len(self.segments) + 1 :])
            if len(given) == len(self.segments) and not path.endswith("/"):
                rest = ""
        return Match(self, tuple(values), rest)

    @property
    def rank(self) -> tuple[int, ...]:
        """Of two routes that match a path, the lower one is the more specific."""
        kinds = tuple(1 if segment.startswith(":") else 0 for segment in self.segments)
        return (*kinds, 2) if self.wildcard else kinds


@dataclass(frozen=True, slots=True)
class Match:
    route: Route
    values: tuple[tuple[str, str], ...]
    rest: str


class Routes:
    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = tuple(routes)

    @classmethod
    def of(cls, triggers: Sequence[Mapping[str, Any]]) -> Routes:
        """The public routes of a locked app's HTTP triggers."""
        routes = []
        for trigger in triggers:
            config = trigger.get("trigger_config", {})
            route = config.get("route")
            if not isinstance(route, str):
                continue  # {"private": true}
            static = config.get("static_response")
            target = config.get("component") if static is None else _static(static)
            if target is not None:
                routes.append(Route.parse(route, target))
        return cls(routes)

    def find(self, path: str) -> Match | None:
        best: Match | None = None
        for route in self._routes:
            found = route.match(path)
            if found is not None and (best is None or route.rank <= best.route.rank):
                best = found
        return best


def _static(config: Mapping[str, Any]) -> StaticResponse:
    return StaticResponse(
        status=int(config.get("status_code") or 200),
        headers=tuple((str(k), str(v)) for k, v in (config.get("headers") or {}).items()),
        body=str(config.get("body") or "").encode(),
    )


def _split(path: str) -> list[str]:
    inner = path.strip("/")
    return inner.split("/") if inner else []


def reserved(path: str) -> str | None:
    """What follows the reserved prefix, in whatever spelling it was sent; None for other paths.

    A component may decode, collapse slashes and resolve dots, so all of that is done here before
    deciding that it may see the path.
    """
    data = path.partition("?")[0].encode("utf-8", "surrogateescape")
    while (decoded := unquote_to_bytes(data)) != data:
        data = decoded
    segments: list[bytes] = []
    for segment in data.replace(b"\\", b"/").split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment not in (b"", b"."):
            segments.append(segment)
    if segments[:2] != [b".well-known", b"spin"] or (
        len(segments) == 2 and not data.endswith(b"/")
    ):
        return None
    return b"/".join(segments[2:]).decode("utf-8", "replace")


def request_headers(
    match: Match, *, scheme: str, authority: str, target: str, client: str
) -> list[tuple[str, bytes]]:
    """The `spin-*` fields of a routed request. `target` is path and query as they were sent."""
    route = match.route
    base = [
        ("spin-full-url", f"{scheme}://{authority}{target}"),
        ("spin-path-info", match.rest),
        ("spin-matched-route", route.text),
        ("spin-base-path", "/"),
        ("spin-raw-component-route", route.text),
        ("spin-component-route", route.prefix),
        ("spin-client-addr", client),
    ]
    base += [(f"spin-path-match-{name}", value) for name, value in match.values]
    return [(name, value.encode("utf-8", "surrogateescape")) for name, value in base]


def private(name: str) -> bool:
    """Whether a field name is one that only the host may set."""
    lower = name.lower()
    return lower.startswith("spin-") or lower == CLIENT_ADDRESS
