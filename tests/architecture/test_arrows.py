"""Which room may know which: read from the sources, so that a shortcut is seen when it is made."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("storage", "registry")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Values and choices: nothing that waits, looks at a clock, or touches a disk.
PURE = (
    *("storage.digest", "storage.names", "storage.document", "storage.descriptor"),
    *("storage.manifest", "storage.errors", "storage.patterns", "storage.retention"),
    *("registry.deploy.spin", "registry.deploy.apps", "registry.deploy.rollout"),
    *("registry.auth.scope", "registry.auth.identity", "registry.auth.who", "storage.chain"),
    "registry.auth.wildcard",
    *("registry.auth.places", "registry.auth.reading", "registry.auth.policy"),
    *("registry.auth.users", "registry.auth.required", "registry.auth.authority"),
    *("registry.auth.resources", "registry.auth.jws", "registry.auth.fingerprint"),
    *("registry.addresses", "registry.auth.destination", "registry.auth.jwks"),
)
WORLD = {"os", "asyncio", "sqlite3", "pathlib", "time", "threading", "socket", "subprocess"}

# The rooms that know every room.
ROOTS = ("registry.app", "registry.cli", "registry.server", "registry.commands")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SOURCES}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


@cache
def imports(module: str) -> frozenset[str]:
    """The modules that a module names in its imports, also in functions and for types."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = ".".join(filter(None, [*_above(module, node.level), node.module]))
            inner = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else source for name in inner}
    return frozenset(found)


def _above(module: str, level: int) -> list[str]:
    """What the dots of a relative import stand for."""
    if not level:
        return []
    parts = module.split(".")
    up = level - (MODULES[module].name == "__init__.py")
    return parts[: len(parts) - up]


def reached(module: str, seen: set[str] | None = None) -> set[str]:
    """The modules that come with a module: its imports, and those of ours among them."""
    seen = set() if seen is None else seen
    for name in imports(module) - seen:
        seen.add(name)
        if name in MODULES:
            reached(name, seen)
    return seen


def within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def test_there_is_something_to_look_at() -> None:
    assert {"storage.store", "registry"} <= MODULES.keys()
    assert "storage.errors" in imports("storage.names")
    assert "asyncio" in reached("storage.store")


@pytest.mark.parametrize("module", [name for name in MODULES if within(name, ("storage",))])
def test_storage_knows_nothing_of_the_registry(module: str) -> None:
    assert not [name for name in imports(module) if within(name, ("registry",))]


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_reach_no_clock_no_loop_and_no_disk(module: str) -> None:
    assert {name.partition(".")[0] for name in reached(module)} & WORLD == set()


@pytest.mark.parametrize(
    "module",
    [
        name
        for name in MODULES
        if within(name, ("registry",)) and not within(name, (*ROOTS, "registry.deploy"))
    ],
)
def test_protocol_handlers_know_nothing_of_deployment(module: str) -> None:
    """They only say that a tag moved."""
    assert not [name for name in imports(module) if within(name, ("registry.deploy",))]


@pytest.mark.parametrize("module", MODULES)
def test_only_the_roots_know_the_drivers(module: str) -> None:
    """Who holds a Store cannot tell what it is kept in."""
    drivers = ("storage.filesystem.blobs", "storage.memory", "storage.records.sqlite")
    if not within(module, (*ROOTS, *drivers)):
        assert not [name for name in imports(module) if within(name, drivers)]


def names(module: str) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("module", [name for name in MODULES if within(name, ("storage",))])
def test_only_durable_makes_things_last(module: str) -> None:
    if module not in ("storage.filesystem.durable", "storage.filesystem.calls"):
        lasting = {"fsync", "fdatasync", "sync", "rename", "renames", "link", "replace_file"}
        called = {
            node.attr
            for node in ast.walk(tree(module))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("os", "shutil", "posix", "calls")
        }
        assert called & (lasting | {"replace", "move"}) == set()
        assert set(names(module)) & {"fsync", "fdatasync"} == set()


@pytest.mark.parametrize(
    "module", [name for name in MODULES if within(name, ("storage.filesystem",))]
)
def test_the_disk_is_touched_through_the_seam(module: str) -> None:
    """So that a fault can be put at every call, and none is forgotten."""
    if module != "storage.filesystem.calls":
        past = {
            node.func.attr
            for node in ast.walk(tree(module))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in ("os", "shutil", "fcntl")
        }
        assert past <= {"geteuid"}


def texts(module: str) -> Iterator[str]:
    """Every piece of text that is not a docstring."""
    docstrings = [node.value for node in ast.walk(tree(module)) if isinstance(node, ast.Expr)]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Constant) and node not in docstrings:
            yield str(node.value)


@pytest.mark.parametrize(
    "module", [name for name in MODULES if within(name, ("storage.filesystem",))]
)
def test_only_layout_spells_paths(module: str) -> None:
    """Others get finished paths as text: no Path, no division, no slash in any text.

    What lies elsewhere than in a data directory has a module of its own.
    """
    elsewhere = ("storage.filesystem.backups", "storage.filesystem.imagelayout")
    if module not in ("storage.filesystem.layout", *elsewhere):
        assert "pathlib" not in imports(module)
        assert {"join", "joinpath", "Path", "fspath"} & set(names(module)) == set()
        assert not [node for node in ast.walk(tree(module)) if isinstance(node, ast.Div)]
        assert [text for text in texts(module) if "/" in text] == []
