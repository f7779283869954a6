"""The locked app: what is read of it, and every rule that it can break."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from registry.deploy import locked as module
from registry.deploy.locked import LockedApp, values
from registry.deploy.refusal import NotRunnable
from tests.deploy.artifacts import digest_of, http_trigger, locked_app, unpadded

Document = dict[str, Any]


def parse(document: Document) -> LockedApp:
    return LockedApp.parse(json.dumps(document).encode())


def test_what_a_deployer_reads() -> None:
    document = locked_app(variables={"greeting": {"default": "hi"}, "key": {"secret": True}})
    document["components"][0]["files"] = [{"path": "a/b.txt", "inline": unpadded(b"content")}]
    app = parse(document)
    assert (app.name, app.version) == ("hello", "0.1.0")
    assert [component.id for component in app.components] == ["main"]
    assert app.components[0].files[0].path == "a/b.txt"
    assert app.components[0].files[0].content.inline == b"content"
    assert app.variables["key"].secret
    assert app.missing({}) == ["key"]


def test_unknown_fields_are_ignored() -> None:
    document = locked_app(something={"new": 1})
    document["components"][0]["novelty"] = True
    assert parse(document).document["something"] == {"new": 1}


def test_values_are_what_was_given_over_the_defaults_and_nothing_undeclared() -> None:
    document = locked_app(variables={"a": {"default": "1"}, "b": {"default": "2"}, "c": {}})
    assert values(document, {"b": "two", "c": "three", "d": "four"}) == {
        "a": "1",
        "b": "two",
        "c": "three",
    }


@pytest.mark.parametrize(
    ("data", "encoded"),
    [(b"", ""), (b"a", "YQ"), (b"ab", "YWI"), (b"abc", "YWJj"), (b"\xfb\xff", "+/8")],
)
def test_inline_content_is_base64_without_padding(data: bytes, encoded: str) -> None:
    document = locked_app()
    document["components"][0]["files"] = [{"path": "f", "inline": encoded}]
    assert parse(document).components[0].files[0].content.inline == data


def test_a_private_route_is_fine() -> None:
    document = locked_app()
    document["triggers"][0]["trigger_config"]["route"] = {"private": True}
    assert parse(document)


def test_a_static_response_needs_no_component() -> None:
    document = locked_app()
    document["triggers"][0]["trigger_config"] = {
        "route": "/gone",
        "static_response": {"status_code": 410, "headers": {"x-a": "b"}, "body": "gone"},
    }
    assert parse(document)


@pytest.mark.parametrize("base", ["/", None])
def test_a_base_that_changes_nothing_is_fine(base: str | None) -> None:
    document = locked_app()
    document["metadata"]["trigger"]["base"] = base
    assert parse(document)


def test_middleware_is_a_requirement() -> None:
    document = locked_app()
    document["triggers"][0]["trigger_dependencies"] = {"middleware": [{"source": {}}]}
    assert parse(document).requirements == {"middleware": "trigger 'main-http-trigger'"}


def component(**changes: Any) -> Callable[[Document], None]:
    return lambda document: document["components"][0].update(changes)


def config(**changes: Any) -> Callable[[Document], None]:
    return lambda document: document["triggers"][0]["trigger_config"].update(changes)


def top(**changes: Any) -> Callable[[Document], None]:
    return lambda document: document.update(changes)


def without(key: str) -> Callable[[Document], None]:
    return lambda document: document.pop(key)


def files(*paths: Any) -> Callable[[Document], None]:
    return component(files=[{"path": path, "inline": "YQ"} for path in paths])


def content(**changes: Any) -> Callable[[Document], None]:
    return component(files=[{"path": "f", **changes}])


def static(**changes: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["triggers"][0]["trigger_config"] = {"route": "/", "static_response": changes}

    return change


def triggers(*added: Any) -> Callable[[Document], None]:
    return lambda document: document["triggers"].extend(added)


REDIS = {"id": "r", "trigger_type": "redis", "trigger_config": {"component": "main"}}
HASH = "sha256:" + "0" * 64

BROKEN: list[tuple[str, Callable[[Document], None], str]] = [
    ("no version", without("spin_lock_version"), "has no spin_lock_version"),
    ("version as text", top(spin_lock_version="1"), "has no spin_lock_version"),
    ("version as truth", top(spin_lock_version=True), "has no spin_lock_version"),
    ("version of the future", top(spin_lock_version=2), "spin_lock_version 2"),
    ("negative version", top(spin_lock_version=-1), "spin_lock_version -1"),
    ("must understand more", top(must_understand=["telepathy"]), "understood in telepathy"),
    ("must understand an object", top(must_understand=[{}]), "understood in {}"),
    ("must understand is text", top(must_understand="x"), "must_understand of the locked app"),
    ("no metadata", without("metadata"), "no metadata.name"),
    ("metadata is a list", top(metadata=[]), "metadata of the locked app is not an object"),
    ("empty name", top(metadata={"name": " "}), "no metadata.name"),
    ("name is a number", top(metadata={"name": 1}), "no metadata.name"),
    ("long name", top(metadata={"name": "x" * 256}), "no metadata.name"),
    ("name with NUL", top(metadata={"name": "a\0b"}), "no metadata.name"),
    ("name of two lines", top(metadata={"name": "a\nb"}), "no metadata.name"),
    ("app requirement", top(host_requirements={"a": "maybe"}), "a host requirement 'a'"),
    ("component requirement", component(host_requirements={"a": 1}), "a host requirement 'a'"),
    ("requirements are a list", top(host_requirements=["a"]), "host_requirements of the appl"),
    ("no components", without("components"), "no list of components"),
    ("components are an object", top(components={}), "components of the locked app is not a list"),
    ("component is text", top(components=["a"]), "an entry of components is not an object"),
    ("component without id", component(id=""), "a component has no id"),
    ("id is a number", component(id=7), "a component has no id"),
    (
        "two components of one id",
        lambda document: document["components"].append(document["components"][0]),
        "two components are called 'main'",
    ),
    ("no source", component(source=None), "the source of component 'main' has neither"),
    ("source is text", component(source="x"), "source of component 'main' is not an object"),
    ("source is a URL", component(source={"source": "file:///etc/passwd"}), "named by a URL"),
    ("env is a number", component(env={"A": 1}), "env of component 'main'"),
    ("env with NUL", component(env={"A": "\0"}), "env of component 'main'"),
    ("config is an object", component(config={"a": {}}), "config of component 'main'"),
    ("dependency is text", component(dependencies={"a": "b"}), "dependency 'a' of component"),
    ("no triggers", top(triggers=[]), "has no trigger"),
    ("triggers left out", without("triggers"), "has no trigger"),
    ("trigger is text", top(triggers=["http"]), "an entry of triggers is not an object"),
    ("redis only", top(triggers=[REDIS]), "others: redis (r)"),
    ("redis beside http", triggers(REDIS), "others: redis (r)"),
    ("trigger without type", triggers({"id": "x"}), "others: None (x)"),
    ("base", lambda d: d["metadata"]["trigger"].update(base="/api"), "has the base '/api'"),
    ("new base", lambda d: d["metadata"]["triggers"].update(http={"base": "/x"}), "base '/x'"),
    ("unknown key", config(method="GET"), "settings that no http trigger has: method"),
    ("unknown component", config(component="other"), "names component 'other'"),
    ("component is a list", config(component=[]), "names component []"),
    ("component and static", config(static_response={}), "either a component or a static"),
    ("neither of both", config(component=None), "either a component or a static"),
    ("no route", config(route=None), "has no route"),
    ("relative route", config(route="a"), "has no route"),
    ("route is not private", config(route={"private": False}), "has no route"),
    ("executor", config(executor={"type": "lambda"}), "asks for the executor 'lambda'"),
    ("executor is a list", config(executor=[]), "asks for the executor '[]'"),
    ("static status", static(status_code=99), "no status_code of 200 to 599"),
    ("static status as text", static(status_code="200"), "no status_code of 200 to 599"),
    ("static header", static(headers={"a": "b\r\nc: d"}), "a header that is not plain text"),
    ("static header name", static(headers={"a b": "c"}), "a name that HTTP does not allow"),
    ("static is text", config(component=None, static_response="x"), "is not an object"),
    ("static body", static(body=1), "a body that is not text"),
    ("files are an object", component(files={}), "files of component 'main' is not a list"),
    ("file is text", component(files=["a"]), "a file of component 'main' is not an object"),
    ("file without path", component(files=[{"inline": ""}]), "has no path"),
    ("empty path", files(""), "has the path ''"),
    ("absolute path", files("/etc/passwd"), "has the path '/etc/passwd'"),
    ("parent", files("../x"), "has the path '../x'"),
    ("parent inside", files("a/../x"), "has the path 'a/../x'"),
    ("parent at the end", files("a/.."), "has the path 'a/..'"),
    ("dot", files("./x"), "has the path './x'"),
    ("empty name inside", files("a//b"), "has the path 'a//b'"),
    ("slash at the end", files("a/"), "has the path 'a/'"),
    ("backslash", files("a\\b"), "has the path"),
    ("NUL", files("a\0b"), "has the path"),
    ("long name in a path", files("ä" * 128), "a name of 256 bytes, and the limit is 255"),
    ("long path", files("/".join(["x" * 200] * 6)), "and the limits are 1024 and 32"),
    ("deep path", files("/".join(["x"] * 33)), "and the limits are 1024 and 32"),
    ("twice", files("a", "b", "a"), "has the file 'a' twice"),
    ("file and directory", files("a", "a/b/c"), "a file 'a' where 'a/b/c' needs a directory"),
    ("directory and file", files("a/b/c", "a/b"), "a file 'a/b' where 'a/b/c' needs"),
    ("no content", content(), "neither a digest nor inline content"),
    ("padded", content(inline="YQ=="), "not base64 without padding"),
    ("url-safe base64", content(inline="-_8"), "not base64 without padding"),
    ("base64 with a blank", content(inline="Y Q"), "not base64 without padding"),
    ("base64 of no length", content(inline="YWJjZ"), "not base64 without padding"),
    ("base64 is a number", content(inline=1), "not base64 without padding"),
    ("inline that is another", content(inline="YQ", digest=HASH), "not what its digest names"),
    ("digest is nonsense", content(digest="md5:abc"), "a digest that cannot be used"),
    ("digest is a number", content(digest=5), "a digest that cannot be used"),
    ("variable with a capital", top(variables={"A": {}}), "'A' is not a variable"),
    ("variable is text", top(variables={"a": "x"}), "'a' is not a variable"),
    ("default is a number", top(variables={"a": {"default": 1}}), "default of variable 'a'"),
]


@pytest.mark.parametrize(
    ("change", "reason"), [row[1:] for row in BROKEN], ids=[r[0] for r in BROKEN]
)
def test_a_broken_locked_app_is_refused(change: Callable[[Document], None], reason: str) -> None:
    document = copy.deepcopy(locked_app())
    change(document)
    with pytest.raises(NotRunnable) as caught:
        parse(document)
    assert reason in caught.value.reason
    assert ";" in caught.value.reason, "it says what to do"


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"a":1,"a":2}', b"\xff", b'{"a":NaN}', b"[" * 5000],
    ids=["empty", "a list", "cut", "a key twice", "not UTF-8", "NaN", "deep"],
)
def test_what_is_not_one_strict_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(NotRunnable, match="the locked app"):
        LockedApp.parse(data)


def test_a_locked_app_over_the_limit_is_refused() -> None:
    with pytest.raises(NotRunnable, match="the limit is 8388608"):
        LockedApp.parse(b" " * (module.LOCKED_APP_LIMIT + 1))


def test_too_many_files_are_refused_before_they_are_compared() -> None:
    document = locked_app()
    files("a", *["a"] * module.FILES_LIMIT)(document)
    with pytest.raises(NotRunnable, match="more than 10000 files"):
        parse(document)


def test_too_many_components_are_refused() -> None:
    document = locked_app()
    document["components"] *= module.COMPONENTS_LIMIT + 1
    with pytest.raises(NotRunnable, match="201 components"):
        parse(document)


def test_inline_content_may_have_its_digest() -> None:
    document = locked_app()
    content(inline="YQ", digest=digest_of(b"a"))(document)
    assert parse(document)


def test_several_triggers_are_fine() -> None:
    document = locked_app(triggers=[http_trigger(), http_trigger(route="/x")])
    assert parse(document)
