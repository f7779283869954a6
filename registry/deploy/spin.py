"""Is this manifest a Spin application, and can it run here? Pure; the edge fetches the blobs.

The marker is a layer, or in Spin up to 1.5 the config, of one media type. Nothing else counts: not
annotations, not `architecture`, not the type of the Wasm layers, which others use too.
"""

from __future__ import annotations

import difflib
from collections.abc import Set
from typing import Final

from registry.deploy.locked import (
    LOCKED_APP_LIMIT,
    Component,
    Content,
    File,
    LockedApp,
    Variable,
)
from registry.deploy.refusal import REBUILD, NotRunnable
from storage.descriptor import Descriptor
from storage.digest import Digest
from storage.document import parse_object
from storage.errors import ManifestInvalid
from storage.manifest import IMAGES, Manifest
from storage.names import RepositoryName

__all__ = [
    "Component",
    "Content",
    "File",
    "LockedApp",
    "NotRunnable",
    "Variable",
    "check",
    "check_name",
    "check_variables",
    "config_label",
    "recognise",
]

SPIN_APP: Final = "application/vnd.fermyon.spin.application.v1+config"
ARCHIVE: Final = "application/vnd.wasm.content.bundle.v1.tar+gzip"
IMAGE_CONFIGS: Final = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
CONFIG_LIMIT = 1 << 20  # bytes; Spin writes about 200
LAYERS_LIMIT = 2000  # Spin writes 500 at most
LABEL: Final = "com.fermyon.spin.lockedAppDigest"


def recognise(manifest: Manifest) -> Descriptor | None:
    """Where the locked app is; None when this is no Spin application.

    Raises NotRunnable for one that is, but not unambiguously or beyond all limits.
    """
    if manifest.media_type not in IMAGES or manifest.config is None:
        return None
    marked = [layer for layer in manifest.layers if layer.media_type == SPIN_APP]
    if len(marked) > 1:  # Spin itself takes the one that it has downloaded last
        raise NotRunnable(
            f"the manifest has {len(marked)} application layers, so nobody can tell which one"
            f" counts; {REBUILD}"
        )
    if not marked and manifest.config.media_type != SPIN_APP:
        return None
    candidate = marked[0] if marked else manifest.config
    if candidate.size > LOCKED_APP_LIMIT:
        raise NotRunnable(
            f"the locked app has {candidate.size} bytes, and the limit is {LOCKED_APP_LIMIT};"
            " push fewer files"
        )
    if len(manifest.layers) > LAYERS_LIMIT:
        raise NotRunnable(
            f"the manifest has {len(manifest.layers)} layers, and the limit is {LAYERS_LIMIT};"
            " push the files as archives (SPIN_OCI_ARCHIVE_LAYERS=1)"
        )
    if candidate.digest is None:
        raise NotRunnable(
            f"the application layer has a digest of an algorithm not kept here; {REBUILD}"
        )
    return candidate


def config_label(manifest: Manifest) -> Descriptor | None:
    """The config, where it is one that may carry a label with the digest of the locked app."""
    config = manifest.config
    if config is None or config.media_type not in IMAGE_CONFIGS:
        return None
    if config.digest is None:
        raise NotRunnable(f"the config has a digest of an algorithm not kept here; {REBUILD}")
    if config.size > CONFIG_LIMIT:
        raise NotRunnable(
            f"the config has {config.size} bytes, and the limit is {CONFIG_LIMIT}; {REBUILD}"
        )
    return config


def check(
    app: LockedApp,
    manifest: Manifest,
    *,
    config: bytes | None = None,
    met: Set[str] = frozenset(),
) -> None:
    """Hold the locked app against the manifest and against what the host can do.

    `config` is the blob that `config_label` names, `met` are the host requirements that the runtime
    meets. Raises NotRunnable.
    """
    marker = recognise(manifest)
    if config is not None and marker is not None and marker.digest is not None:
        _check_label(config, marker.digest)
    for requirement, who in app.requirements.items():
        if requirement not in met:
            raise NotRunnable(
                f"{who} requires {requirement!r} of its host, which the runtime here does not"
                " offer; remove that use and push it again, or use another runtime"
            )
    layers = {layer.digest for layer in manifest.layers}
    archived = any(layer.media_type == ARCHIVE for layer in manifest.layers)
    for component in app.components:
        contents = [("its source", component.source)]
        contents += [(f"its dependency {name!r}", c) for name, c in component.dependencies.items()]
        for what, content in contents:
            if content.inline is None and content.digest not in layers:
                raise NotRunnable(
                    f"component {component.id!r}: {what} is {content.digest}, which is no layer of"
                    f" the manifest; {REBUILD}"
                )
        for file in component.files:
            present = file.content.inline is not None or file.content.digest in layers
            if not present and not archived:
                raise NotRunnable(
                    f"component {component.id!r}: the file {file.path!r} is"
                    f" {file.content.digest}, which is no layer of the manifest; {REBUILD}"
                )


def check_name(app: LockedApp, name: str | None, repository: RepositoryName) -> None:
    """Nobody pushes another application over one by mistake. Raises NotRunnable."""
    if name is not None and app.name != name:
        raise NotRunnable(
            f"{repository} holds the application {name!r}, and {app.name!r} was pushed; push it to"
            " a repository of its own, or give it the old name in spin.toml"
        )


def check_variables(app: LockedApp, given: Set[str], repository: RepositoryName) -> None:
    """Every required variable has a value. Raises NotRunnable."""
    missing = app.missing(dict.fromkeys(given, ""))
    if not missing:
        return
    one = len(missing) == 1
    settings = " ".join(f"{name}=VALUE" for name in missing)
    close = {
        name: found[0]
        for name in missing
        if (found := difflib.get_close_matches(name, given - app.variables.keys(), n=1))
    }
    hint = "".join(f" ({near!r} is set, but not {name!r})" for name, near in close.items())
    raise NotRunnable(
        f"the required variable{'' if one else 's'} {', '.join(missing)}"
        f" {'has' if one else 'have'} no value{hint}; run `spindle apps set {repository}"
        f" {settings}`, and it is deployed again by itself"
    )


def _check_label(config: bytes, digest: Digest) -> None:
    """Spin has written the locked app's digest into the config since 2.3.1."""
    try:
        content = parse_object(config, what="the config")
    except ManifestInvalid as error:
        raise NotRunnable(f"{error}; {REBUILD}") from None
    section = content.get("config")
    labels = section.get("Labels") if isinstance(section, dict) else None
    label = labels.get(LABEL) if isinstance(labels, dict) else None
    if label is not None and label != digest.text:
        raise NotRunnable(
            f"the label {LABEL} in the config is {str(label)[:80]!r}, but the application layer is"
            f" {digest}; {REBUILD}"
        )
