"""Where the policy file is, and what it says now."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from registry.auth.policy import Policy, PolicyInvalid
from registry.auth.watch import Watched, read
from registry.settings import AuthSettings, Config
from storage.filesystem.layout import Layout


def path(config: Config) -> Path:
    if _named(config):
        return config.auth.policy
    return Layout(Path(os.path.abspath(config.data))).policy


def load(config: Config) -> Policy:
    """Read once. Policy.DEFAULT if no file is named and there is none; else as `load_file`."""
    file = path(config)
    return load_file(file) if _named(config) or os.path.lexists(file) else Policy.DEFAULT


def load_file(file: Path) -> Policy:
    """Raises PolicyInvalid, watch.FileRefused."""
    return _parse(file, read(file))


def watch(config: Config) -> Watched[Policy]:
    """Policy.DEFAULT as long as no file is named and there is none.

    Raises PolicyInvalid, watch.FileRefused.
    """
    file = path(config)
    return Watched(file, partial(_parse, file), absent=None if _named(config) else Policy.DEFAULT)


def _named(config: Config) -> bool:
    return config.auth.policy != AuthSettings().policy


def _parse(file: Path, content: bytes) -> Policy:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PolicyInvalid(f"{file}, line {line}: this is not UTF-8") from None
    return Policy.parse(text, str(file))
