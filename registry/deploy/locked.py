"""The locked app: what Spin writes about an application, as far as deploying it needs.

Spin ignores unknown fields, refuses unknown entries of `must_understand`, and refuses unknown keys
of an http trigger; so do we.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from registry.deploy.apps import variable_name
from registry.deploy.refusal import REBUILD, NotRunnable, list_of, listed, object_of, refuse
from registry.deploy.triggers import check_base, check_http
from storage.digest import Digest
from storage.document import Object, parse_object
from storage.errors import DigestInvalid, ManifestInvalid

LOCKED_APP_LIMIT = 8 << 20  # bytes; an app of 10,000 files with inlined ones has about 2 MiB
FILES_LIMIT = 10_000
COMPONENTS_LIMIT = 200
PATH_LENGTH = 1024  # bytes; leaves room for the staging directory below PATH_MAX
SEGMENT_LENGTH = 255  # bytes; NAME_MAX
DEPTH = 32

_UNDERSTOOD = frozenset({"host_requirements", "component_host_requirements"})


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that are in the locked app (`inline`) or in a layer (`digest`); one or both."""

    digest: Digest | None
    inline: bytes | None


@dataclass(frozen=True, slots=True)
class File:
    path: str
    """Relative, of normal segments only."""
    content: Content


@dataclass(frozen=True, slots=True)
class Component:
    id: str
    source: Content
    files: tuple[File, ...]
    dependencies: Mapping[str, Content]
    """Left uncomposed by the push."""


@dataclass(frozen=True, slots=True)
class Variable:
    default: str | None
    """None: it is required."""
    secret: bool


@dataclass(frozen=True, slots=True)
class LockedApp:
    """Only made by `parse`, so consistent in itself."""

    document: Object
    """All of it, also what is not understood here; not to be changed."""
    name: str
    version: str | None
    variables: Mapping[str, Variable]
    components: tuple[Component, ...]
    requirements: Mapping[str, str]
    """What the host must have, each with who asks for it. Optional ones are left out."""

    @staticmethod
    def parse(data: bytes) -> LockedApp:
        """Raises NotRunnable."""
        if len(data) > LOCKED_APP_LIMIT:
            raise NotRunnable(
                f"the locked app has {len(data)} bytes, and the limit is {LOCKED_APP_LIMIT};"
                " push fewer files"
            )
        try:
            document = parse_object(data, what="the locked app")
        except ManifestInvalid as error:
            raise NotRunnable(f"{error}; {REBUILD}") from None
        return _Reader(document).read()

    def missing(self, given: Mapping[str, str]) -> list[str]:
        """Required variables that have no value yet, sorted."""
        return sorted(
            name
            for name, variable in self.variables.items()
            if variable.default is None and name not in given
        )


