"""Spin's HTTP trigger: the tables of its grammar."""

from __future__ import annotations

import pytest

from registry.deploy.runtimes.wasmtime.routing import (
    Match,
    Routes,
    StaticResponse,
    private,
    request_headers,
    reserved,
)


def triggers(*routes):
    """HTTP triggers whose components are called after their places: c0, c1, …"""
    return [
        {"trigger_type": "http", "trigger_config": {"component": f"c{i}", "route": route}}
        for i, route in enumerate(routes)
    ]


MATCHES = [
    # route, path, values, rest (None: no match)
    ("/", "/", {}, ""),
    ("/", "/a", None, None),
    ("/a", "/a", {}, ""),
    ("/a", "/a/", {}, ""),  # a slash at the end makes no difference
    ("/a/", "/a", {}, ""),
    ("a", "/a", {}, ""),  # written without its first slash
    ("/a", "/A", None, None),  # paths have case
    ("/a", "/a/b", None, None),
    ("/a", "/ab", None, None),
    ("/a/b", "/a", None, None),
    ("/...", "/", {}, "/"),
    ("/...", "/a/b", {}, "/a/b"),
    ("/*", "/a", {}, "/a"),
    ("/a/...", "/a", {}, ""),
    ("/a/...", "/a/", {}, "/"),
    ("/a/...", "/a/b/c/", {}, "/b/c/"),
    ("/a/...", "/ab", None, None),
    ("/a/...", "/", None, None),
    ("/a/*", "/a/b", {}, "/b"),
    ("/:id", "/7", {"id": "7"}, ""),
    ("/:id", "/", None, None),
    ("/:id", "/7/8", None, None),
    ("/u/:id/posts/:post", "/u/7/posts/8", {"id": "7", "post": "8"}, ""),
    ("/u/:id/...", "/u/7/x/y", {"id": "7"}, "/x/y"),
    ("/u/:id/...", "/u/7", {"id": "7"}, ""),
]


@pytest.mark.parametrize(("route", "path", "values", "rest"), MATCHES)
def test_a_route_matches_its_paths(route, path, values, rest):
    found = Routes.of(triggers(route)).find(path)
    if values is None:
        assert found is None
    else:
        assert isinstance(found, Match)
        assert (dict(found.values), found.rest) == (values, rest)


PRECEDENCE = [
    # routes, path, which answers, why
    (["/...", "/a"], "/a", "c1", "exact beats the wildcard"),
    (["/a", "/..."], "/a", "c0", "whatever their order"),
    (["/...", "/a/..."], "/a/b", "c1", "the longer prefix"),
    (["/a/b/...", "/a/..."], "/a/b/c", "c0", "the longer prefix, first"),
    (["/a/...", "/a/b"], "/a/b", "c1", "exact beats a prefix"),
    (["/:x", "/a"], "/a", "c1", "a name beats a parameter"),
    (["/a", "/:x"], "/a", "c0", "a name beats a parameter, first"),
    (["/:x", "/..."], "/a", "c0", "a parameter beats the wildcard"),
    (["/:x/b", "/a/:y"], "/a/b", "c1", "the earlier segment decides"),
    (["/a/...", "/:x/b"], "/a/b", "c0", "the earlier segment decides, wildcard or not"),
    (["/a", "/a"], "/a", "c1", "of two the later one"),
    (["/:x", "/:y"], "/a", "c1", "of two the later one, whatever the parameter is called"),
    (["/a/...", "/a/*"], "/a/b", "c1", "of two the later one, in either spelling"),
    (["/a/...", "/a"], "/a", "c1", "exact beats the wildcard that takes nothing"),
]


@pytest.mark.parametrize(("routes", "path", "answers", "why"), PRECEDENCE)
def test_the_most_specific_route_answers(routes, path, answers, why):
    found = Routes.of(triggers(*routes)).find(path)
    assert found is not None
    assert found.route.target == answers, why


