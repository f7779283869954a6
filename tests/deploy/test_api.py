"""The /v1 API over real HTTP and a real journal."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import jsonschema
import pytest

from registry.deploy import api
from registry.deploy.apps import Settings
from registry.permissions import Need
from storage.names import RepositoryName
from tests.deploy.api_server import DOMAIN, ApiServer, digest_of, serving

HELLO = RepositoryName.parse("acme/hello")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with serving(tmp_path) as running:
        yield running


def check(value: object, schema: str) -> None:
    """`value` has the shape that the document promises."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": api.DOCUMENT["components"]}
    jsonschema.Draft202012Validator(
        root, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(value)


def message(answer: dict) -> str:
    check(answer, "Errors")
    return answer["errors"][0]["message"]


def code(answer: dict) -> str:
    check(answer, "Errors")
    return answer["errors"][0]["code"]


async def test_an_app_is_shown_as_agreed(server):
    first = await server.push("acme/hello", b"1")
    await server.make_live(first)
    second = await server.push("acme/hello", b"2", "v2")
    await server.fail(second, "no healthy answer")

    status, app = await server.ask("/v1/apps/acme/hello")

    assert status == 200
    check(app, "App")
    created = [revision.pop("created") for revision in app["revisions"]]
    assert all(text.endswith("Z") for text in created)
    assert app == {
        "id": first.app,
        "repository": "acme/hello",
        "url": "http://hello.acme.apps.example/",
        "live": {"revision": 1, "digest": str(digest_of(b"1"))},
        "revisions": [
            {
                "number": 2,
                "digest": str(digest_of(b"2")),
                "tag": "v2",
                "phase": "failed",
                "reason": "no healthy answer",
                "pushed_by": None,
            },
            {
                "number": 1,
                "digest": str(digest_of(b"1")),
                "tag": "latest",
                "phase": "live",
                "reason": "",
                "pushed_by": None,
            },
        ],
    }


async def test_an_app_without_a_live_revision_says_null(server):
    await server.push("acme/hello")
    _, app = await server.ask("/v1/apps/acme/hello")
    assert app["live"] is None


async def test_what_is_live_is_known_however_old_it_is(server):
    await server.make_live(await server.push("acme/hello", b"first"))
    for number in range(api.REVISION_LIMIT + 1):
        await server.push("acme/hello", b"%d" % number)
    _, app = await server.ask("/v1/apps/acme/hello")
    assert app["live"] == {"revision": 1, "digest": str(digest_of(b"first"))}
    assert len(app["revisions"]) == api.REVISION_LIMIT


async def test_the_list_has_every_app_with_its_newest_revision(server):
    await server.make_live(await server.push("acme/hello", b"1"))
    await server.push("acme/hello", b"2")
    await server.push("zeta/deep/er/name", b"3")
    status, answer = await server.ask("/v1/apps")
    assert status == 200
    check(answer, "Apps")
    assert [app["repository"] for app in answer["apps"]] == ["acme/hello", "zeta/deep/er/name"]
    assert [[r["number"] for r in app["revisions"]] for app in answer["apps"]] == [[2], [1]]
    assert answer["apps"][0]["live"]["revision"] == 1


@pytest.mark.parametrize("name", ["single", "a/b", "a/b/c/d/e", "v1/apps", "a/events"])
async def test_names_of_any_depth_have_all_resources(server, name):
    await server.push(name)
    for resource in ("", "/_events", "/_logs", "/_settings"):
        status, _ = await server.ask(f"/v1/apps/{name}{resource}")
        assert status == 200, resource


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/apps/acme/absent", (404, "NAME_UNKNOWN")),
        ("/v1/apps/acme/absent/_events", (404, "NAME_UNKNOWN")),
        ("/v1/apps/acme/absent/_logs", (404, "NAME_UNKNOWN")),
        ("/v1/apps/acme/absent/_settings", (404, "NAME_UNKNOWN")),
        ("/v1/apps/acme/hello/_absent", (404, "UNSUPPORTED")),
        ("/v1/apps/_settings", (404, "UNSUPPORTED")),
        ("/v1/apps/ACME", (400, "NAME_INVALID")),
        ("/v1/apps/", (400, "NAME_INVALID")),
        ("/v1/apps/a//b", (400, "NAME_INVALID")),
        ("/v1/apps/a/../b/_settings", (404, "NAME_UNKNOWN")),  # aiohttp resolves the dots: b
        ("/v1/absent", (404, "UNSUPPORTED")),
        ("/absent", (404, "UNSUPPORTED")),
        ("/v1/apps/acme/hello/_events?limit=x", (400, "UNSUPPORTED")),
        ("/v1/apps/acme/hello/_events?limit=-1", (400, "UNSUPPORTED")),
        ("/v1/apps/acme/hello/_events?limit=1001", (400, "UNSUPPORTED")),
        ("/v1/apps/acme/hello/_logs?tail=10001", (400, "UNSUPPORTED")),
        ("/v1/apps/acme/hello/_logs?after=x", (400, "UNSUPPORTED")),
    ],
)
async def test_what_is_wrong_is_said_in_the_registrys_form(server, path, expected):
    await server.push("acme/hello")
    status, answer = await server.ask(path)
    assert (status, code(answer)) == expected


