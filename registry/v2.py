"""The distribution API as an ASGI application: one parse of the path, one table of routes."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog
from starlette.types import Receive, Scope, Send

from registry import auditing, blobs, catalog, extensions, manifests, referrers, tags, uploads
from registry.access import shown_path
from registry.admission import Admission, Work, work_of
from registry.audit import Audit, NoAudit
from registry.auth.doorman import Doorman
from registry.auth.gate import Gate, Open
from registry.errors import ClientDisconnect, MethodRefused, PathUnknown, render
from registry.exchange import JSON, Exchange, Registry
from registry.permissions import Need
from registry.rates import Rates
from registry.settings import AdmissionSettings, RateSettings
from storage.freed import Forecast
from storage.reserve import demand
from storage.store import Store

log = structlog.get_logger(__name__)

MANIFEST_LIMIT: Final = 4 << 20  # "pushes of at least 4 megabytes" must be expected
PAGE_LIMIT: Final = 10_000  # few clients follow a Link that they did not ask for with n


# What may make the store larger. Refused before its body is read where there is no room for it.
GROWING: Final = frozenset({"POST", "PUT", "PATCH"})

Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    need: Need
    handler: Handler


Methods: TypeAlias = Mapping[str, Route]


def _methods(**routes: Route) -> Methods:
    """By method; whatever can be GET can be HEAD, by the same handler."""
    return {"HEAD": routes["GET"], **routes} if "GET" in routes else routes


async def _base(exchange: Exchange) -> None:
    """end-1: "If the response is 200 OK, then the registry implements this specification"."""
    await exchange.reply(200, [JSON], b"{}")


BASE: Final = _methods(GET=Route(Need.SIGN_IN, _base))
CATALOG: Final = _methods(GET=Route(Need.CATALOG, catalog.list_repositories))
EXTENSIONS: Final = _methods(GET=Route(Need.NOTHING, extensions.discover))
REPOSITORY_EXTENSIONS: Final = _methods(GET=Route(Need.PULL, extensions.discover_in_repository))
MANIFESTS: Final = _methods(
    GET=Route(Need.PULL, manifests.pull),
    PUT=Route(Need.PUSH, manifests.push),
    DELETE=Route(Need.DELETE, manifests.delete),
)
BLOBS: Final = _methods(
    GET=Route(Need.PULL, blobs.pull),
    DELETE=Route(Need.DELETE, blobs.delete),
)
UPLOADS: Final = _methods(POST=Route(Need.PUSH, uploads.start))
UPLOAD: Final = _methods(
    GET=Route(Need.PUSH, uploads.status),
    PATCH=Route(Need.PUSH, uploads.append),
    PUT=Route(Need.PUSH, uploads.finish),
    DELETE=Route(Need.PUSH, uploads.cancel),  # of what one is pushing oneself: not DELETE
)
TAGS: Final = _methods(GET=Route(Need.PULL, tags.list_tags))
REFERRERS: Final = _methods(GET=Route(Need.PULL, referrers.list_referrers))

# No name has a component that begins with an underscore, so these are nobody's.
_FIXED: Final[Mapping[str, Methods]] = {
    "/v2": BASE,
    "/v2/": BASE,
    "/v2/_catalog": CATALOG,
    "/v2/_oci/ext/discover": EXTENSIONS,
}
_BY_KEYWORD: Final[Mapping[str, Methods]] = {
    "manifests": MANIFESTS,
    "blobs": BLOBS,
    "referrers": REFERRERS,
}


# An escaped printable character; but neither a slash, which is a separator, nor a backslash.
_ESCAPED: Final = re.compile(rb"%(?!2f|5c|7f)([2-7][0-9a-f])", re.IGNORECASE)


def resolve(path: str) -> tuple[Methods, str, str]:
    """The routes of a decoded path, what stands for the repository's name, and the last segment.

    Read from the right, for a name may have components like `blobs` or `manifests`. Raises
    PathUnknown.
    """
    fixed = _FIXED.get(path)
    if fixed is not None:
        return fixed, "", ""
    head, _, last = path.rpartition("/")
    head, _, keyword = head.rpartition("/")
    if head.startswith("/v2/"):
        name = head[4:]
        if keyword == "blobs" and last == "uploads":  # as sent by some; a redirect loses the body
            return UPLOADS, name, ""
        if keyword in _BY_KEYWORD:
            return _BY_KEYWORD[keyword], name, last
        if keyword == "uploads" and name.endswith("/blobs"):
            return (UPLOAD if last else UPLOADS), name.removesuffix("/blobs"), last
        if keyword == "tags" and last == "list":
            return TAGS, name, ""
        if keyword == "ext" and last == "discover" and name.endswith("/_oci"):
            return REPOSITORY_EXTENSIONS, name.removesuffix("/_oci"), ""
    raise PathUnknown(f"{path[:200]!r} is no path of this API")


def decode(raw: bytes) -> str:
    """The path of a request target, decoded once. Raises PathUnknown.

    What could be a separator, or is in no grammar, is left escaped: a percent sign is in no grammar
    either, so it is refused as part of the name, tag or digest where it stands.
    """
    if not raw.startswith(b"/"):
        # "GET http://host/v2/ HTTP/1.1": a server "MUST accept the absolute-form" (RFC 9112, 3.2.2)
        scheme, mark, rest = raw.partition(b"://")
        if not mark or scheme.lower() not in (b"http", b"https"):
            raise PathUnknown("a request is for a path, which begins with a slash")
        raw = b"/" + rest.partition(b"/")[2]
    raw = _ESCAPED.sub(lambda escaped: bytes.fromhex(escaped[1].decode()), raw)
    if not raw.isascii():
        raise PathUnknown("a path has only ASCII characters here")
    return raw.decode("ascii")


class V2:
    """Answers everything under /v2, and nothing else."""

    def __init__(
        self,
        store: Store,
        *,
        moved: Callable[[], None],
        manifest_limit: int = MANIFEST_LIMIT,
        blob_limit: int | None = None,
        page_limit: int = PAGE_LIMIT,
        forecast: Forecast | None = None,
        gate: Gate | None = None,
        audit: Audit | None = None,
        url: str = "",
        admission: Admission | None = None,
        rates: Rates | None = None,
    ) -> None:
        """`url` is how clients reach the registry, if not as their Host says."""
        self._admission = admission or Admission(AdmissionSettings())
        self._rates = rates or Rates(RateSettings(), clock=time.monotonic)
        gate = gate or Open()
        # Whom everything is allowed nobody has to ask who he is: that would cost each pull.
        self._doorman = None if isinstance(gate, Open) else Doorman(gate, url)
        self._registry = Registry(
            *(store, moved, manifest_limit, blob_limit, page_limit, forecast),
            gate,
            audit or NoAudit(),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._registry)
        try:
            self._rates.check_address(exchange.address)
            exchange.path = decode(scope["raw_path"])
            methods, exchange.name, exchange.last = resolve(exchange.path)
            route = methods.get(exchange.method)
            if self._doorman is not None:
                need = route.need if route is not None else None
                exchange.caller = await self._doorman.identify(scope, need, exchange.name)
                self._doorman.admit(exchange.caller, need, exchange.name)
            if route is None:
                allow = ", ".join(methods)
                # The method is not told: the answer to HEAD has the length of the one to GET.
                raise MethodRefused(f"this path takes {allow} and nothing else", allow=allow)
            if exchange.method in GROWING:
                demand(self._registry.store.reserve)
            if exchange.method in auditing.CHANGING:
                await self._registry.audit.ready()
            work = work_of(route.handler, exchange.method)
            self._rates.check(
                exchange, uploads=work is Work.UPLOAD, manifest=route.handler is manifests.push
            )
            room = self._admission.rooms[work]
            await room.enter()
            try:
                await route.handler(exchange)
            finally:
                room.leave()
        except ClientDisconnect:
            pass  # what it sent is kept where that has a meaning, and nobody waits for an answer
        except Exception as error:
            await _refuse(exchange, error)


async def _refuse(exchange: Exchange, error: Exception) -> None:
    status, headers, body = render(error, exchange.path)
    if status >= 500:
        (log.warning if status == 507 else log.error)(
            "request.failed",
            id=exchange.request_id,
            method=exchange.method,
            path=shown_path(exchange.path.encode()),
            status=status,
            # Where a full disk was noticed helps nobody, and each push would tell it again.
            exc_info=None if status == 507 else error,
        )
    # Once an answer was begun, to break it off is all that says it is not whole: the server does
    # that when we return.
    if not exchange.started:
        await exchange.reply(status, headers, body)
