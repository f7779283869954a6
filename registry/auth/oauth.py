"""The shape of what OAuth2 is asked and answers: forms, their fields, errors. RFC 6749."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.errors import TooManyRequests, render

BODY_LIMIT: Final = 64 << 10  # bytes
_FIELDS: Final = 200
_FORM: Final = "application/x-www-form-urlencoded"
NO_STORE: Final = {
    "cache-control": "no-store",
    "pragma": "no-cache",  # RFC 6749, section 5.1
    "x-content-type-options": "nosniff",
}


class OAuthError(Exception):
    """RFC 6749, section 5.2. `unread`: the body was not, so that the connection has to end."""

    def __init__(self, code: str, message: str, *, status: int = 400, unread: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.unread = unread


def refusal(error: OAuthError | TooManyRequests) -> Response:
    """Also with the errors of the distribution specification, which docker and podman print."""
    headers = dict(NO_STORE)
    match error:
        case TooManyRequests():
            status, rendered, _ = render(error, "")
            headers |= {name.decode(): value.decode() for name, value in rendered}
            code, family = "temporarily_unavailable", "TOOMANYREQUESTS"
        case OAuthError():
            status, code = error.status, error.code
            family = "UNAUTHORIZED" if code == "invalid_grant" else "UNSUPPORTED"
            if error.unread:
                headers["connection"] = "close"
    body = {
        "error": code,
        "error_description": str(error),
        "errors": [{"code": family, "message": str(error)}],
    }
    return JSONResponse(body, status, headers)


async def read_form(request: Request) -> list[tuple[str, str]]:
    """The body's fields. Refuses what it can without reading it. Raises OAuthError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise OAuthError("invalid_request", f"the body has to be {_FORM}", unread=True)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise OAuthError("invalid_request", "the body has to come as it is", unread=True)
    length = request.headers.get("content-length", "0")
    too_large = OAuthError(
        "invalid_request", f"the body has {BODY_LIMIT} bytes at most", status=413, unread=True
    )
    if length.isdecimal() and int(length[:20]) > BODY_LIMIT:
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_LIMIT:
            raise too_large
    if not body.isascii():
        raise OAuthError("invalid_request", "the body has to be in ASCII, with escapes")
    return pairs(body.decode("ascii"), lambda message: OAuthError("invalid_request", message))


def pairs(text: str, refuse: Callable[[str], Exception]) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
    except ValueError:
        raise refuse(f"the parameters are more than {_FIELDS}, or not in UTF-8") from None


def last(fields: Sequence[tuple[str, str]], name: str) -> str:
    return next((value for key, value in reversed(fields) if key == name), "")


def one(fields: Sequence[tuple[str, str]], name: str) -> str:
    """ "Parameters MUST NOT be included more than once" (RFC 6749, section 3.2). OAuthError."""
    values = [value for key, value in fields if key == name]
    if len(values) != 1 or not values[0]:
        raise OAuthError("invalid_request", f"{name} has to be there, and once")
    return values[0]
