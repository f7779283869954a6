"""Settings: a file < the environment < flags, and a sentence for everything that cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from registry.config import ConfigInvalid, as_toml, load
from registry.settings import SETTINGS, Bytes, Listen


def test_the_defaults_are_on_loopback() -> None:
    config = load()

    assert str(config.registry.listen) == "127.0.0.1:5000"
    assert str(config.gateway.listen) == "127.0.0.1:5080"


def test_flags_override_the_environment_and_that_the_file(tmp_path: Path) -> None:
    file = tmp_path / "spindle.toml"
    file.write_text('data = "file"\n[gateway]\ndomain = "file.test"\nlisten = "127.0.0.1:1"\n')
    environment = {"SPINDLE_GATEWAY_DOMAIN": "env.test", "SPINDLE_GATEWAY_LISTEN": "127.0.0.1:2"}

    config = load(file, environment, {"gateway.listen": "127.0.0.1:3"})

    assert config.data == Path("file")
    assert config.gateway.domain == "env.test"
    assert config.gateway.listen == Listen("127.0.0.1", 3)


def test_the_printed_settings_are_a_file_that_says_the_same(tmp_path: Path) -> None:
    config = load(flags={"data": 'odd "name" \\ here', "limits.manifest": "5MiB"})
    file = tmp_path / "printed.toml"
    file.write_text(as_toml(config))

    assert load(file) == config


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().data = Path("elsewhere")  # type: ignore[misc]  # that it cannot be is the point


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_set_by_its_variable(name: str) -> None:
    setting = SETTINGS[name]
    default = str(setting.default).lower() if setting.default in (True, False) else setting.default

    assert load(environment={setting.variable: str(default)}) == load()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        pytest.param({"gateway.listen": "5080"}, "not HOST:PORT", id="no host"),
        pytest.param({"gateway.listen": "127.0.0.1:99999"}, "not HOST:PORT", id="port too large"),
        pytest.param({"limits.manifest": "4 MB"}, "not a size", id="unknown unit"),
        pytest.param({"limits.manifest": "-1"}, "not a size", id="negative size"),
        pytest.param({"registry.workers": "0"}, "1 or more", id="no worker"),
        pytest.param({"deploy.health_timeout": "0"}, "above 0", id="no time"),
        pytest.param({"deploy.health_timeout": "nan"}, "above 0", id="not a number"),
        pytest.param({"deploy.health_timeout": "soon"}, "could not convert", id="a word"),
        pytest.param({"deploy.health_timeout": "1.2.3d"}, "could not convert", id="two points"),
        pytest.param({"deploy.health_timeout": "3m"}, "could not convert", id="minutes or months"),
        pytest.param({"deploy.enabled": "maybe"}, "neither true nor false", id="not a flag"),
        pytest.param({"gateway.domain": "Apps.Example"}, "lower case", id="capitals in a domain"),
        pytest.param({"gateway.domain": "a..b"}, "not a domain", id="empty label"),
        pytest.param({"connections.exempt": "10.0.0.1/8"}, "give networks", id="no network"),
        pytest.param({"connections.exempt": "nowhere"}, "give networks", id="a name"),
        pytest.param({"log.level": "loud"}, "none of", id="unknown level"),
    ],
)
def test_a_bad_value_names_the_setting_and_the_reason(flags: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigInvalid, match=reason) as caught:
        load(flags=flags)

    assert caught.value.name in flags


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[gatway]\nlisten = '127.0.0.1:1'", "gatway"),
        ("[gateway]\nlisen = '127.0.0.1:1'", "gateway.lisen"),
        ("dta = 'x'", "dta"),
        ("[gateway]\nlisten = ['127.0.0.1:1']", "gateway.listen"),
    ],
)
def test_an_unknown_key_in_the_file_stops_the_start(text: str, name: str, tmp_path: Path) -> None:
    file = tmp_path / "spindle.toml"
    file.write_text(text)

    with pytest.raises(ConfigInvalid) as caught:
        load(file)

    assert caught.value.name == name


def test_an_unknown_variable_stops_the_start_and_the_near_one_is_named() -> None:
    with pytest.raises(ConfigInvalid, match="did you mean SPINDLE_GATEWAY_LISTEN"):
        load(environment={"SPINDLE_GATWAY_LISTEN": "127.0.0.1:1"})


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[")

    with pytest.raises(ConfigInvalid, match="is not TOML"):
        load(broken)
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load(tmp_path / "missing.toml")


@pytest.mark.parametrize("listen", ["0.0.0.0:5000", "192.0.2.1:5000", "[::]:5000", "example:1"])
def test_an_open_registry_does_not_listen_to_the_world_unasked(listen: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"registry\.open = true"):
        load(flags={"registry.listen": listen})

    assert load(flags={"registry.listen": listen, "registry.open": "true"}).registry.open
    with pytest.raises(ConfigInvalid, match=r"auth\.enabled = true"):
        load(flags={"registry.listen": listen, "auth.enabled": "false"})
    assert load(flags={"registry.listen": listen, "auth.enabled": "true"}).auth.enabled


def test_sizes_read_as_they_are_written() -> None:
    assert [str(Bytes.parse(text)) for text in ("4MiB", "1GiB", "1500", "0")] == [
        *("4MiB", "1GiB", "1500", "0")
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5s", 1.5), ("5min", 300), ("12h", 43_200), ("7d", 604_800)],
)
def test_times_are_seconds_or_have_a_unit(text: str, seconds: float) -> None:
    assert load(flags={"collect.untagged": text}).collect.untagged == seconds


def test_long_times_are_printed_to_the_last_second(tmp_path: Path) -> None:
    config = load(flags={"collect.untagged": "1234567"})
    file = tmp_path / "printed.toml"
    file.write_text(as_toml(config))

    assert load(file) == config