def test_a_private_route_is_no_route():
    routes = Routes.of(triggers({"private": True}, "/a"))
    assert routes.find("/") is None
    assert routes.find("/a") is not None


def test_a_static_response_is_a_target():
    config = {
        "route": "/old",
        "static_response": {"status_code": 308, "headers": {"location": "/new"}, "body": "gone"},
    }
    found = Routes.of([{"trigger_type": "http", "trigger_config": config}]).find("/old")
    assert found is not None
    assert found.route.target == StaticResponse(308, (("location", "/new"),), b"gone")


def test_a_static_response_has_defaults():
    config = {"route": "/", "static_response": {}}
    found = Routes.of([{"trigger_type": "http", "trigger_config": config}]).find("/")
    assert found is not None
    assert found.route.target == StaticResponse(200, (), b"")


RESERVED = [
    ("/.well-known/spin/health", "health"),
    ("/.well-known/spin/health?x=1", "health"),
    ("/.well-known/spin/health/", "health"),
    ("/.well-known/spin/", ""),
    ("/.well-known/spin/a/b", "a/b"),
    ("//.well-known//spin///info", "info"),
    ("/a/../.well-known/spin/info", "info"),
    ("/.well-known/./spin/info", "info"),
    ("/../.well-known/spin/info", "info"),
    ("/%2ewell-known/spin/info", "info"),
    ("/.well-known%2Fspin%2Finfo", "info"),
    ("/%252ewell-known/spin/info", "info"),  # decoded once by each of two layers
    ("/a/%2e%2e/.well-known/spin/info", "info"),
    ("/.well-known\\spin\\info", "info"),
    ("/.well-known/spin/%69nfo", "info"),
    ("/.well-known/spin/x/../health", "health"),
    ("/.well-known/spin", None),  # the prefix has a slash
    ("/.well-known/spinning", None),
    ("/.well-known/other", None),
    ("/.well-known/spin/../other", None),
    ("/a/.well-known/spin/health", None),
    ("/?/.well-known/spin/health", None),
    ("/.Well-Known/spin/health", None),
    ("/%", None),
]


@pytest.mark.parametrize(("path", "rest"), RESERVED)
def test_the_reserved_prefix_is_known_in_every_spelling(path, rest):
    assert reserved(path) == rest


def headers(route, path, target=None):
    found = Routes.of(triggers(route)).find(path)
    assert found is not None
    return dict(
        request_headers(
            found,
            scheme="https",
            authority="app.test",
            target=target or path,
            client="192.0.2.1:999",
        )
    )


def test_the_headers_of_a_wildcard_route_with_a_parameter():
    assert headers("/u/:id/...", "/u/7/x", "/u/7/x?q=1") == {
        "spin-full-url": b"https://app.test/u/7/x?q=1",
        "spin-path-info": b"/x",
        "spin-matched-route": b"/u/:id/...",
        "spin-base-path": b"/",
        "spin-raw-component-route": b"/u/:id/...",
        "spin-component-route": b"/u/:id",
        "spin-client-addr": b"192.0.2.1:999",
        "spin-path-match-id": b"7",
    }


@pytest.mark.parametrize(
    ("route", "path", "info", "component"),
    [("/", "/", b"", b"/"), ("/a", "/a", b"", b"/a"), ("/...", "/a", b"/a", b"")],
)
def test_path_info_and_component_route(route, path, info, component):
    found = headers(route, path)
    assert (found["spin-path-info"], found["spin-component-route"]) == (info, component)


@pytest.mark.parametrize(
    ("name", "is_private"),
    [
        ("spin-full-url", True),
        ("SPIN-anything", True),
        ("x-spindle-client-addr", True),
        ("spinning", False),
        ("x-forwarded-for", False),
    ],
)
def test_only_the_host_sets_its_own_headers(name, is_private):
    assert private(name) is is_private