async def test_a_method_that_a_path_does_not_have_is_405_with_those_it_has(server):
    async with server.session.delete(server.url + "/v1/apps/acme/hello/_settings") as answer:
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PATCH"}
        check(await answer.json(), "Errors")


async def test_events_are_newest_first_and_limited(server):
    await server.make_live(await server.push("acme/hello"))
    _, answer = await server.ask("/v1/apps/acme/hello/_events")
    check(answer, "Events")
    assert [event["phase"] for event in answer["events"][:2]] == ["live", "checking"]
    _, short = await server.ask("/v1/apps/acme/hello/_events?limit=1")
    assert short["events"] == answer["events"][:1]


async def patch(server: ApiServer, change: object, name: str = "acme/hello") -> tuple[int, dict]:
    body = change if isinstance(change, bytes) else json.dumps(change).encode()
    return await server.ask(f"/v1/apps/{name}/_settings", "PATCH", data=body)


async def test_settings_are_changed_piece_by_piece_and_values_never_shown(server):
    await server.push("acme/hello")
    assert await patch(server, {"variables": {"api_key": "canary", "b": "2"}}) == (
        200,
        {"variables": ["api_key", "b"], "health_path": None},
    )
    await patch(server, {"health_path": "/healthz"})
    await patch(server, {"variables": {"b": None, "absent": None, "c": "3"}})
    status, shown = await server.ask("/v1/apps/acme/hello/_settings")
    assert status == 200
    check(shown, "Settings")
    assert shown == {"variables": ["api_key", "c"], "health_path": "/healthz"}
    app = await server.journal.app(HELLO)
    assert dict(app.settings.variables) == {"api_key": "canary", "c": "3"}
    for path in ("/v1/apps", "/v1/apps/acme/hello", "/v1/apps/acme/hello/_events"):
        assert "canary" not in json.dumps(await server.ask(path))


async def test_null_removes_the_health_path(server):
    await patch(server, {"health_path": "/healthz"})
    assert (await patch(server, {"health_path": None}))[1]["health_path"] is None


async def test_settings_can_come_before_the_first_push(server):
    status, _ = await patch(server, {"variables": {"a": "1"}}, "new/app")
    assert status == 200
    app = await server.journal.app(RepositoryName.parse("new/app"))
    assert app.host == f"app.new.{DOMAIN}"


async def test_a_change_wakes_the_deployer(server):
    await patch(server, {"variables": {"a": "1"}})
    assert server.woken == ["woken"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"{", "JSON"),
        (b'{"variables": {}, "variables": {}}', "twice"),
        (b'{"varables": {}}', "varables"),  # misspelt: refused, not ignored
        (b'{"Variables": {}}', "Variables"),
        (b'{"variables": null}', "variables"),
        (b'{"variables": []}', "variables"),
        (b'{"variables": {"a": 1}}', "string"),
        (b'{"variables": {"A": "1"}}', "lower-case"),
        (b'{"variables": {"A": null}}', "lower-case"),
        (b'{"variables": {"1a": "1"}}', "lower-case"),
        (b'{"variables": {"a-b": "1"}}', "lower-case"),
        (b'{"variables": {"": "1"}}', "lower-case"),
        (b'{"variables": {"a": "\\u0000"}}', "NUL"),
        (b'{"variables": {"a": "\\ud800"}}', "surrogate"),
        (b'{"health_path": "healthz"}', "'/'"),
        (b'{"health_path": 1}', "string"),
        (b'{"health_path": "/a b"}', "ASCII"),
    ],
)
async def test_a_change_that_makes_no_sense_is_refused_whole(server, body, says):
    await patch(server, {"variables": {"kept": "1"}})
    status, answer = await patch(server, body)
    assert (status, code(answer)) == (400, "SETTINGS_INVALID")
    assert says in message(answer)
    assert (await server.ask("/v1/apps/acme/hello/_settings"))[1]["variables"] == ["kept"]


async def test_a_body_that_is_too_large_is_413(server):
    url = f"{server.url}/v1/apps/acme/hello/_settings"
    body = io.BytesIO(bytes(api.BODY_LIMIT + 1))
    async with server.session.patch(url, data=body) as refused:
        status, answer = refused.status, await refused.json()
    assert (status, code(answer)) == (413, "SIZE_INVALID")


async def test_changes_at_the_same_time_do_not_undo_each_other(server):
    names = [f"v{number}" for number in range(20)]
    await asyncio.gather(*(patch(server, {"variables": {name: "1"}}) for name in names))
    _, shown = await server.ask("/v1/apps/acme/hello/_settings")
    assert shown["variables"] == sorted(names)


def write(log: Path, *lines: str) -> None:
    with log.open("a") as file:
        file.writelines(json.dumps({"line": line, "component": "c"}) + "\n" for line in lines)


