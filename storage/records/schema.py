"""The tables of what is kept, in the words that SQLite and PostgreSQL share.

Names and digests are `{text}`: compared byte by byte, which is the order of every list. Times are
seconds since 1970. Sizes are bytes. Steps are appended, never edited after a release.
"""

from __future__ import annotations

from typing import Final

from storage.records import references
from storage.records.database import Step

STEPS: Final[tuple[Step, ...]] = (
    (
        # A row is made with the first blob or manifest and stays, so that a repository whose
        # content was deleted is still known; lists of repositories leave it out while it is empty.
        "CREATE TABLE repositories (id {serial}, name {text} NOT NULL UNIQUE)",
        # Who may see which blob: a blob without a link is garbage.
        """
        CREATE TABLE links (
            repository BIGINT NOT NULL REFERENCES repositories (id),
            digest {text} NOT NULL,
            size BIGINT NOT NULL,
            created DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (repository, digest)
        ) {clustered}
        """,
        "CREATE INDEX links_by_digest ON links (digest)",  # mounting from anywhere; garbage
        # The body is last: what does not ask for it does not read its pages.
        """
        CREATE TABLE manifests (
            repository BIGINT NOT NULL REFERENCES repositories (id),
            digest {text} NOT NULL,
            media_type {text} NOT NULL,
            subject {text},
            artifact_type {text},
            annotations {text} NOT NULL,
            size BIGINT NOT NULL,
            created DOUBLE PRECISION NOT NULL,
            body {bytes} NOT NULL,
            PRIMARY KEY (repository, digest)
        )
        """,
        # Two, so that a page of referrers costs its own size with and without the filter.
        """
        CREATE INDEX referrers ON manifests (repository, subject, digest)
            WHERE subject IS NOT NULL
        """,
        """
        CREATE INDEX referrers_by_type ON manifests (repository, subject, artifact_type, digest)
            WHERE subject IS NOT NULL
        """,
        # The reference makes a tag without its manifest impossible.
        """
        CREATE TABLE tags (
            repository BIGINT NOT NULL,
            name {text} NOT NULL,
            digest {text} NOT NULL,
            generation BIGINT NOT NULL,
            PRIMARY KEY (repository, name),
            FOREIGN KEY (repository, digest) REFERENCES manifests (repository, digest)
        ) {clustered}
        """,
        "CREATE INDEX tags_by_digest ON tags (repository, digest)",
        # Every move of a tag, also to where it was; digest is null where it was deleted.
        """
        CREATE TABLE tag_moves (
            generation BIGINT PRIMARY KEY,
            repository BIGINT NOT NULL REFERENCES repositories (id),
            tag {text} NOT NULL,
            digest {text},
            at DOUBLE PRECISION NOT NULL
        ) {clustered}
        """,
        # The newest generation, as a row that is locked until the transaction ends: a sequence
        # would let a lower number appear after a higher one, and who reads on from there miss it.
        "CREATE TABLE tag_clock (generation BIGINT NOT NULL)",
        "INSERT INTO tag_clock (generation) VALUES (0)",
        # What must not be deleted, and on whose behalf; by name, since it may come first.
        """
        CREATE TABLE holds (
            repository_name {text} NOT NULL,
            digest {text} NOT NULL,
            holder {text} NOT NULL,
            reason {text} NOT NULL,
            PRIMARY KEY (repository_name, digest, holder)
        ) {clustered}
        """,
    ),
    (
        # What a manifest refers to: its config, layers and children are 'content'. For a referrer
        # the parent is its subject, so that one question tells what keeps something: its parents.
        """
        CREATE TABLE edges (
            repository BIGINT NOT NULL REFERENCES repositories (id),
            parent {text} NOT NULL,
            child {text} NOT NULL,
            relation {text} NOT NULL,
            PRIMARY KEY (repository, parent, child, relation)
        ) {clustered}
        """,
        "CREATE INDEX edges_by_child ON edges (repository, child)",
        # What nothing refers to, and since when; it is garbage once that is long enough ago.
        # kind: 'blob' or 'manifest'.
        """
        CREATE TABLE leases (
            repository BIGINT NOT NULL REFERENCES repositories (id),
            digest {text} NOT NULL,
            kind {text} NOT NULL,
            since DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (repository, digest, kind)
        ) {clustered}
        """,
        "CREATE INDEX leases_by_age ON leases (kind, since)",
        # Blobs that no repository has any more, whose bytes are still there.
        """
        CREATE TABLE trash (
            digest {text} NOT NULL PRIMARY KEY,
            size BIGINT NOT NULL,
            since DOUBLE PRECISION NOT NULL
        ) {clustered}
        """,
        "CREATE INDEX trash_by_age ON trash (since)",
        references.read_all,
    ),
    (
        # Who reads bytes by a list made earlier, so that none may go meanwhile (storage.pause).
        """
        CREATE TABLE pauses (
            id {text} NOT NULL PRIMARY KEY,
            since DOUBLE PRECISION NOT NULL,
            expires DOUBLE PRECISION NOT NULL
        ) {clustered}
        """,
    ),
    (
        # What is known to be wrong, until it is put right. kind: 'blob' (of any repository, which
        # is 0 then), 'manifest', or 'record': a row of the table `name`, and then 0 too.
        """
        CREATE TABLE damaged (
            kind {text} NOT NULL,
            repository BIGINT NOT NULL,
            name {text} NOT NULL,
            reason {text} NOT NULL,
            since DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (kind, repository, name)
        ) {clustered}
        """,
        # How far each kind of verification got; stage '' where it has ended. position is JSON.
        """
        CREATE TABLE verifications (
            name {text} PRIMARY KEY,
            stage {text} NOT NULL,
            position {text} NOT NULL,
            began DOUBLE PRECISION NOT NULL
        )
        """,
    ),
    (
        # Who moved a tag, where somebody had to sign in for it; for the deployer, and for people.
        """
        CREATE TABLE movers (
            generation BIGINT PRIMARY KEY,
            principal {text} NOT NULL,
            may_deploy BIGINT NOT NULL
        ) {clustered}
        """,
    ),
)
