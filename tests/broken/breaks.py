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


KILLED: Final = (
    "tests/crash/test_crash.py"
    "::test_whenever_it_is_killed_what_was_told_is_kept_and_the_rest_is_whole_or_not_there"
)
_NEXT: Final = 'c.execute("COMMIT")\n{0}c.execute("BEGIN IMMEDIATE")\n{0}'
"""Ends a transaction and begins another one; the indentation is to be filled in."""

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
        "                now,\n                manifest.body,",
        "                now,\n                json.dumps(json.loads(manifest.body)).encode(),",
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
        "manifest, tags, guard=guard, overwriting=overwriting,",
        "manifest, tags, overwriting=overwriting,",
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
        f"{KILLED}[blob by POST]",
    ),
    Break(
        "a push is answered before its row is there",
        "storage/uploads.py",
        "            await self._link(digest, size)\n",
        "            asyncio.ensure_future(self._link(digest, size))\n",
        f"{KILLED}[blob by POST]",
    ),
    Break(
        "a delete is answered before it is done",
        "registry/blobs.py",
        "    await repository.delete_blob(digest)\n"
        '    exchange.changed("blob.delete", digest=digest.text)\n'
        "    await exchange.reply(202)\n",
        "    await exchange.reply(202)\n    await repository.delete_blob(digest)\n",
        f"{KILLED}[blob delete]",
    ),
    Break(
        "the tags of one push are moved one by one",
        "storage/records/statements.py",
        "        left = c.one(\n",
        f"        {_NEXT.format(' ' * 8)}left = c.one(\n",
        f"{KILLED}[ten tags and a subject]",
    ),
    Break(
        "a manifest is deleted some time after its tags",
        "storage/records/statements.py",
        '    gone = c.execute(\n        "DELETE FROM manifests',
        f'    {_NEXT.format(" " * 4)}gone = c.execute(\n        "DELETE FROM manifests',
        f"{KILLED}[manifest delete]",
    ),
    Break(
        "a manifest is there some time before what keeps its blobs",
        "storage/repository.py",
        "            references.refer(c, repository, manifest)\n",
        f"            {_NEXT.format(' ' * 12)}references.refer(c, repository, manifest)\n",
        f"{KILLED}[manifest by digest]",
    ),
    Break(
        "bytes go before the rows that lead to them",
        "storage/collect.py",
        "            done += await self._database.write(change)",
        "            for (_, encoded), _ in page:\n"
        "                await self._store.blobs.remove(Digest.parse(encoded))\n"
        "            done += await self._database.write(change)",
        f"{KILLED}[collection]",
    ),
    Break(
        "a blob that is there already is written over in place",
        "storage/filesystem/uploads.py",
        "            try:\n                durable.publish(self._path, target, self._directory)\n",
        "            try:\n"
        "                flags = os.O_CREAT | os.O_TRUNC | os.O_RDWR\n"
        "                into = calls.open(target, flags, 0o600)\n"
        "                calls.pwrite(into, calls.pread(self._file, self.size, 0), 0)\n"
        "                calls.unlink(self._path)\n",
        f"{KILLED}[push again]",
    ),
    Break(
        "a step of a migration is many transactions",
        "storage/records/sqlite.py",
        "        connection.execute(statement)\n    connection",
        "        connection.execute(statement)\n"
        '        connection.execute("COMMIT")\n'
        '        connection.execute("BEGIN IMMEDIATE")\n'
        "    connection",
        f"{KILLED}[migration]",
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
        "            try:\n                durable.publish(",
        "            try:\n"
        "                if os.path.exists(target):\n"
        "                    return calls.unlink(self._path)\n"
        "                durable.publish(",
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
        "            needed = references.is_linked(c, self._digest) or ",
        "            needed = ",
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
    # Open uploads
    Break(
        "the body of one upload too many is read",
        "registry/uploads.py",
        "    await session.check(exchange.length or 0)\n    size",
        "    size",
        "tests/registry/test_upload_limits.py",
    ),
    Break(
        "uploads that have ended count as open",
        "storage/open_uploads.py",
        "            await self._count()  # some",
        "            pass  # some",
        "tests/registry/test_upload_limits.py",
    ),
    # Immutable tags
    Break(
        "whether a tag is immutable is asked before the transaction alone",
        "storage/repository.py",
        """        def change(c: Connection) -> dict[Tag, Digest | None]:
            if guard is not None:
                statement = _MANIFEST_WITHOUT_BODY[type(reference)]
                row = c.one(statement, self.name.text, reference.text)
                here = row is not None and row[4] is None
                guard(Digest.parse(text(row[0])) if row and here else None)
            statements.refuse_moves(
                c, self.name, tags, manifest.digest, self._immutable, overwriting
            )
""",
        """        await self.refuse_moves(tags, manifest.digest)

        def change(c: Connection) -> dict[Tag, Digest | None]:
            if guard is not None:
                statement = _MANIFEST_WITHOUT_BODY[type(reference)]
                row = c.one(statement, self.name.text, reference.text)
                here = row is not None and row[4] is None
                guard(Digest.parse(text(row[0])) if row and here else None)
""",
        "tests/conformance/test_immutable_tags.py::test_of_two_that_push_it_at_once_one_wins",
    ),
    Break(
        "only the first of several tags is asked about",
        "storage/records/statements.py",
        "    for tag in tags:\n        fixed =",
        "    for tag in list(tags)[:1]:\n        fixed =",
        "tests/conformance/test_immutable_tags.py"
        "::test_of_several_tags_in_one_push_all_move_or_none",
    ),
    Break(
        "a delete by digest takes an immutable tag along",
        "storage/repository.py",
        "for tag in statements.tags_of(c, repository, digest):",
        "for tag in ():",
        "tests/conformance/test_immutable_tags.py"
        "::test_nor_can_its_manifest_which_would_take_it_along",
    ),
    Break(
        "an immutable tag can be deleted",
        "storage/repository.py",
        "                self._refuse_deletion(tag, gone)",
        "                pass",
        "tests/conformance/test_immutable_tags.py::test_it_cannot_be_deleted",
    ),
    Break(
        "an immutable tag cannot be pushed again as it is",
        "storage/records/statements.py",
        "if row is None or row[0] == digest.text:",
        "if row is None:",
        "tests/conformance/test_immutable_tags.py::test_the_same_can_be_pushed_again",
    ),
    Break(
        "what is refused is read first, though its digest was told",
        "registry/manifests.py",
        "        await repository.refuse_moves(tags, reference, overwriting=overwriting)\n",
        "        pass\n",
        "tests/conformance/test_immutable_tags.py"
        "::test_where_the_digest_is_told_it_is_refused_before_the_body_is_read",
    ),
    # Retention
    Break(
        "a star leads past a slash",
        "storage/patterns.py",
        "                no_slash |= 1 << place",
        "                anything |= 1 << place",
        "tests/storage/test_patterns.py::test_a_pattern_of_repositories_fits_whole_names",
    ),
    Break(
        "a signature takes a place of the newest tags",
        "storage/retention.py",
        "if one.follows is None and one.tag not in named]",
        "if one.tag not in named]",
        "tests/storage/test_retention.py::test_a_tag_about_a_digest_follows_it_and_takes_no_place",
    ),
    Break(
        "what is kept by its name takes a place of the newest tags",
        "storage/retention.py",
        "if one.follows is None and one.tag not in named]",
        "if one.follows is None]",
        "tests/storage/test_retention.py"
        "::test_what_is_named_stays_and_takes_no_place_of_the_newest",
    ),
    Break(
        "a signature goes while what it signs is here",
        "storage/retention.py",
        "        if reason is None and tagged.follows:",
        "        if False:",
        "tests/storage/test_retention.py::test_a_tag_about_a_digest_follows_it_and_takes_no_place",
    ),
    Break(
        "a rule that only protects makes other tags go",
        "storage/retention.py",
        "if rule.removes and rule.scope.covers(tagged.tag)]",
        "if rule.scope.covers(tagged.tag)]",
        "tests/storage/test_retention.py::test_to_protect_is_no_reason_for_others_to_go",
    ),
    Break(
        "a tag goes that was moved since it was decided",
        "storage/retain.py",
        "self._store.now(), tagged.generation",
        "self._store.now(), None",
        "tests/storage/test_retain.py::test_a_push_that_comes_between_wins",
    ),
    Break(
        "a tag goes whose revision has just begun to run",
        "storage/retain.py",
        "if _held(c, name, tagged.digest) or _follows",
        "if _follows",
        "tests/storage/test_retain.py::test_what_is_needed_since_just_now_stays",
    ),
    Break(
        "a signature goes whose subject has just come",
        "storage/retain.py",
        " or _follows(c, id, tagged.tag):",
        ":",
        "tests/storage/test_retain.py::test_a_signature_whose_subject_comes_just_now_stays",
    ),
    Break(
        "a tag that retention removes keeps its manifest for ever",
        "storage/records/statements.py",
        "    references.lease_manifest(c, repository, text(gone[0]), now)\n    return Digest",
        "    return Digest",
        "tests/storage/test_retain.py"
        "::test_what_an_index_names_and_what_refers_to_it_stays_with_it",
    ),
    Break(
        "what another repository has is told to become free",
        "storage/freed.py",
        '    " AND others.repository <> links.repository)"',
        '    " AND others.repository <> links.repository AND 0)"',
        "tests/storage/test_freed.py::test_a_manifest_frees_what_it_alone_named",
    ),
    Break(
        "a delete is answered when it is known what it frees",
        "registry/manifests.py",
        "    await exchange.reply(202)\n    exchange.registry.moved()\n",
        "    await deletions.tell(exchange, lambda f: f.released(repository.name, released))\n"
        "    await exchange.reply(202)\n    exchange.registry.moved()\n",
        "tests/registry/test_deletions.py::test_the_answer_does_not_wait_for_it",
    ),
    # Several workers, clients that vanish, kills
    Break(
        "how far an upload is comes from the memory of one worker",
        "storage/filesystem/uploads.py",
        "        return FilesystemUpload(self, key, path, found.st_size)\n",
        "        running = self.running.get(key)\n"
        "        size = running.size if running else found.st_size\n"
        "        return FilesystemUpload(self, key, path, size)\n",
        "tests/durability/test_cuts.py"
        "::test_what_is_kept_of_a_vanished_client_is_told_and_can_be_gone_on_from"
        "[FIN-Content-Length]",
    ),
    Break(
        "what came last from a client that vanished is thrown away",
        "storage/uploads.py",
        "        if pieces:\n            open_uploads.add(size=waiting)\n",
        "        import sys\n\n"
        "        if pieces and not sys.exc_info()[0]:\n"
        "            open_uploads.add(size=waiting)\n",
        "tests/durability/test_cuts.py"
        "::test_what_is_kept_of_a_vanished_client_is_told_and_can_be_gone_on_from[stall-chunked]",
    ),
    Break(
        "two write one upload at a time",
        "storage/filesystem/uploads.py",
        "            calls.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "            found = calls.fstat(file)\n"
        "            self.size",
        "            found = calls.fstat(file)\n            self.size",
        "tests/durability/test_cuts.py"
        "::test_what_is_kept_of_a_vanished_client_is_told_and_can_be_gone_on_from"
        "[stall-Content-Length]",
    ),
    Break(
        "the lock of an upload outlives the worker that was killed with it",
        "storage/filesystem/uploads.py",
        "            calls.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "            found = calls.fstat(file)\n"
        "            self.size",
        "            import weakref\n\n"
        "            try:\n"
        '                os.close(os.open(f"{self._path}.lock", os.O_CREAT | os.O_EXCL))\n'
        "            except FileExistsError:\n"
        "                raise BlockingIOError from None\n"
        '            weakref.finalize(self, durable.unlink, f"{self._path}.lock")\n'
        "            found = calls.fstat(file)\n"
        "            self.size",
        "tests/durability/test_storm.py::test_a_worker_that_is_killed_lets_go_of_its_upload",
    ),
    Break(
        "a worker remembers tags for as long as it writes nothing itself",
        "storage/repository.py",
        "        row = await self._database.read("
        "lambda c: c.one(statement, self.name.text, reference.text))\n"
        "        if row is None:\n            raise await self._unknown(ManifestUnknown",
        "        inner = self._database._database\n"
        '        cache = inner.__dict__.setdefault("cache", {})\n'
        "        changes = inner._writer._connection.total_changes\n"
        "        key = (statement, reference.text, changes)\n"
        "        if key not in cache:\n"
        "            cache[key] = await self._database.read(\n"
        "                lambda c: c.one(statement, self.name.text, reference.text)\n"
        "            )\n"
        "        row = cache[key]\n"
        "        if row is None:\n            raise await self._unknown(ManifestUnknown",
        "tests/durability/test_tags.py::test_there_is_one_order_in_which_a_tag_moved",
    ),
    Break(
        "a blob has its row only a moment after its 201",
        "storage/uploads.py",
        "            await self._link(digest, size)\n",
        "            asyncio.get_running_loop().call_later(\n"
        "                0.2, lambda: asyncio.ensure_future(self._link(digest, size))\n"
        "            )\n",
        "tests/durability/test_pushers.py",
    ),
    # Backups
    Break(
        "a snapshot shows itself before its blobs are durable",
        "storage/filesystem/backups.py",
        "            durable.sync_directory(place)\n        durable.sync_path",
        "            pass\n        durable.sync_path",
        "tests/storage/test_backup.py::test_a_snapshot_shows_itself_when_everything_is_durable",
    ),
    Break(
        "a blob is backed up without a look at its bytes",
        "storage/filesystem/copying.py",
        "            at += len(piece)\n    _compare(hasher.hexdigest(), digest)\n",
        "            at += len(piece)\n",
        "tests/storage/test_backup.py::test_a_damaged_blob_is_told_and_the_rest_is_saved",
    ),
    Break(
        "the collector waits for no backup",
        "storage/pause.py",
        'LIMIT 1", now) is not None',
        'LIMIT 1", now) is True',
        "tests/storage/test_backup.py::test_bytes_stay_while_a_backup_is_at_work",
    ),
    Break(
        "the collector waits for no backup that begins while it is at work",
        "storage/collect.py",
        "return self.answer or self.paused",
        "return self.answer",
        "tests/storage/test_backup.py"
        "::test_a_pause_that_begins_while_the_collector_is_at_work_holds",
    ),
    Break(
        "bytes for which the collector waited never go",
        "storage/collect.py",
        " and not needed.paused:",
        ":",
        "tests/storage/test_backup.py"
        "::test_a_pause_that_begins_while_the_collector_is_at_work_holds",
    ),
    Break(
        "the blobs of a backup are those of other records",
        "storage/backup.py",
        "linked = await store.database.snapshot(draft.records, _linked)",
        "await store.database.snapshot(draft.records, _linked)\n"
        "                linked = await store.database.read(_linked)",
        "tests/storage/test_backup.py::test_the_blobs_are_those_of_the_very_state_that_is_kept",
    ),
    Break(
        "a backup that lost its pause shows itself",
        "storage/pause.py",
        "    if not await store.database.write(change):\n        raise PauseLost",
        "    if not await store.database.write(change) and False:\n        raise PauseLost",
        "tests/storage/test_backup.py::test_a_backup_that_was_stopped_for_too_long_shows_nothing",
    ),
    Break(
        "pruning takes what the newest snapshot needs",
        "storage/backup.py",
        "needed = {digest for id in kept for",
        "needed = {digest for id in kept[:-1] for",
        "tests/storage/test_backup.py::test_older_snapshots_go_with_what_only_they_need",
    ),
    Break(
        "a half restored directory can be opened",
        "storage/filesystem/layout.py",
        "draft = str(layout.root / _RESTORING)",
        "draft = str(layout.root / _MARKER)",
        "tests/storage/test_backup.py::test_one_that_was_cut_short_is_gone_on_with",
    ),
    Break(
        "what a restore left that was cut short is believed",
        "storage/filesystem/backups.py",
        "                return copying.check(file, digest)\n            finally",
        "                return calls.fstat(file).st_size\n            finally",
        "tests/storage/test_backup.py::test_one_that_was_cut_short_is_gone_on_with",
    ),
    Break(
        "what nothing refers to is garbage as soon as it is restored",
        "storage/restore.py",
        'c.execute("UPDATE leases SET since = ?", now)',
        "pass",
        "tests/storage/test_backup.py::test_what_nothing_refers_to_has_its_whole_grace_again",
    ),
    Break(
        "a snapshot of the records is of several moments",
        "storage/records/sessions.py",
        "        return self.transaction(find_and_copy)",
        "        return find_and_copy(self._statements)",
        "tests/storage/test_sqlite.py::test_a_snapshot_is_of_one_moment_while_others_write",
    ),
    # Image layouts
    Break(
        "an image is imported without all its layers",
        "storage/importing.py",
        'raise _Refused(f"blob {blob.digest} is not in the layout")',
        "return",
        "tests/storage/test_layouts.py::test_an_entry_is_taken_wholly_or_not_at_all",
    ),
    Break(
        "a link in a layout is followed",
        "storage/filesystem/imagelayout.py",
        "_DIRECTORY: Final = os.O_RDONLY | os.O_NOFOLLOW",
        "_DIRECTORY: Final = os.O_RDONLY",
        "tests/storage/test_layouts.py::test_no_link_in_a_layout_is_followed",
    ),
    Break(
        "an archive's sizes may be below zero",
        "storage/filesystem/tar.py",
        "        if field[0] != 0x80:",
        "        if False:",
        "tests/storage/test_layouts.py::test_an_archive_that_lies_is_refused",
    ),
    Break(
        "a manifest is exported without its referrers",
        "storage/export.py",
        "        yield Digest.parse(text(referrer))",
        "        pass",
        "tests/storage/test_layouts.py::test_one_tag_comes_with_all_that_belongs_to_it",
    ),
    # Upgrades
    Break(
        "processes that start together upgrade twice",
        "storage/records/sqlite.py",
        "    if _done(room, connection) >= number:",
        "    if False:",
        "tests/storage/test_upgrade.py::test_processes_that_start_together_upgrade_once",
    ),
    # Finding what is damaged, and healing it
    Break(
        "HEAD says that a damaged blob is there",
        "storage/repository.py",
        "        if row is None or row[2] is not None:\n            return None\n",
        "        if row is None:\n            return None\n",
        "tests/storage/test_verify.py"
        "::test_a_damaged_blob_is_as_if_it_were_not_there_until_it_is_pushed_again",
    ),
    Break(
        "a damaged blob can be mounted from anywhere",
        "storage/repository.py",
        "\" WHERE kind = 'blob' AND repository = 0 AND damaged.name = digest) LIMIT 1\"",
        "\" WHERE kind = 'none') LIMIT 1\"",
        "tests/storage/test_verify.py"
        "::test_a_damaged_blob_is_as_if_it_were_not_there_until_it_is_pushed_again",
    ),
    Break(
        "a blob that was pushed again is still damaged",
        "storage/repository.py",
        "                damage.heal(c, damage.BLOB, damage.NOWHERE, digest.text)\n",
        "",
        "tests/storage/test_verify.py"
        "::test_a_damaged_blob_is_as_if_it_were_not_there_until_it_is_pushed_again",
    ),
    Break(
        "a manifest is served whatever its digest says",
        "storage/repository.py",
        "or not await _fits(digest, body):",
        "or False:",
        "tests/storage/test_verify.py"
        "::test_a_damaged_manifest_is_as_if_it_were_not_there_until_it_is_pushed_again",
    ),
    Break(
        "HEAD says that a damaged manifest is there",
        "storage/repository.py",
        "        if selects is not _MANIFEST and reason is not None:\n",
        "        if False:\n",
        "tests/storage/test_verify.py"
        "::test_a_damaged_manifest_is_as_if_it_were_not_there_until_it_is_pushed_again",
    ),
    Break(
        "a row that is changed keeps its old seal",
        "storage/records/seals.py",
        '{"insert": "INSERT", "update": f"UPDATE OF {changes}"}',
        '{"insert": "INSERT"}',
        "tests/storage/test_seals.py",
    ),
    Break(
        "opening takes changed tables for right",
        "storage/records/sqlite.py",
        "        intact = await self.read(seals.intact)\n",
        "        intact = True\n",
        "tests/storage/test_verify.py"
        "::test_tables_that_changed_are_found_though_the_store_is_opened_anew",
    ),
    Break(
        "what was just pushed is put aside for what was there before",
        "storage/filesystem/blobs.py",
        "if stat.S_ISREG(found.st_mode) and not self._verified.refuted(digest, found):",
        "if False:",
        "tests/storage/test_verify.py::test_a_blob_that_is_pushed_while_it_is_put_aside_stays",
    ),
    Break(
        "bytes are put aside while they are committed",
        "storage/filesystem/blobs.py",
        "                calls.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "            except BlockingIOError:\n"
        "                return False\n"
        "            try:\n",
        "                pass\n"
        "            except BlockingIOError:\n"
        "                return False\n"
        "            try:\n",
        "tests/storage/test_verify.py::test_nothing_is_put_aside_while_somebody_commits",
    ),
    Break(
        "wrong bytes stay in the place of the blob",
        "storage/filesystem/blobs.py",
        "            if not leave:\n",
        "            if False:\n",
        "tests/storage/test_verify.py"
        "::test_bytes_that_changed_are_found_by_reading_them_and_put_aside",
    ),
    Break(
        "a link in the place of a blob is followed",
        "storage/filesystem/blobs.py",
        "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK",
        "os.O_RDONLY | os.O_NONBLOCK",
        "tests/storage/test_verify.py"
        "::test_what_is_in_the_place_of_a_blob_is_not_served_and_a_push_heals_it",
    ),
    Break(
        "garbage goes while nobody knows what is needed",
        "storage/records/damage.py",
        "WHERE d.kind IN ('manifest', 'record') ORDER BY",
        "WHERE d.kind IN ('none') ORDER BY",
        "tests/storage/test_verify.py"
        "::test_nothing_is_collected_while_a_manifest_or_record_is_damaged",
    ),
    Break(
        "a pass always begins at the beginning",
        "storage/verify/passes.py",
        "if row is not None and row[0] in self._stages:",
        "if False:",
        "tests/storage/test_verify.py"
        "::test_a_pass_that_is_stopped_again_and_again_covers_everything_once",
    ),
    Break(
        "edges that no manifest has stay",
        "storage/verify/manifests.py",
        "                if edge[4]:\n",
        "                if False:\n",
        "tests/storage/test_verify.py::test_what_the_body_of_a_manifest_proves_is_put_right",
    ),
    Break(
        "a room that others may write is taken",
        "storage/filesystem/layout.py",
        "    if found.st_mode & (stat.S_IWOTH | stat.S_IWGRP):\n        raise",
        "    if False:\n        raise",
        "tests/storage/test_layout.py",
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
        "storage/records/sessions.py",
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
    Break(
        "a part of the reserve is given up to take it again",
        "storage/filesystem/reserve.py",
        "            if missing > 0:\n",
        "            if missing > 0:\n                calls.ftruncate(file, 0)\n",
        "tests/storage/test_reserve.py::test_another_process_takes_nothing_of_it",
    ),
    Break(
        "who else makes the catalogue is not waited for",
        "storage/records/sqlite.py",
        " or time.monotonic() > until:\n",
        " or time.monotonic() > 0:\n",
        "tests/storage/test_upgrade.py::"
        "test_who_makes_the_catalogue_at_the_same_time_is_waited_for",
    ),
    # Who may do what
    Break(
        "everyone is anonymous, too",
        "registry/auth/who.py",
        "                return self.anonymous\n",
        "                return self.anonymous or self.everyone\n",
        "tests/registry/auth/test_policy.py::test_anonymous_is_not_everyone",
    ),
    Break(
        "a credential that is good for nothing is good for all that its owner may do",
        "registry/auth/policy.py",
        "if principal.bounds is not None and not any(",
        "if principal.bounds and not any(",
        "tests/registry/auth/test_policy.py::test_nothing_extends_the_bounds_of_a_credential",
    ),
    Break(
        "a token can say itself who its issuer is",
        "registry/auth/who.py",
        "    if name == ISSUER:",
        "    if name == ISSUER and ISSUER not in principal.claims:",
        "tests/registry/auth/test_policy.py"
        "::test_the_issuer_is_who_vouches_and_not_what_a_token_says_of_itself",
    ),
    Break(
        "what was decided by the claims of one token holds for the next one of that name",
        "registry/auth/policy.py",
        "*map(principal.claims.get, self._claims)",
        "",
        "tests/registry/auth/test_policy.py::test_what_is_remembered_of_one_is_not_told_of_another",
    ),
    Break(
        "half of a policy file that is being written is believed",
        "registry/auth/watch.py",
        "if appeared or self._seen[:2] == before[:2]:",
        "if appeared:",
        "tests/registry/auth/test_watch.py"
        "::test_what_is_written_in_its_place_is_believed_once_it_stays_the_same",
    ),
    # Tokens
    Break(
        "a token is taken that nobody signed",
        "registry/auth/jws.py",
        "        _JWS.decode(signed.text, key, algorithms=[ALGORITHM])\n",
        "        pass\n",
        "tests/registry/auth/test_tokens.py"
        "::test_a_forged_token_is_refused[the key of somebody else, under our kid]",
    ),
    Break(
        "a token may bring its own key along",
        "registry/auth/jws.py",
        'if header.keys() != {"alg", "typ", "kid"}:',
        'if not header.keys() >= {"alg", "typ", "kid"}:',
        "tests/registry/auth/test_tokens.py::test_a_forged_token_is_refused[jwk of ours]",
    ),
    Break(
        "a token that was seen is taken when its key is forgotten",
        "registry/auth/tokens.py",
        "if await self._keys.seen() != self._generation:",
        "if False:",
        "tests/registry/auth/test_tokens.py::test_a_token_that_was_seen_is_forgotten_with_its_key",
    ),
    Break(
        "a token can be shown for a new one",
        "registry/auth/service.py",
        'if len(given) > 1 or scheme != "basic":',
        "if len(given) > 1:",
        "tests/registry/auth/test_service.py::test_a_token_is_not_taken_for_another_one",
    ),
    Break(
        "a refresh token outlives the password",
        "registry/auth/refresh.py",
        "if owner is None or _hash(owner.fingerprint) != row[1]:",
        "if owner is None:",
        "tests/registry/auth/test_service.py"
        "::test_a_refresh_token_dies_with_the_password_it_was_made_with",
    ),
    # Requests of the registry's own, and who is vouched for
    Break(
        "a name is gone to that has a private address beside a public one",
        "registry/auth/outbound.py",
        "        for address in addresses:\n            if what",
        "        for address in addresses[:1]:\n            if what",
        "tests/registry/auth/test_outbound.py::test_what_leads_astray_is_refused_with_a_sentence",
    ),
    Break(
        "a name is resolved again to connect to it",
        "registry/auth/outbound.py",
        "return await self._connect(address,",
        "return await self._connect(destination.host,",
        "tests/registry/auth/test_outbound.py"
        "::test_a_name_is_resolved_once_and_its_address_connected_to",
    ),
    Break(
        "an identity token needs no signature of its issuer",
        "registry/auth/oidc.py",
        "    if not key.signed(token.message, token.signature):",
        "    if False:",
        "tests/registry/auth/test_forged_identity.py::test_a_forged_token_is_nobody",
    ),
    Break(
        "an identity token for a longer audience is taken",
        "registry/auth/oidc.py",
        "    if audience not in values:",
        "    if not any(one.startswith(audience) for one in values):",
        "tests/registry/auth/test_forged_identity.py::test_a_forged_token_is_nobody",
    ),
    Break(
        "whoever shows a token with an unknown key has the issuer asked",
        "registry/auth/issuers.py",
        "        return now - self._looked >= AGAIN",
        "        return True",
        "tests/registry/auth/test_issuers.py"
        "::test_for_a_key_that_is_not_there_is_looked_once_a_minute",
    ),
    # Who signs in
    Break(
        "whether there is a user can be told by the time that it takes",
        "registry/auth/passwords.py",
        "        hash = self._no_hash(name) if user is None else user.hash\n",
        "        if user is None:\n            return False\n        hash = user.hash\n",
        "tests/registry/auth/test_passwords.py::test_a_name_that_is_nobodys_costs_what_a_users_does",
    ),
    Break(
        "an old password is remembered after it was changed",
        "registry/auth/passwords.py",
        '        parts = (name, user.hash if user else "", password)\n',
        "        parts = (name, password)\n",
        "tests/registry/auth/test_passwords.py"
        "::test_a_new_password_and_a_removed_user_end_what_is_remembered",
    ),
    Break(
        "a revoked token is good until it expires",
        "registry/auth/robots.py",
        "return self.revoked is None and (",
        "return (",
        "tests/registry/auth/test_robots.py::test_a_revoked_token_ends_at_once_for_every_process",
    ),
    Break(
        "who shows what is wrong is let in as nobody",
        "registry/auth/authenticate.py",
        '        raise _refused("the user name or the password is wrong")\n',
        "        return ANONYMOUS\n",
        "tests/registry/auth/test_authenticate.py"
        "::test_no_user_and_a_wrong_password_are_told_in_the_same_words",
    ),
    Break(
        "a token outlives its owner",
        "registry/auth/authenticate.py",
        "            case Kind.USER if self._users.current().find(name):\n",
        "            case Kind.USER if name:\n",
        "tests/registry/auth/test_authenticate.py::test_a_token_ends_with_its_owner",
    ),
    # Who may do what
    Break(
        "a route is answered before anybody was asked whether it may be",
        "registry/auth/doorman.py",
        "        if not self.may(action, repository):\n",
        "        if False:\n",
        "tests/registry/auth/matrix/test_matrix.py"
        "::test_every_answer_is_the_one_that_was_agreed_on",
    ),
    Break(
        "a tag is overwritten by whoever pushes at the same time as somebody else",
        "storage/repository.py",
        "                c, self.name, tags, manifest.digest, self._immutable, overwriting\n",
        "                c, self.name, tags, manifest.digest, self._immutable, None\n",
        "tests/registry/auth/test_enforcement.py"
        "::test_of_two_pushes_at_once_the_second_is_an_overwrite",
    ),
    Break(
        "a session is for everybody who knows its id",
        "registry/exchange.py",
        'return "" if principal.kind is Kind.ANYBODY else principal.text',
        'return ""',
        "tests/registry/auth/test_enforcement.py::test_a_session_is_only_there_for_who_began_it",
    ),
    Break(
        "a blob is mounted from where it may not be pulled",
        "registry/uploads.py",
        " if caller.demand_for_mount(one.text, exchange.name))",
        ")",
        "tests/registry/auth/test_enforcement.py"
        "::test_else_there_is_a_session_and_nothing_tells_why",
    ),
    Break(
        "what is pushed without the right to deploy runs",
        "registry/deploy/intake.py",
        "if move.mover is not None and not move.mover.may_deploy:",
        "if False:",
        "tests/deploy/test_movers.py::test_a_push_of_who_may_not_is_kept_and_told_and_does_not_run",
    ),
    # Audit
    Break(
        "a change is answered before its line in the audit is durable",
        "registry/exchange.py",
        "        await auditing.tell(self, status)\n",
        "        asyncio.create_task(auditing.tell(self, status))\n",
        "tests/registry/test_auditing.py::test_a_line_is_durable_before_the_answer_begins",
    ),
    Break(
        "a change is begun that cannot be audited",
        "registry/v2.py",
        "                await self._registry.audit.ready()\n",
        "                pass\n",
        "tests/registry/test_auditing.py"
        "::test_without_room_for_the_audit_no_change_is_begun_and_pulls_go_on",
    ),
    Break(
        "what somebody cut off from the audit is written over",
        "storage/filesystem/chained.py",
        "        if self._head.seq > head.seq or",
        "        if False and self._head.seq > head.seq or",
        "tests/storage/test_chain.py"
        "::test_lines_that_somebody_cut_off_under_a_writer_are_missed_for_ever",
    ),
    Break(
        "what a crash left of the audit goes without a word",
        "storage/filesystem/chained.py",
        "                    self._own.append(_closing(opened, torn))\n",
        "                    pass\n",
        "tests/storage/test_chain.py"
        "::test_what_a_crash_left_is_closed_by_the_next_writer_which_says_so",
    ),
    Break(
        "a traceback in the log shows what variables hold",
        "registry/logs.py",
        "[structlog.processors.format_exc_info, escape, structlog",
        "[structlog",
        "tests/registry/test_secrets.py::test_a_traceback_does_not_show_what_variables_hold",
    ),
    # Who is at the other end
    Break(
        "whoever sends X-Forwarded-For is believed",
        "registry/proxies.py",
        "    if not within(peer[0], trusted):\n        return None\n",
        "",
        "tests/registry/test_proxies.py::test_nobody_else_is_believed",
    ),
    Break(
        "the first address of X-Forwarded-For is the client",
        "registry/proxies.py",
        "        if node is None or not within(address, trusted):\n            break\n",
        "",
        "tests/registry/test_proxies.py::test_the_rightmost_address_that_is_no_proxy_asks",
    ),
    Break(
        "the certificate of a proxy is that of its clients",
        "registry/proxies.py",
        "        certify(scope, None)  # it would be the proxy's, and its clients are others\n",
        "",
        "tests/registry/test_proxies.py::test_the_certificate_of_a_proxy_is_not_its_clients",
    ),
    Break(
        "a connection is counted when its handshake is over",
        "registry/handshakes.py",
        "        if not self._crowd.enter(self):\n            transport.abort()\n",
        "",
        "tests/registry/connections/test_handshakes.py"
        "::test_connections_in_their_handshake_are_counted",
    ),
    Break(
        "a key that everybody can read is served with",
        "registry/tls.py",
        "    if mode & 0o077 & ~allowed:\n",
        "    if False:\n",
        "tests/registry/tls/test_certificates.py::test_a_key_that_others_can_read_is_refused",
    ),
    # A restart that nobody notices, and a server that nobody holds
    Break(
        "a process that is replaced ends connections that a request may be on its way to",
        "registry/connections.py",
        "        if not self._crowd.kindly:\n",
        "        if True:\n",
        "tests/registry/connections/test_stopping.py::test_kindly_who_rests_is_answered_once_more",
    ),
    Break(
        "applications end before the last request to them",
        "registry/deploy/residence.py",
        "        if self._site.handing():\n            return\n",
        "",
        "tests/deploy/test_handing_over.py::test_the_next_one_answers_before_the_first_one_stops",
    ),
    Break(
        "downloads take the places of what is short",
        "registry/admission.py",
        'handler is blobs.pull and method == "GET"',
        "handler is blobs.pull",
        "tests/registry/test_admission.py::test_downloads_take_no_place_of_what_is_short",
    ),
    Break(
        "who is not signed in is one with all who are not",
        "registry/rates.py",
        "return principal.text if principal.signed_in else place(address)",
        "return principal.text",
        "tests/registry/test_rates.py::test_who_signed_in_is_counted_by_who_he_is",
    ),
    # What a proxy in front could be fooled with
    Break(
        "what is sent behind a refusal is read to its end",
        "registry/connections.py",
        "        if self._spare < 0:\n",
        "        if self._spare < -(1 << 30):\n",
        "tests/proxies/test_early_answers.py::"
        "test_of_a_body_that_nobody_wants_no_more_than_a_little_is_read[alone-413]",
    ),
    Break(
        "nobody is told that the connection ends with an early answer",
        "registry/exchange.py",
        "        if self._more and self.length != 0:\n",
        "        if False:\n",
        "tests/proxies/test_early_answers.py::"
        "test_a_client_that_waits_sees_the_answer_and_is_told_that_nothing_follows[alone-413]",
    ),
    Break(
        "a request is found in the body of who asks for another protocol",
        "registry/connections.py",
        "            if parser.should_upgrade():\n",
        "            if False:\n",
        "tests/proxies/test_smuggling.py::test_both_logs_tell_of_the_same_requests_and_nobody_gets"
        "_the_answer_of_another[alone-bodies of others: an upgrade with a body]",
    ),
)
