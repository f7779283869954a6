"""The effective settings: a TOML file < the environment < flags.

Every setting has one dotted name, such as `gateway.listen`; in the environment it is
SPINDLE_GATEWAY_LISTEN. Rules, such as `[[retention]]`, are lists of tables and in the file alone.
An unknown name or a bad value stops the start and says which and why.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from registry.rules import KINDS, RuleInvalid
from registry.settings import (
    ENVIRONMENT_PREFIX,
    NEVER,
    SETTINGS,
    Config,
    Count,
    Rate,
    Seconds,
    TLSSettings,
)

TLS_FILES = ("certificate", "key", "client_authorities", "gateway_certificate", "gateway_key")
# Read by the command line.
NOT_SETTINGS = frozenset({"SPINDLE_CONFIG", "SPINDLE_SERVER", "SPINDLE_TOKEN"})


class ConfigInvalid(Exception):
    """`name` is the dotted name of the setting, or where an unknown one was found."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Config:
    """The effective settings. `flags` are by dotted name. Raises ConfigInvalid."""
    tree = {} if file is None else _read(file)
    rules = _rules(tree)
    texts = dict(_flatten(tree, ""))
    texts |= _from_environment(environment or {})
    for name, text in (flags or {}).items():
        texts[_known(name)] = text
    config: Config = dataclasses.replace(_build(Config, "", texts), **rules)
    safe = config.auth.enabled or config.registry.open
    if not (config.registry.listen.loopback or safe):
        raise ConfigInvalid(
            "registry.listen",
            f"{config.registry.listen} can be reached from outside, and whoever reaches it may"
            " push and delete; set auth.enabled = true so that they have to sign in, or listen on"
            " 127.0.0.1, or set registry.open = true if you want that",
        )
    _check_tls(config.tls)
    return config


def _check_tls(settings: TLSSettings) -> None:
    """One of these files means nothing without another; a path that is not given is empty."""
    given = {name for name in TLS_FILES if getattr(settings, name) != Path()}
    for one, other in (("certificate", "key"), ("gateway_certificate", "gateway_key")):
        for missing, there in ((one, other), (other, one)):
            if there in given and missing not in given:
                raise ConfigInvalid(f"tls.{missing}", f"is missing beside tls.{there}")
    if "client_authorities" in given and "certificate" not in given:
        raise ConfigInvalid(
            "tls.certificate", "is missing; only over TLS can clients show certificates"
        )
    if settings.client_required and "client_authorities" not in given:
        raise ConfigInvalid(
            "tls.client_authorities", "is missing; tls.client_required lets nobody in without it"
        )


def as_toml(config: Config) -> str:
    """The settings as a file that `load` reads, each with what it is for."""
    lines: list[str] = []
    section = ""
    for setting in SETTINGS.values():
        value: Any = config
        for part in setting.name.split("."):
            value = getattr(value, part)
        head, _, key = setting.name.rpartition(".")
        if head != section:
            lines += ["", f"[{head}]"]
            section = head
        plain = isinstance(value, bool | Count | Rate | Seconds) and value != NEVER
        shown = str(value).lower() if plain else _quoted(str(value))
        lines.append(f"{key} = {shown}  # {setting.help}")
    for kind in KINDS.values():
        for table in getattr(config, kind.name):
            lines += ["", *kind.write(table)]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _build(section: Any, prefix: str, texts: Mapping[str, str]) -> Any:
    values: dict[str, Any] = {}
    hints = get_type_hints(section)
    for row in dataclasses.fields(section):
        name = f"{prefix}{row.name}"
        if name in texts:
            try:
                values[row.name] = SETTINGS[name].parse(texts[name])
            except ValueError as error:
                raise ConfigInvalid(name, str(error)) from None
        elif name not in SETTINGS and name not in KINDS:
            values[row.name] = _build(hints[row.name], f"{name}.", texts)
    return section(**values)


def _known(name: str) -> str:
    if name.partition(".")[0] in KINDS:
        raise ConfigInvalid(name, "is set in a file, by tables: see --config")
    if name not in SETTINGS:
        close = difflib.get_close_matches(name, [*SETTINGS, *KINDS], n=1)
        hint = f"did you mean {close[0]}?" if close else "`spindle config` lists them all"
        raise ConfigInvalid(name, f"there is no such setting; {hint}")
    return name


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigInvalid(str(file), f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # TOML, or not UTF-8
        raise ConfigInvalid(str(file), f"is not TOML: {error}") from None


def _rules(tree: dict[str, Any]) -> dict[str, Any]:
    """Take the lists of tables out of a file's content."""
    try:
        return {name: kind.read(tree.pop(name, [])) for name, kind in KINDS.items()}
    except RuleInvalid as error:
        raise ConfigInvalid(error.name, error.reason) from None


def _flatten(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            if not any(known.startswith(f"{name}.") for known in SETTINGS):
                _known(name)
            yield from _flatten(value, f"{name}.")
        elif isinstance(value, str | int | float):
            yield _known(name), str(value)
        else:
            raise ConfigInvalid(_known(name), "takes one value, not a list or a date")


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    by_variable = {setting.variable: setting.name for setting in SETTINGS.values()}
    found: dict[str, str] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        if variable not in by_variable:
            close = difflib.get_close_matches(variable, by_variable, n=1)
            hint = f"did you mean {close[0]}?" if close else "`spindle config` lists the settings"
            raise ConfigInvalid(variable, f"no setting has this variable; {hint}")
        found[by_variable[variable]] = text
    return found