def values(document: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """The values of a locked app's variables, defaults filled in; what else is given stays out."""
    return {
        name: given.get(name, variable.default or "")
        for name, variable in _variables(dict(document))
    }


class _Reader:
    def __init__(self, document: Object) -> None:
        self._document = document
        self._requirements: dict[str, str] = {}
        self._files = 0

    def read(self) -> LockedApp:
        document = self._document
        self._read_version()
        metadata = object_of(document, "metadata", "the locked app")
        name = metadata.get("name")
        if (
            not isinstance(name, str)
            or not (name.strip() and name.isprintable())
            or len(name) > 255
        ):
            refuse("the locked app has no metadata.name of 1 to 255 printable characters")
        version = metadata.get("version")
        self._read_requirements(document, "the application")
        components = self._read_components()
        self._read_triggers(metadata, {component.id for component in components})
        return LockedApp(
            document=document,
            name=name,
            version=version if isinstance(version, str) else None,
            variables=MappingProxyType(dict(_variables(document))),
            components=components,
            requirements=MappingProxyType(self._requirements),
        )

    def _read_version(self) -> None:
        version = self._document.get("spin_lock_version")
        if type(version) is not int:
            refuse("the application layer holds no locked app: it has no spin_lock_version")
        if version not in (0, 1):
            raise NotRunnable(
                f"the locked app has spin_lock_version {version}, and this release reads 0 and 1;"
                " push it with an older Spin, or upgrade Spindle"
            )
        unknown = [
            str(entry)
            for entry in list_of(self._document, "must_understand", "the locked app")
            if not isinstance(entry, str) or entry not in _UNDERSTOOD
        ]
        if unknown:
            raise NotRunnable(
                f"the locked app must be understood in {listed(unknown)}, which this release does"
                " not know; push it with an older Spin, or upgrade Spindle"
            )

    def _read_requirements(self, value: Object, who: str) -> None:
        for name, need in object_of(value, "host_requirements", who).items():
            if need not in ("required", "optional"):
                refuse(f"{who} has a host requirement {name!r} that is {need!r}")
            if need == "required":
                self._requirements.setdefault(name, who)

    def _read_components(self) -> tuple[Component, ...]:
        entries = list_of(self._document, "components", "the locked app")
        if "components" not in self._document:
            refuse("the locked app has no list of components")
        if len(entries) > COMPONENTS_LIMIT:
            raise NotRunnable(
                f"the application has {len(entries)} components, and the limit is"
                f" {COMPONENTS_LIMIT}; split it into several applications"
            )
        components: dict[str, Component] = {}
        for value in entries:
            component = self._read_component(value)
            if component.id in components:
                refuse(f"two components are called {component.id!r}")
            components[component.id] = component
        return tuple(components.values())

    def _read_component(self, value: Any) -> Component:
        if not isinstance(value, dict):
            refuse("an entry of components is not an object")
        id = value.get("id")
        if not isinstance(id, str) or not id or len(id) > 255:
            refuse("a component has no id of 1 to 255 characters")
        who = f"component {id!r}"
        self._read_requirements(value, who)
        if value.get("trigger_dependencies"):
            self._requirements.setdefault("middleware", who)
        entries = list_of(value, "files", who)
        self._files += len(entries)
        if self._files > FILES_LIMIT:
            raise NotRunnable(
                f"the application has more than {FILES_LIMIT} files, which is the limit; put them"
                " into fewer ones"
            )
        files = tuple(_file(entry, f"a file of {who}") for entry in entries)
        _check_tree([file.path for file in files], who)
        source = _content(object_of(value, "source", who), f"the source of {who}")
        for key in ("env", "config"):
            if not all(_is_text(text) for text in object_of(value, key, who).values()):
                refuse(f"{key} of {who} does not map names to texts")
        return Component(id, source, files, MappingProxyType(dict(_dependencies(value, who))))

    def _read_triggers(self, metadata: Object, components: set[str]) -> None:
        triggers = list_of(self._document, "triggers", "the locked app")
        if not triggers:
            raise NotRunnable(
                "the application has no trigger, so no request would reach it; add a"
                " [[trigger.http]] to spin.toml"
            )
        if not all(isinstance(trigger, dict) for trigger in triggers):
            refuse("an entry of triggers is not an object")
        others = [
            f"{trigger.get('trigger_type')} ({trigger.get('id')})"
            for trigger in triggers
            if trigger.get("trigger_type") != "http"
        ]
        if others:
            raise NotRunnable(
                f"only http triggers run here, and the application has others: {listed(others)};"
                " keep only [[trigger.http]] in spin.toml and push it again"
            )
        check_base(metadata)
        for trigger in triggers:
            who = f"trigger {trigger.get('id')!r}"
            if trigger.get("trigger_dependencies"):
                self._requirements.setdefault("middleware", who)
            check_http(object_of(trigger, "trigger_config", who), who, components)


def _dependencies(component: Object, who: str) -> Iterator[tuple[str, Content]]:
    for name, value in object_of(component, "dependencies", who).items():
        what = f"the dependency {name!r} of {who}"
        if not isinstance(value, dict):
            refuse(f"{what} is not an object")
        yield name, _content(object_of(value, "source", what), what)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _variables(document: Object) -> Iterator[tuple[str, Variable]]:
    for name, value in object_of(document, "variables", "the locked app").items():
        if not variable_name(name) or not isinstance(value, dict):
            refuse(f"{name!r} is not a variable: names are lower-case letters, digits and '_'")
        default = value.get("default")
        if default is not None and not _is_text(default):
            refuse(f"the default of variable {name!r} is not text")
        yield name, Variable(default, value.get("secret") is True)


def _file(value: Any, who: str) -> File:
    if not isinstance(value, dict):
        refuse(f"{who} is not an object")
    path = value.get("path")
    if not isinstance(path, str):
        refuse(f"{who} has no path")
    encoded = path.encode()
    segments = path.split("/")
    if "\\" in path or "\0" in path or any(segment in ("", ".", "..") for segment in segments):
        raise NotRunnable(
            f"{who} has the path {path[:120]!r}; a path is relative, with '/' between its names"
            " and no '.', '..' or empty ones; correct `files` in spin.toml and push it again"
        )
    longest = max(len(segment.encode()) for segment in segments)
    if longest > SEGMENT_LENGTH:
        raise NotRunnable(
            f"{who} has the path {path[:120]!r} with a name of {longest} bytes, and the limit is"
            f" {SEGMENT_LENGTH}; shorten it and push it again"
        )
    if len(encoded) > PATH_LENGTH or len(segments) > DEPTH:
        raise NotRunnable(
            f"{who} has a path of {len(encoded)} bytes and {len(segments)} names, and the limits"
            f" are {PATH_LENGTH} and {DEPTH}; shorten it and push it again"
        )
    return File(path, _content(value, f"the file {path!r}"))


def _check_tree(paths: list[str], who: str) -> None:
    """No path twice, and no file where another path needs a directory."""
    files = set(paths)
    if len(files) != len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        refuse(f"{who} has the file {twice!r} twice")
    for path in paths:
        parent = path
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            if parent in files:
                refuse(f"{who} has a file {parent!r} where {path!r} needs a directory")


def _content(value: Object, who: str) -> Content:
    if value.get("source") is not None:
        refuse(f"{who} is named by a URL and was not pushed")
    inline, text = None, value.get("inline")
    if text is not None:
        inline = _unpadded(text, who)
    digest, text = None, value.get("digest")
    if text is not None:
        try:
            digest = Digest.parse(text if isinstance(text, str) else "")
        except DigestInvalid as error:
            refuse(f"{who} has a digest that cannot be used: {error}")
    if digest is None and inline is None:
        refuse(f"{who} has neither a digest nor inline content")
    if digest is not None and inline is not None and digest.algorithm.digest(inline) != digest:
        refuse(f"{who} has inline content that is not what its digest names")
    return Content(digest, inline)


def _unpadded(text: Any, who: str) -> bytes:
    """Standard base64 without padding, as Spin writes it."""
    try:
        if not isinstance(text, str) or not _BASE64.fullmatch(text):
            raise ValueError
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        refuse(f"{who} has inline content that is not base64 without padding")
    return decoded


_BASE64 = re.compile(r"[A-Za-z0-9+/]*", re.ASCII)
