"""A whole application: several components, routes, files, and the reserved paths."""

from __future__ import annotations

import json
import os

import pytest

from registry import demo


async def test_each_route_has_its_component(start, app):
    made = app(
        {"a": demo.component("from a"), "b": demo.component("from b")},
        {"/a/...": "a", "/b": "b"},
    )
    running = await start(made)
    assert (await running.request("/a/x")).body == b"from a"
    assert (await running.request("/b")).body == b"from b"


async def test_a_path_without_route_is_an_empty_404(start, app):
    running = await start(app({"a": demo.component()}, {"/a": "a"}))
    reply = await running.request("/other")
    assert (reply.status, reply.body) == (404, b"")


async def test_a_static_response_needs_no_component(start, app):
    static = {"status_code": 301, "headers": {"location": "/new"}, "body": "moved"}
    made = app(
        {"a": demo.component()},
        triggers=[
            {
                "id": "t",
                "trigger_type": "http",
                "trigger_config": {"route": "/old", "static_response": static},
            }
        ],
    )
    reply = await (await start(made)).request("/old")
    assert (reply.status, reply.headers["location"], reply.body) == (301, "/new", b"moved")


async def test_a_component_that_no_http_trigger_names_need_not_run(start, app, wat):
    made = app({"a": demo.component("hi"), "other": wat.core_module()}, {"/": "a"})
    assert (await (await start(made)).request("/")).body == b"hi"


async def test_a_trigger_of_another_kind_is_not_a_route(start, app):
    made = app(
        {"a": demo.component()},
        triggers=[
            {"id": "r", "trigger_type": "redis", "trigger_config": {"component": "a", "route": "/"}}
        ],
    )
    assert (await (await start(made)).request("/")).status == 404


async def test_health_is_answered_by_the_host(start, app, wat):
    running = await start(app({"bad": wat.traps()}))
    reply = await running.request("/.well-known/spin/health")
    assert (reply.status, reply.body) == (200, b"OK")


async def test_info_names_what_was_pushed(start, app):
    digest = "sha256:" + "1" * 64
    metadata = {"name": "shop", "version": "1.2.3", "oci_image_digest": digest}
    running = await start(app({"a": demo.component()}, metadata=metadata))
    reply = await running.request("/.well-known/spin/info")
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body) == metadata


async def test_info_leaves_out_what_is_not_known(start, app):
    running = await start(app({"a": demo.component()}, metadata={"name": "shop"}))
    assert json.loads((await running.request("/.well-known/spin/info")).body) == {"name": "shop"}


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/spin/other",
        "//.well-known/spin/other",
        "/x/../.well-known/spin/other",
        "/%2ewell-known/spin/other",
        "/.well-known/spin%2fother",
        "http://app.test/.well-known/spin/other",
    ],
)
async def test_the_reserved_prefix_never_reaches_a_component(start, app, path):
    running = await start(app({"a": demo.component()}))
    assert (await running.request(path)).status == 404


@pytest.mark.parametrize(
    ("target", "status"), [("*", 404), ("ftp://x/", 404), ("http://[broken/", 400)]
)
async def test_a_target_that_is_no_path_reaches_no_component(start, app, target, status):
    running = await start(app({"a": demo.component()}))
    reply = await running.request(target, method="OPTIONS")
    assert (reply.status, reply.body) == (status, b"")


async def test_a_head_that_is_too_large_is_refused(start, app):
    running = await start(app({"a": demo.component()}))
    reply = await running.request("/", headers={"x": "y" * 100_000})
    assert reply.status == 431


async def test_a_request_that_is_not_http_is_a_400(start, app):
    running = await start(app({"a": demo.component()}))
    async with running.exchange() as exchange:
        exchange.writer.write(b"GET / HTTP/1.1\r\nbroken header\r\n\r\n")
        assert (await exchange.reader.read(4096)).startswith(b"HTTP/1.1 400 ")


async def test_the_environment_is_the_components_and_nothing_else(start, app, python_app):
    made = app({"py": python_app}, extra={"py": {"env": {"GREETING": "hi"}}})
    running = await start(made)
    assert (await running.request("/env")).text == "GREETING=hi"


async def test_config_templates_are_filled_in_from_the_apps_variables(start, app, python_app):
    config = {"greeting": "{{ word }}, {{who}}!", "plain": "as it is"}
    made = app({"py": python_app}, extra={"py": {"config": config}})
    running = await start(made, variables={"word": "Hello", "who": "you", "secret": "s"})
    assert (await running.request("/variable?greeting")).text == "Hello, you! Hello, you!"
    assert (await running.request("/variable?plain")).text == "as it is as it is"
    # A component sees its own configuration, not the app's variables.
    assert (await running.request("/variable?secret")).text == "Error_Undefined None"
    assert (await running.request("/variable?Not-A-Name")).text == "Error_InvalidName None"


async def test_a_variable_without_value_fails_the_start(start, app, failing):
    made = app({"a": demo.component()}, extra={"a": {"config": {"key": "{{ missing }}"}}})
    reason = await failing(start(made))
    assert "`missing`" in reason
    assert "component a" in reason


# Files


@pytest.fixture
def site(tmp_path):
    """A staged directory, with what must not be reached beside it."""
    root = tmp_path / "assets" / "0"
    (root / "docs" / "deep").mkdir(parents=True)
    (root / "index.html").write_bytes(b"<h1>index</h1>")
    (root / "docs" / "deep" / "page").write_bytes(bytes(range(256)) * 1000)
    (tmp_path / "assets" / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "assets" / "secret")
    (root / "up").symlink_to("..")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture
async def files(start, app, python_app, site):
    mount = {"files": [{"source": site.as_uri(), "path": "/"}]}
    return await start(app({"py": python_app}, extra={"py": mount}))


async def test_a_component_reads_its_files(files):
    assert (await files.request("/file?/index.html")).body == b"<h1>index</h1>"
    assert (await files.request("/file?/docs/deep/page")).body == bytes(range(256)) * 1000
    assert (await files.request("/file?docs/../index.html")).body == b"<h1>index</h1>"


async def test_a_component_lists_its_directories(files):
    assert (await files.request("/list?/docs")).text == "deep"


@pytest.mark.parametrize(
    "path", ["/../secret", "../secret", "/docs/../../secret", "/link", "/up/secret"]
)
async def test_no_path_leads_out_of_a_components_files(files, path):
    reply = await files.request(f"/file?{path}")
    assert reply.text.startswith("errno")
    assert "secret" not in reply.text


async def test_what_is_neither_file_nor_directory_is_not_opened(files):
    assert (await files.request("/file?/pipe")).text.startswith("errno 63")  # EPERM


async def test_files_cannot_be_written(files, site):
    assert (await files.request("/write?/new")).text.startswith("errno 69")  # EROFS
    assert (await files.request("/write?/index.html")).text.startswith("errno 69")
    assert (site / "index.html").read_bytes() == b"<h1>index</h1>"


async def test_a_component_without_files_has_none(start, app, python_app):
    running = await start(app({"py": python_app}))
    assert (await running.request("/file?/etc/passwd")).text.startswith("errno")