async def test_logs_are_the_last_lines_with_a_cursor_to_go_on_from(server):
    await server.push("acme/hello")
    log = server.log_of(await server.journal.app(HELLO))
    status, empty = await server.ask("/v1/apps/acme/hello/_logs")
    assert (status, empty["lines"]) == (200, [])

    write(log, "a", "b", "c")
    _, last = await server.ask("/v1/apps/acme/hello/_logs?tail=2")
    check(last, "Logs")
    assert [line["line"] for line in last["lines"]] == ["b", "c"]

    write(log, "d")
    log.rename(f"{log}.1")
    write(log, "e")
    _, more = await server.ask(f"/v1/apps/acme/hello/_logs?after={last['cursor']}")
    assert [line["line"] for line in more["lines"]] == ["d", "e"]
    _, both = await server.ask("/v1/apps/acme/hello/_logs?tail=3")
    assert [line["line"] for line in both["lines"]] == ["c", "d", "e"]
    _, none = await server.ask(f"/v1/apps/acme/hello/_logs?after={more['cursor']}")
    assert none == {"lines": [], "cursor": more["cursor"]}


async def test_a_line_that_is_still_being_written_comes_later_and_once(server):
    await server.push("acme/hello")
    log = server.log_of(await server.journal.app(HELLO))
    write(log, "a")
    with log.open("a") as file:
        file.write('{"line": ')
        file.flush()
        _, first = await server.ask("/v1/apps/acme/hello/_logs")
        assert [line["line"] for line in first["lines"]] == ["a"]
        file.write('"b"}\n')
    _, then = await server.ask(f"/v1/apps/acme/hello/_logs?after={first['cursor']}")
    assert [line["line"] for line in then["lines"]] == ["b"]


async def test_a_log_that_is_renamed_while_it_is_read_is_not_shown_twice(server):
    await server.push("acme/hello")
    log = server.log_of(await server.journal.app(HELLO))
    write(log, "a")
    Path(f"{log}.1").hardlink_to(log)  # as a reader sees it that opens the two one after the other
    _, answer = await server.ask("/v1/apps/acme/hello/_logs")
    assert [line["line"] for line in answer["lines"]] == ["a"]


async def test_a_line_that_is_not_json_is_shown_as_it_is(server):
    await server.push("acme/hello")
    server.log_of(await server.journal.app(HELLO)).write_bytes(b"Killed \xff\n[1]\n")
    _, answer = await server.ask("/v1/apps/acme/hello/_logs")
    assert answer["lines"] == [{"line": "Killed \ufffd"}, {"line": "[1]"}]


@pytest.mark.parametrize(
    ("path", "schema"),
    [("/v1/version", "Version"), ("/healthz", "Health"), ("/readyz", "Health")],
)
async def test_the_process_tells_of_itself(server, path, schema):
    status, answer = await server.ask(path)
    assert status == 200
    check(answer, schema)


async def test_records_that_cannot_be_read_are_not_ready(server):
    await server.close_records()
    assert await server.ask("/readyz") == (503, {"status": "unavailable"})
    assert (await server.ask("/healthz"))[0] == 200


async def test_every_route_is_described_and_every_description_has_a_route(server):
    _, document = await server.ask("/v1/openapi.json")
    described = {
        (path, method.upper()) for path, item in document["paths"].items() for method in item
    }
    routed = {
        (route.path.replace(":path}", "}"), method)
        for route in server.routes
        for method in route.methods - {"HEAD"}
    }
    assert routed == described


def test_every_reference_in_the_document_leads_somewhere_and_every_schema_is_used():
    text = json.dumps(api.DOCUMENT)
    named = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert named == set(api.DOCUMENT["components"]["schemas"])


def test_path_parameters_are_exactly_those_in_the_path():
    for path, item in api.DOCUMENT["paths"].items():
        for operation in item.values():
            declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert declared == ({"repository"} if "{repository}" in path else set())


@pytest.mark.parametrize("name", sorted(api.DOCUMENT["components"]["schemas"]))
def test_every_schema_is_one(name):
    jsonschema.Draft202012Validator.check_schema(api.DOCUMENT["components"]["schemas"][name])


def test_nothing_that_changes_an_app_or_shows_what_it_prints_is_free():
    needs = {(operation.method, operation.path): operation.need for operation in api.OPERATIONS}
    for (method, path), need in needs.items():
        if "{repository}" in path or path == "/v1/apps":
            assert need is not Need.NOTHING
        if method != "GET" or path.endswith(("_logs", "_settings")):
            assert need is Need.DEPLOY


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"variables": {"a": "1", "b": None}, "health_path": "/"}, True),
        ({}, True),
        ({"health_path": None}, True),
        ({"other": 1}, False),
        ({"variables": {"A": "1"}}, False),
        ({"variables": {"a": 1}}, False),
        ({"health_path": "x"}, False),
    ],
)
async def test_the_schema_of_a_change_agrees_with_what_is_taken(server, body, fits):
    status, _ = await patch(server, body)
    assert (status == 200) is fits
    if fits:
        check(body, "SettingsChange")
    else:
        with pytest.raises(jsonschema.ValidationError):
            check(body, "SettingsChange")


def test_settings_do_not_show_their_values_when_printed():
    assert "canary" not in repr(Settings.parse({"a": "canary"}))
