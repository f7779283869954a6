"""Lines of keys: whatever a string or a comment pretends to be, nothing is counted wrongly."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth import places
from tests.storage.content import patient

TRICKY = "\n".join(
    [
        "# [[allow]]",
        "[groups]  # [[allow]]",
        """a = ["x]", '[[allow]]', \"\"\" """,
        "[[allow]]",
        r'''\"""" ]''',
        '"b.c" = ["""x""""", """[[allow]]"""", "["]',
        "",
        "  [[ allow ]]  # the first",
        'who = ["a#b", # = [[',
        "  '''  # a text over lines",
        "[[allow]]",
        "who = [''''',",
        r'  "\\", "\"[[allow]]",',
        "]",
        """claims = { x = "}", 'y = z' = "1" }""",
        '[["allow"]]',
        "'who' = []",
        'claims . issuer = "x"',
        "[accounts]",
        "acme = []",
    ]
)


def test_strings_and_comments_hide_what_is_in_them() -> None:
    tree = tomllib.loads(TRICKY)
    assert len(tree["allow"]) == 2
    assert places.lines(TRICKY) == {
        ("groups",): 2,
        ("groups", "a"): 3,
        ("groups", "b.c"): 6,
        ("allow", 0): 8,
        ("allow", 0, "who"): 9,
        ("allow", 0, "claims"): 15,
        ("allow", 1): 16,
        ("allow", 1, "who"): 17,
        ("allow", 1, "claims", "issuer"): 18,
        ("accounts",): 19,
        ("accounts", "acme"): 20,
    }


@pytest.mark.parametrize("text", ["", "\n", "# [[allow]]", "a = 1 # \n\n", "a = 1\r\n[b]\r\n"])
def test_small_texts(text: str) -> None:
    tomllib.loads(text)
    expected = {("a",): 1} if text.startswith("a") else {}
    assert places.lines(text) == expected | ({("b",): 2} if "[b]" in text else {})


fillings = st.text("[]{}=\"'\\#\n alow", max_size=12)


def written(text: str, quote: int) -> str:
    """A text of TOML with that content, in one of the four ways to write it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if quote == 1 and "'" not in text and "\n" not in text:
        return f"'{text}'"
    if quote == 2:
        return f'"""{escaped}"""'
    if quote == 3 and "'''" not in text and not text.startswith("\n"):
        return f"'''{text}'''" if not text.endswith("'''") else f'"""{escaped}"""'
    return '"' + escaped.replace("\n", "\\n") + '"'


@patient
@given(st.lists(st.tuples(st.lists(st.tuples(fillings, st.integers(0, 3)), max_size=3), fillings)))
def test_every_table_is_found_on_its_line(
    tables: list[tuple[list[tuple[str, int]], str]],
) -> None:
    text, expected = "", []
    for values, comment in tables:
        expected.append(text.count("\n") + 1)
        text += f"[[allow]] #{comment.replace(chr(10), '')}\n"
        text += f"a = [{', '.join(written(*value) for value in values)}] # {'[[allow]]'}\n"
    tree = tomllib.loads(text)
    assert len(tree.get("allow", [])) == len(tables)
    found = places.lines(text)
    assert [found["allow", at] for at in range(len(tables))] == expected
    assert len(found) == 2 * len(tables)
