"""Everything that can go wrong with what is kept.

    StorageError
     |- Invalid                 the caller sent something that can never be right
     |   |- NameInvalid         not a repository name
     |   |- TagInvalid          not a tag
     |   |- DigestInvalid       not a digest
     |   |   |- DigestUnsupported   well formed, but of an algorithm that is not kept here
     |   |- DigestMismatch      the bytes are not those the digest names
     |   |- SizeInvalid         fewer or more bytes than were announced
     |   |- ManifestInvalid     not a manifest of a kind that can be kept
     |- Unknown                 well formed, but not here
     |   |- RepositoryUnknown  |- BlobUnknown  |- ManifestUnknown  |- UploadUnknown
     |- UploadOffset            bytes offered for another place than the end of the upload
     |- UploadsTooMany          more uploads are open, or more bytes lie in them, than may be
     |- Held                    something that runs still needs it
     |- Immutable               a tag that may not move, nor go
     |- Full                    there is no room for anything new
     |- Damaged                 what is on the disk is not what was put there
     |- LayoutUnknown           the data belongs to a newer release
     |- LayoutRefused           the data directory cannot be trusted

The message is a sentence for the person who reads it: what was wrong, and what to do.
"""

from __future__ import annotations


class StorageError(Exception):
    """The root of the tree above."""


class Invalid(StorageError):
    """Never right, however often it is sent."""


class NameInvalid(Invalid):
    """Not a repository name."""


class TagInvalid(Invalid):
    """Not a tag."""


class DigestInvalid(Invalid):
    """Not a digest."""


class DigestUnsupported(DigestInvalid):
    """A digest of an algorithm that is not kept here."""


class DigestMismatch(Invalid):
    """The bytes are not those the digest names."""


class SizeInvalid(Invalid):
    """Fewer or more bytes than were announced."""


class ManifestInvalid(Invalid):
    """Not a manifest of a kind that can be kept."""


class Unknown(StorageError):
    """Well formed, but not here."""


class RepositoryUnknown(Unknown):
    """Nothing was ever pushed under this name."""


class BlobUnknown(Unknown):
    """The repository does not hold this blob."""


class ManifestUnknown(Unknown):
    """The repository does not hold this manifest or tag."""


class UploadUnknown(Unknown):
    """No such upload in this repository: never opened, finished, cancelled or expired."""


class UploadOffset(StorageError):
    """Bytes were offered for another place than the end of the upload, or beside another writer."""

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message)
        self.size = size
        """Bytes that are kept: where the next one has to go."""


class UploadsTooMany(StorageError):
    """As many uploads are open as may be, or as many bytes lie in them. It passes."""


class Held(StorageError):
    """Something that runs still needs it; the message names what."""


class Immutable(StorageError):
    """A tag is there, and may not move nor go; the message names it and what it is."""


class Full(StorageError):
    """There is no room for anything new: what is left of the disk is kept for deletes."""


class Damaged(StorageError):
    """What is on the disk is not what was put there. Never answered with the bytes."""


class LayoutUnknown(StorageError):
    """The data directory or database was written by a newer release."""


class LayoutRefused(StorageError):
    """The data directory is not ours alone, or holds something else."""
