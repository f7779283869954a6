"""The lists of tables in the settings file: what they say, and a sentence for what they cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.config import ConfigInvalid, as_toml, load
from registry.settings import NEVER, Config
from storage.names import RepositoryName, Tag
from storage.retention import DAY, immutable
from tests.storage.test_retention import rule, scope

EXAMPLE = """
[collect]
untagged = "14d"

[[retention]]
repositories = ["acme/*"]
keep_last = 10
keep_younger = "30d"
keep_tags = ["v*", "latest"]
untagged = "36h"

[[retention]]
repositories = ["**"]
except_repositories = ["acme/**"]
tags = ["pr-*"]
except_tags = ["pr-x*"]
keep_younger = 90.5
untagged = "never"

[[retention]]
repositories = ["**"]
protect = ["stable"]

[[immutable]]
repositories = ["acme/*"]
tags = ["v*"]
except_tags = ["v*-dev"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spindle.toml"


def loaded(file: Path, text: str) -> Config:
    file.write_text(text)
    return load(file)


def test_what_the_tables_say(file: Path) -> None:
    config = loaded(file, EXAMPLE)
    assert config.retention == (
        rule(
            "acme/*",
            keep_last=10,
            keep_younger=30 * DAY,
            keep_tags="v* latest",
            untagged=1.5 * DAY,
        ),
        rule(
            "**",
            but="acme/**",
            tags="pr-*",
            except_tags="pr-x*",
            keep_younger=90.5,
            untagged=NEVER,
        ),
        rule("**", protect="stable"),
    )
    assert config.immutable == (scope("acme/*", tags="v*", except_tags="v*-dev"),)
    assert immutable(config.immutable, RepositoryName.parse("acme/shop"), Tag.parse("v1"))
    assert config.collect.untagged == 14 * DAY


def test_the_example_in_the_documentation_is_read(file: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "retention.md").read_text()
    config = loaded(file, text.partition("```toml\n")[2].partition("```")[0])
    [rule], [names] = config.retention, config.immutable
    assert (rule.keep_last, rule.keep_younger, rule.untagged) == (10, 30 * DAY, 7 * DAY)
    assert names.has(RepositoryName.parse("acme/shop"))


def test_without_tables_there_are_no_rules() -> None:
    assert (load().retention, load().immutable) == ((), ())
    assert "[[" not in as_toml(load())


def test_they_are_printed_as_they_can_be_read(file: Path, tmp_path: Path) -> None:
    config = loaded(file, EXAMPLE)
    printed = as_toml(config)
    assert loaded(tmp_path / "printed.toml", printed) == config
    assert 'keep_younger = "30d"' in printed
    assert 'untagged = "36h"' in printed


RETENTION = '[[retention]]\nrepositories = ["**"]\n'
IMMUTABLE = '[[immutable]]\nrepositories = ["**"]\n'


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        (RETENTION, "retention[0]", "nothing to keep"),
        ("[[retention]]\nkeep_last = 1", "retention[0]", "names no repositories"),
        (RETENTION + 'tags = ["a"]\nprotect = ["b"]', "retention[0]", "looks at no tag"),
        (RETENTION + "keep_last = 1\nkeep_lats = 2", "retention[0].keep_lats", "mean keep_last"),
        (RETENTION + "keep_last = 0", "retention[0].keep_last", "1 or more"),
        (RETENTION + "keep_last = true", "retention[0].keep_last", "whole number"),
        (RETENTION + 'keep_last = "10"', "retention[0].keep_last", "whole number"),
        (RETENTION + 'keep_younger = "30 moons"', "retention[0].keep_younger", "could not"),
        (RETENTION + 'keep_younger = "never"', "retention[0].keep_younger", "leave the rule out"),
        (RETENTION + "keep_younger = true", "retention[0].keep_younger", "takes a time"),
        (RETENTION + 'keep_tags = "v*"', "retention[0].keep_tags", "list of patterns"),
        (RETENTION + "keep_tags = [1]", "retention[0].keep_tags", "list of patterns"),
        (RETENTION + "keep_tags = []", "retention[0].keep_tags", "is empty"),
        (RETENTION + 'keep_tags = ["v["]', "retention[0].keep_tags", "no pattern of tags"),
        (RETENTION + "keep_last = 1\n" + RETENTION, "retention[1]", "nothing to keep"),
        ('[retention]\nrepositories = ["a"]', "retention", r"write \[\[retention\]\]"),
        ("retention = 1", "retention", "takes tables"),
        ("retention = [1]", "retention", "takes tables"),
        ('[[immutable]]\ntags = ["*"]', "immutable[0]", "names no repositories"),
        (IMMUTABLE, "immutable[0]", "names no tags"),
        (IMMUTABLE + 'tags = ["*"]\nkeep_last = 1', "immutable[0].keep_last", "it takes"),
        ('[[immutable]]\nrepositories = ["A"]', "immutable[0].repositories", "no pattern"),
        ("[[retentoin]]\nkeep_last = 1", "retentoin", "did you mean retention"),
    ],
)
def test_what_cannot_be_is_told_by_table_and_key(
    file: Path, text: str, name: str, reason: str
) -> None:
    with pytest.raises(ConfigInvalid, match=reason) as caught:
        loaded(file, text)

    assert caught.value.name == name


def test_they_are_no_settings_for_a_flag() -> None:
    with pytest.raises(ConfigInvalid, match="set in a file"):
        load(flags={"retention.keep_last": "10"})
