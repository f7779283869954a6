"""The table of errors against the specification, and against the errors there are."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator

import pytest

from registry import errors
from registry.errors import TABLE, UNKNOWN, RequestError, render
from storage.errors import Damaged, DigestUnsupported, Full, StorageError, UploadOffset

# Distribution spec, "Error Codes": code-1 to code-14.
CODES = {
    *("BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID"),
    *("MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID"),
    *("NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS"),
}

# What the description of each code, and the endpoint's row of failures, ask for.
SPEC = {
    "BlobUnknown": (404, "BLOB_UNKNOWN"),
    "UploadOffset": (416, "BLOB_UPLOAD_INVALID"),
    "ContentRangeInvalid": (400, "BLOB_UPLOAD_INVALID"),
    "UploadUnknown": (404, "BLOB_UPLOAD_UNKNOWN"),
    "DigestInvalid": (400, "DIGEST_INVALID"),
    "DigestMismatch": (400, "DIGEST_INVALID"),
    "ManifestInvalid": (400, "MANIFEST_INVALID"),
    "ManifestUnknown": (404, "MANIFEST_UNKNOWN"),
    "NameInvalid": (400, "NAME_INVALID"),
    "RepositoryUnknown": (404, "NAME_UNKNOWN"),
    "SizeInvalid": (400, "SIZE_INVALID"),
    "BodyTooLarge": (413, "SIZE_INVALID"),
    "DigestUnsupported": (400, "UNSUPPORTED"),
    "MethodRefused": (405, "UNSUPPORTED"),
    "TagsTooMany": (414, "UNSUPPORTED"),
    "Held": (409, "DENIED"),
    "Immutable": (409, "DENIED"),
}


def every(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for kind in root.__subclasses__():
        yield from every(kind)


def in_our_rooms(root: type[Exception]) -> list[type[Exception]]:
    """Also without what tests and other rooms derive."""
    rooms = ("storage.errors", "registry.errors")
    return [kind for kind in every(root) if kind.__module__ in rooms]


@pytest.mark.parametrize("kind", in_our_rooms(StorageError))
def test_every_storage_error_is_in_the_table(kind: type[Exception]) -> None:
    assert kind in TABLE


@pytest.mark.parametrize("kind", in_our_rooms(RequestError)[1:])
def test_every_error_of_a_request_is_in_the_table(kind: type[Exception]) -> None:
    assert kind in TABLE


@pytest.mark.parametrize(("kind", "row"), TABLE.items())
def test_every_code_is_one_of_the_specification(
    kind: type[Exception], row: tuple[int, str]
) -> None:
    """ "The `code` field MUST be one of the following"; that binds "a `4XX` response code"."""
    status, code = row
    assert code in CODES if status < 500 else code == UNKNOWN


@pytest.mark.parametrize(("name", "row"), SPEC.items())
def test_every_code_is_that_of_the_row(name: str, row: tuple[int, str]) -> None:
    assert {kind.__name__: found for kind, found in TABLE.items()}[name] == row


def test_an_error_has_the_form_of_the_specification() -> None:
    status, headers, body = render(DigestUnsupported("use another"), "/v2/a")
    assert status == 400
    assert headers == [(b"content-type", b"application/json")]
    assert json.loads(body) == {"errors": [{"code": "UNSUPPORTED", "message": "use another"}]}


def test_a_kind_that_is_new_counts_as_what_it_derives_from() -> None:
    class Stranger(errors.QueryInvalid):
        pass

    assert render(Stranger("x"), "/")[0] == 400


@pytest.mark.parametrize("error", [Damaged("/secret/path"), ValueError("/secret/path")])
def test_what_went_wrong_inside_is_not_told(error: Exception) -> None:
    status, _, body = render(error, "/v2/a")
    assert status == 500
    assert b"secret" not in body
    assert json.loads(body)["errors"][0]["code"] == UNKNOWN


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_as_such(number: int) -> None:
    status, _, body = render(OSError(number, "/secret/path"), "/v2/a")
    assert status == 507
    assert b"disk is full" in body
    assert b"secret" not in body


def test_that_there_is_no_room_is_told_like_a_full_disk() -> None:
    assert render(Full("/secret"), "/v2/a") == render(OSError(errno.ENOSPC, "x"), "/v2/a")


def test_any_other_trouble_with_the_disk_is_a_failure() -> None:
    assert render(OSError(errno.EIO, "x"), "/v2/a")[0] == 500


def test_where_an_upload_goes_on_is_told_with_the_refusal() -> None:
    path = "/v2/a/blobs/uploads/id"
    _, headers, _ = render(UploadOffset("no", size=10), path)
    assert headers[1:] == [
        (b"location", path.encode()),
        (b"docker-upload-uuid", b"id"),
        (b"range", b"0-9"),
    ]


def test_the_range_of_nothing_is_left_out_of_a_refusal() -> None:
    _, headers, _ = render(UploadOffset("no", size=0), "/v2/a/blobs/uploads/id")
    assert b"range" not in dict(headers)
