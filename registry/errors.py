"""What a request can have wrong, and the one table from errors to answers.

Handlers raise and never catch; `render` turns whatever they raised into the answer. Distribution
spec, "Error Codes": a 4xx in JSON names one of the fourteen codes of that section.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Sequence
from typing import Final, TypeAlias

from storage import errors as storage

Header: TypeAlias = tuple[bytes, bytes]


class RequestError(Exception):
    """Something about the request itself, before what is stored matters."""


class Unauthorized(RequestError):
    """Who asks has to sign in, or did so with what is wrong, revoked or expired: 401.

    `headers` are the challenges. What was wrong with a credential is for the audit, not for here.
    """

    def __init__(self, message: str, headers: Sequence[Header] = ()) -> None:
        super().__init__(message)
        self.headers = tuple(headers)


class Denied(RequestError):
    """Somebody who signed in may not do this, and may know that it is there: 403."""


class TooManyRequests(RequestError):
    """Too many of one sort from somebody, or of all together: 429. Again in `after` seconds."""

    def __init__(self, message: str, *, after: float) -> None:
        super().__init__(message)
        self.after = after


class PathUnknown(RequestError):
    """No resource of this API has such a path."""


class MethodRefused(RequestError):
    """The resource is there, but not for this method."""

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class QueryInvalid(RequestError):
    """A query parameter that can never be right."""


class ContentRangeInvalid(RequestError):
    """A Content-Range of another form than `<start>-<end>`."""


class RangesTooMany(RequestError):
    """More ranges in one request than are answered."""


class RangeUnsatisfiable(RequestError):
    """No asked byte is within the blob."""

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message)
        self.size = size


class PreconditionFailed(RequestError):
    """If-Match or If-None-Match says that the client has seen another state."""


class BodyTooLarge(RequestError):
    """More bytes than are taken."""


class TagsTooMany(RequestError):
    """More tags in one request than are taken."""


class EncodingRefused(RequestError):
    """A body in a Content-Encoding: its bytes would not be those that the digest names."""


class ClientDisconnect(Exception):
    """The client went away while its body was read. There is nobody to answer."""


# 5xx are not bound to the fourteen; this is the code that clients of this family know for them.
UNKNOWN: Final = "UNKNOWN"

TABLE: Final[dict[type[Exception], tuple[int, str]]] = {
    storage.NameInvalid: (400, "NAME_INVALID"),
    # The fourteen have no code for a tag. MANIFEST_INVALID would make podman try another format.
    storage.TagInvalid: (400, "NAME_INVALID"),
    storage.DigestInvalid: (400, "DIGEST_INVALID"),
    storage.DigestUnsupported: (400, "UNSUPPORTED"),
    storage.DigestMismatch: (400, "DIGEST_INVALID"),
    storage.SizeInvalid: (400, "SIZE_INVALID"),
    storage.ManifestInvalid: (400, "MANIFEST_INVALID"),
    storage.Invalid: (400, "UNSUPPORTED"),
    storage.RepositoryUnknown: (404, "NAME_UNKNOWN"),
    storage.BlobUnknown: (404, "BLOB_UNKNOWN"),
    storage.ManifestUnknown: (404, "MANIFEST_UNKNOWN"),
    storage.UploadUnknown: (404, "BLOB_UPLOAD_UNKNOWN"),
    storage.Unknown: (404, "NAME_UNKNOWN"),
    storage.UploadOffset: (416, "BLOB_UPLOAD_INVALID"),
    storage.UploadsTooMany: (429, "TOOMANYREQUESTS"),
    storage.Held: (409, "DENIED"),
    storage.Immutable: (409, "DENIED"),
    storage.Full: (507, UNKNOWN),
    storage.Damaged: (500, UNKNOWN),
    storage.LayoutUnknown: (500, UNKNOWN),
    storage.LayoutRefused: (500, UNKNOWN),
    storage.StorageError: (500, UNKNOWN),
    Unauthorized: (401, "UNAUTHORIZED"),
    Denied: (403, "DENIED"),
    TooManyRequests: (429, "TOOMANYREQUESTS"),
    PathUnknown: (404, "UNSUPPORTED"),  # not NAME_UNKNOWN: oras takes that for "ask again later"
    MethodRefused: (405, "UNSUPPORTED"),
    QueryInvalid: (400, "UNSUPPORTED"),
    ContentRangeInvalid: (400, "BLOB_UPLOAD_INVALID"),
    RangesTooMany: (400, "UNSUPPORTED"),
    RangeUnsatisfiable: (416, "SIZE_INVALID"),
    PreconditionFailed: (412, "DENIED"),
    BodyTooLarge: (413, "SIZE_INVALID"),
    TagsTooMany: (414, "UNSUPPORTED"),
    EncodingRefused: (415, "UNSUPPORTED"),
}

# The disk, a quota, the limit of how large a file may be: for a client they are the same.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def render(error: Exception, path: str) -> tuple[int, list[Header], bytes]:
    """Status, headers and body of the answer to a request for `path` that ended in `error`.

    What went wrong in here is told in general words only: the details are for the log.
    """
    status, code = _row(error)
    if status == 507:
        message = (
            "the registry's disk is full and nothing was kept: delete what is not needed, or give"
            " the registry more room, and try again; pulls and deletes go on"
        )
    elif status >= 500:
        message = "the registry failed to answer; its log tells why"
    else:
        message = str(error)
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return status, [(b"content-type", b"application/json"), *_headers(error, path)], body


def _row(error: Exception) -> tuple[int, str]:
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return 507, UNKNOWN
    for kind in type(error).__mro__:
        if kind in TABLE:
            return TABLE[kind]
    return 500, UNKNOWN


def _headers(error: Exception, path: str) -> list[Header]:
    match error:
        case MethodRefused():
            return [(b"allow", error.allow.encode())]
        case RangeUnsatisfiable():
            return [(b"content-range", b"bytes */%d" % error.size)]
        case Unauthorized():
            return [*error.headers, (b"cache-control", b"no-store")]
        case TooManyRequests():
            return [(b"retry-after", b"%d" % max(1, math.ceil(error.after)))]
        case storage.UploadsTooMany():
            return [(b"retry-after", b"10")]
        case storage.UploadOffset():
            return session_headers(path, error.size, empty_range=False)
        case _:
            return []


def session_headers(path: str, size: int, *, empty_range: bool = True) -> list[Header]:
    """Where an upload session goes on. Distribution spec, "Pushing a blob in chunks".

    The spec has no words for the range of nothing. `0-0` is what clients have learnt to read,
    except beside a 416, where regclient would go on at byte 1: `empty_range=False` leaves it out.
    """
    headers = [
        (b"location", path.encode()),
        # Without it, docker takes the last element of the Location.
        (b"docker-upload-uuid", path.rpartition("/")[2].encode()),
    ]
    if size or empty_range:
        headers.append((b"range", b"0-%d" % max(size - 1, 0)))
    return headers
