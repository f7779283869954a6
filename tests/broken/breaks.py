"""What is broken on purpose: each row a registry that fails the specification in one thing.

A row whose old text is gone or is there twice is an error, so that the table cannot rot: whoever
rewrites a line writes its row anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Break:
    name: str
    """What the registry does then, in the words of the specification."""
    file: str
    old: str
    new: str
    caught_by: str
    """The narrowest selection of tests that has to go red."""

    def apply(self, tree: Path) -> None:
        """Break the sources in `tree`. Raises ValueError when the old text is not there once."""
        path = tree / self.file
        text = path.read_text()
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: {self.old!r} is {count} times in {self.file}, not once")
        path.write_text(text.replace(self.old, self.new))


_SWEEP: Final = (
    "tests/faults/test_sweep.py"
    "::test_whichever_call_fails_nothing_told_is_untrue_and_nothing_is_half_done"
)

BREAKS: Final = (
    # Grammars
    Break(
        "a repository name may end in a newline",
        "storage/names.py",
        "if not _NAME.fullmatch(text):",
        'if not re.match(rf"(?:{_NAME.pattern})$", text, re.ASCII):',
        "tests/storage/test_names.py::test_what_is_not_a_repository_name_is_refused",
    ),
    Break(
        "a tag may end in a newline",
        "storage/names.py",
        "if not _TAG.fullmatch(text):",
        'if not re.match(rf"(?:{_TAG.pattern})$", text, re.ASCII):',
        "tests/storage/test_names.py::test_what_is_not_a_tag_is_refused",
    ),
    # Pulling
    Break(
        "Content-Type of a manifest keeps its parameters",
        "storage/manifest.py",
        "media_type = _media_type(content, content_type)",
        "media_type = content_type or _media_type(content, content_type)",
        "tests/conformance/test_pulling_manifests.py"
        "::test_parameters_of_the_content_type_are_dropped",
    ),
    Break(
        "a manifest is served in other bytes than were pushed",
        "storage/repository.py",
        "len(manifest.body),\n                now,\n                manifest.body,",
        "len(json.dumps(json.loads(manifest.body))),\n                now,\n"
        "                json.dumps(json.loads(manifest.body)).encode(),",
        "tests/conformance/test_pulling_manifests.py::test_the_bytes_are_those_that_were_pushed",
    ),
    Break(
        "Range: bytes=500-0 is ignored, and answered with 200",
        "registry/ranges.py",
        'pair[0] == "-" for pair in pairs)',
        'pair[0] == "-" or (pair[1] and pair[2] and _number(pair[1]) > _number(pair[2]))'
        " for pair in pairs)",
        "tests/conformance/test_pulling_blobs.py::test_a_range_outside_of_the_blob_is_refused",
    ),
    Break(
        "as many ranges are answered as are asked for",
        "registry/ranges.py",
        "if len(asked) > MOST:",
        "if False:",
        "tests/conformance/test_pulling_blobs.py"
        "::test_too_many_ranges_are_refused_so_that_the_client_asks_for_fewer",
    ),
    Break(
        "a blob can be pulled from every repository",
        "storage/records/statements.py",
        'JOIN links ON repository = id"\n        " WHERE name = ?',
        'JOIN links"\n        " WHERE name = ?',
        "tests/conformance/test_pulling_blobs.py::test_a_blob_is_seen_only_where_it_was_pushed",
    ),
    # Pushing blobs
    Break(
        "Docker-Content-Digest is a sha256 after a blob was pushed by sha512",
        "registry/blobs.py",
        '(b"docker-content-digest", digest.text.encode()),\n    ]\n\n\nasync def pull',
        '(b"docker-content-digest", f"sha256:{digest.encoded[:64]}".encode()),\n    ]\n\n\n'
        "async def pull",
        "tests/conformance/test_pushing_blobs.py::test_post_then_put_makes_a_blob",
    ),
    Break(
        "Range of an empty session is 0--1",
        "registry/errors.py",
        'b"0-%d" % max(size - 1, 0)',
        'b"0-%d" % (size - 1)',
        "tests/conformance/test_pushing_in_chunks.py::test_an_empty_chunk_is_none",
    ),
    Break(
        "a chunk out of order is taken",
        "storage/uploads.py",
        "if at is not None and at != start:",
        "if False:",
        "tests/conformance/test_pushing_in_chunks.py::test_a_chunk_out_of_order_is_refused_unread",
    ),
    Break(
        "a chunk out of order is answered with 202",
        "registry/errors.py",
        "storage.UploadOffset: (416,",
        "storage.UploadOffset: (202,",
        "tests/conformance/test_pushing_in_chunks.py::test_a_chunk_out_of_order_is_refused_unread",
    ),
    Break(
        "bytes are kept under a digest that is not theirs",
        "storage/filesystem/uploads.py",
        "if actual != digest:",
        "if False:",
        "tests/conformance/test_pushing_blobs.py::test_a_mismatch_leaves_no_blob_under_either_name",
    ),
    Break(
        "the limit of a body holds only where Content-Length tells",
        "registry/exchange.py",
        "left -= len(piece)",
        "left -= 0",
        "tests/conformance/test_pushing_manifests.py::TestItsSize"
        "::test_is_counted_while_the_body_is_read",
    ),
    Break(
        "a cancelled session goes on",
        "registry/uploads.py",
        "    await session.cancel()\n    await exchange.reply(204)",
        "    await exchange.reply(204)",
        "tests/conformance/test_pushing_in_chunks.py"
        "::test_a_session_that_is_not_there_is_not_found",
    ),
    Break(
        "a session can be used from another repository",
        "storage/uploads.py",
        'f"{repository}\\0{principal}\\0{id}"',
        'f"{principal}\\0{id}"',
        "tests/conformance/test_pushing_in_chunks.py"
        "::test_a_session_that_is_not_there_is_not_found",
    ),
    Break(
        "mounting a blob that is not there is answered with 201",
        "registry/uploads.py",
        "return digest if await repository.mount(digest, name) else None",
        "await repository.mount(digest, name)\n    return digest",
        "tests/conformance/test_mounting.py::test_what_cannot_be_mounted_is_uploaded",
    ),
    # Pushing manifests
    Break(
        "Docker-Content-Digest is a sha256 after a manifest was pushed by sha512",
        "registry/manifests.py",
        '(b"docker-content-digest", manifest.digest.text.encode())',
        '(b"docker-content-digest", Manifest.parse(body).digest.text.encode())',
        "tests/conformance/test_pushing_manifests.py::test_a_manifest_has_a_location_and_a_digest",
    ),
    Break(
        "a manifest may have the same key twice",
        "storage/document.py",
        "if len(result) != len(pairs):",
        "if False:",
        "tests/conformance/test_pushing_manifests.py::test_what_is_no_manifest_is_refused",
    ),
    Break(
        "OCI-Subject is missing",
        "registry/manifests.py",
        "if manifest.subject is not None and manifest.subject.digest is not None:",
        "if False:",
        "tests/conformance/test_pushing_manifests.py::test_a_subject_is_acknowledged",
    ),
    Break(
        "If-None-Match is checked only before the manifest is kept",
        "registry/manifests.py",
        "await repository.put_manifest(manifest, tags, guard=guard)",
        "await repository.put_manifest(manifest, tags)",
        "tests/conformance/test_pushing_manifests.py"
        "::test_of_conditional_pushes_at_once_only_one_is_done",
    ),
    # Listing
    Break(
        "n=0 means no limit",
        "registry/pagination.py",
        "min(int(digits), most)",
        "(min(int(digits), most) or most)",
        "tests/conformance/test_listing_tags.py::test_n_of_zero_is_an_empty_list",
    ),
    Break(
        "n=0 comes with a Link",
        "registry/referrers.py",
        "return shown, after if shown else None",
        "return shown, after",
        "tests/conformance/test_listing_referrers.py::test_a_page_of_none_is_the_last_one",
    ),
    Break(
        "Link is an absolute URL",
        "registry/pagination.py",
        "return f'<{path}?",
        "return f'<http://registry.test{path}?",
        "tests/conformance/test_listing_tags.py::test_n_limits_the_list",
    ),
    Break(
        "the tag named by last is listed once more",
        "storage/repository.py",
        "AND name > ? ORDER BY name",
        "AND name >= ? ORDER BY name",
        "tests/conformance/test_listing_tags.py::test_last_is_where_the_list_goes_on",
    ),
    Break(
        "tags are in the order of a dictionary",
        "storage/repository.py",
        "AND name > ? ORDER BY name",
        "AND name > ? ORDER BY name COLLATE NOCASE",
        "tests/conformance/test_listing_tags.py::test_all_tags_are_listed_in_byte_order",
    ),
    Break(
        "referrers in an unknown repository are answered with 404",
        "registry/referrers.py",
        "    subject = Digest.parse(exchange.last)\n",
        "    subject = Digest.parse(exchange.last)\n"
        "    await repository.tags(after=None, limit=1)  # raises RepositoryUnknown\n",
        "tests/conformance/test_listing_referrers.py::test_nothing_refers_is_an_empty_index",
    ),
    Break(
        "OCI-Filters-Applied is missing",
        "registry/referrers.py",
        'headers.append((b"oci-filters-applied", b"artifactType"))',
        "pass",
        "tests/conformance/test_listing_referrers.py::test_a_filter_leaves_its_own_type",
    ),
    # Deleting
    Break(
        "deleting a manifest leaves its tags",
        "storage/records/statements.py",
        '"DELETE FROM tags WHERE repository = ? AND digest = ? RETURNING name"',
        '"SELECT name FROM tags WHERE repository = ? AND digest = ?"',
        "tests/conformance/test_content_management.py"
        "::test_a_deleted_manifest_takes_its_tags_with_it",
    ),
    # Keeping, and collecting what need not be kept
    Break(
        "a blob's name is not synced",
        "storage/filesystem/durable.py",
        "    calls.fsync(directory)  # rename alone",
        "    # rename alone",
        "tests/storage/test_filesystem.py",
    ),
    Break(
        "a blob's bytes are not synced",
        "storage/filesystem/uploads.py",
        "                durable.sync_file(file)\n",
        "                pass\n",
        "tests/storage/test_filesystem.py",
    ),
    Break(
        "a blob is shown before its bytes are durable",
        "storage/uploads.py",
        "            size = await upload.commit(digest)\n",
        "            await self._link(digest, self.size)\n"
        "            size = await upload.commit(digest)\n",
        "tests/storage/test_crash.py",
    ),
    Break(
        "a commit may be lost in a power cut",
        "storage/records/sqlite.py",
        '"synchronous = FULL"',
        '"synchronous = NORMAL"',
        "tests/storage/test_sqlite.py",
    ),
    Break(
        "a mount is answered without a row",
        "storage/repository.py",
        "statements.link(\n                    c, statements.ensure(c, self.name), digest, whole(",
        "(lambda *_: None)(\n                    c, self.name, digest, whole(",
        "tests/conformance/test_mounting.py::test_a_blob_can_be_mounted",
    ),
    Break(
        "a blob that is there already is not written again",
        "storage/filesystem/uploads.py",
        "            durable.publish(self._path, target, self._directory)\n",
        "            if os.path.exists(target):\n"
        "                calls.unlink(self._path)\n"
        "            else:\n"
        "                durable.publish(self._path, target, self._directory)\n",
        "tests/storage/test_filesystem.py",
    ),
    Break(
        "what was just uploaded has no lease",
        "storage/records/references.py",
        "        *(repository, digest, kind, now),\n",
        "        *(repository, digest, kind, 0.0),\n",
        "tests/storage/test_collect.py",
    ),
    Break(
        "whoever asks for a blob has no lease",
        "storage/repository.py",
        "            references.renew(c, repository, digest, kind, now)\n",
        "",
        "tests/storage/test_collect.py",
    ),
    Break(
        "a blob that a manifest names is garbage",
        "storage/records/references.py",
        '    " AND NOT EXISTS (SELECT 1 FROM edges WHERE repository = ? AND child = ?"\n'
        "    \" AND relation = 'content')\"\n"
        ")\n"
        "# A referrer",
        '    " AND ? = ?"\n)\n# A referrer',
        "tests/storage/test_collect.py",
    ),
    Break(
        "what a deleted manifest named is never garbage",
        "storage/records/references.py",
        "            lease_blob(c, repository, child, now)\n        lease",
        "            pass\n        lease",
        "tests/storage/test_collect.py",
    ),
    Break(
        "a tag that moves on leaves no lease",
        "storage/records/statements.py",
        "            references.lease_manifest(c, repository, text(left[0]), now)\n",
        "            pass\n",
        "tests/storage/test_collect.py",
    ),
    Break(
        "referrers of what is here are garbage",
        "storage/records/references.py",
        "        _connect(c, repository, manifest.subject.digest.text, parent, _REFERRER)\n",
        "        pass\n",
        "tests/storage/test_collect.py",
    ),
    Break(
        "what runs is garbage",
        "storage/records/references.py",
        '    " WHERE id = ? AND digest = ?)"\n',
        '    " WHERE id = ? AND digest = ? AND 0)"\n',
        "tests/storage/test_collect.py",
    ),
    Break(
        "bytes go though a repository has them again",
        "storage/collect.py",
        "        self.answer = found is not None\n",
        "        self.answer = False\n",
        "tests/storage/test_collect.py",
    ),
    Break(
        "bytes go while they are committed",
        "storage/filesystem/uploads.py",
        "        calls.flock(self._directory, fcntl.LOCK_SH)\n",
        "",
        "tests/storage/test_collect.py",
    ),
    Break(
        "a blob is let go of before it has a row",
        "storage/uploads.py",
        "            size = await upload.commit(digest)\n            # Only",
        "            size = await upload.commit(digest)\n"
        "            await upload.close()\n"
        "            # Only",
        "tests/storage/test_collect.py",
    ),
    Break(
        "an upload that is written to expires",
        "storage/filesystem/uploads.py",
        "                    calls.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "                    found",
        "                    found",
        "tests/storage/test_collect.py",
    ),
    # When the disk says no
    Break(
        "a second sync that succeeds is believed after a first that failed",
        "storage/filesystem/uploads.py",
        "            calls.fchmod(file, 0o400)\n            try:\n",
        "            try:\n",
        "tests/storage/test_filesystem.py"
        "::test_an_upload_that_could_not_be_synced_is_lost_for_every_process",
    ),
    Break(
        "a blob is acknowledged though its directory could not be synced",
        "storage/filesystem/durable.py",
        "    calls.fsync(directory)  # rename alone",
        "    with suppress(OSError):\n        calls.fsync(directory)  # rename alone",
        f"{_SWEEP}[blob at once]",
    ),
    Break(
        "a blob that could not be opened leaves its file open",
        "storage/filesystem/blobs.py",
        "        except BaseException:\n            calls.close(file)\n            raise\n",
        "        except BaseException:\n            raise\n",
        f"{_SWEEP}[blob pulled]",
    ),
    Break(
        "a connection that could not be rolled back is used again",
        "storage/records/sqlite.py",
        "                self._drop()\n\n\nclass",
        "                pass\n\n\nclass",
        "tests/storage/test_sqlite.py"
        "::test_what_the_disk_says_is_told_in_its_words_and_once_it_is_well_all_works",
    ),
    Break(
        "nothing can be deleted on a full disk",
        "storage/reserve.py",
        "    await reserve.give_up()\n    return await work()\n",
        "    return await work()\n",
        "tests/storage/test_reserve.py::test_a_delete_is_done_on_a_full_disk",
    ),
    Break(
        "a push takes the room that is kept for deletes",
        "storage/store.py",
        "        self.pushed = database\n",
        "        self.pushed = Reserved(database, self.reserve)\n",
        "tests/storage/test_reserve.py::test_a_push_never_uses_it",
    ),
    Break(
        "an upload under way goes on on a full disk",
        "storage/filesystem/uploads.py",
        "        demand(self._uploads.reserve)\n",
        "",
        "tests/storage/test_reserve.py::test_an_upload_under_way_stops_when_it_is_given_up",
    ),
    Break(
        "a push is begun on a full disk",
        "registry/v2.py",
        "                demand(self._registry.store.reserve)\n",
        "                pass\n",
        "tests/registry/test_full_disk.py",
    ),
    Break(
        "the room that is kept is only a promise",
        "storage/filesystem/reserve.py",
        "            calls.posix_fallocate(file, 0, self._part)\n",
        "            calls.ftruncate(file, self._part)\n",
        "tests/storage/test_reserve.py::test_it_takes_real_room",
    ),
)
