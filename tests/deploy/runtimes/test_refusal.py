"""What the embedded runtime says, before it tries, of an app that it cannot run."""

from __future__ import annotations

import io

import pytest

from registry import demo
from registry.deploy.runtimes.wasmtime import EmbeddedRuntime
from registry.deploy.runtimes.wasmtime.anatomy import NotWasm, anatomy


@pytest.fixture
def refuse(tmp_path, app):
    async def ask(wasm, extra=None, trigger=None):
        path = tmp_path / "a.wasm"
        path.write_bytes(wasm)
        locked = app({"a": path}, extra={"a": extra or {}}).lock(tmp_path)
        locked["triggers"][0]["trigger_config"].update(trigger or {})
        runtime = EmbeddedRuntime(tmp_path / "cache")
        return await runtime.refuse(locked, {"a": path})

    return ask


async def test_a_component_for_wasi_0_2_is_accepted(refuse):
    assert await refuse(demo.component()) is None


async def test_a_component_built_from_python_is_accepted(refuse, python_app):
    assert await refuse(python_app.read_bytes()) is None


async def test_a_core_module_is_refused(refuse, wat):
    reason = await refuse(wat.core_module())
    assert "component a is a core WebAssembly module" in reason


async def test_wasi_0_3_is_refused_with_what_to_build_with(refuse, wat):
    reason = await refuse(wat.newer())
    assert "wasi:http/handler@0.3.0" in reason
    assert "spin-sdk 3.4.1" in reason


async def test_a_component_without_handler_is_refused(refuse, wat):
    assert "does not export wasi:http/incoming-handler" in await refuse(wat.no_handler())


@pytest.mark.parametrize("wasm", [b"", b"#!/bin/sh", b"\0asm", b"\0asm\x63\0\0\0"])
async def test_what_is_not_webassembly_is_refused(refuse, wasm):
    assert "is not a WebAssembly component" in await refuse(wasm)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("key_value_stores", "key-value stores (default)"),
        ("databases", "SQLite databases (default)"),
        ("ai_models", "AI models (default)"),
    ],
)
async def test_resources_that_are_not_provided_are_refused(refuse, key, what):
    reason = await refuse(demo.component(), {"metadata": {key: ["default"]}})
    assert what in reason
    assert f"remove `{key}`" in reason


async def test_empty_lists_of_resources_are_accepted(refuse):
    assert await refuse(demo.component(), {"metadata": {"key_value_stores": []}}) is None


async def test_dependencies_that_are_not_composed_are_refused(refuse):
    reason = await refuse(demo.component(), {"dependencies": {"a:b/c": {"source": {}}}})
    assert "dependencies that are not composed" in reason


async def test_wagi_is_refused(refuse):
    assert "executor `wagi`" in await refuse(demo.component(), None, {"executor": {"type": "wagi"}})


@pytest.mark.parametrize("kind", ["http", "spin"])
async def test_the_usual_executors_are_accepted(refuse, kind):
    assert await refuse(demo.component(), None, {"executor": {"type": kind}}) is None


async def test_a_malformed_allowed_host_is_refused(refuse):
    metadata = {"allowed_outbound_hosts": ["example.com"]}
    reason = await refuse(demo.component(), {"metadata": metadata})
    assert "component a: 'example.com' is not an allowed host" in reason


async def test_an_allowed_host_with_a_variable_is_judged_at_the_start(refuse):
    metadata = {"allowed_outbound_hosts": ["https://{{ host }}"]}
    assert await refuse(demo.component(), {"metadata": metadata}) is None


def test_the_names_of_imports_and_exports_are_read(wat):
    found = anatomy(io.BytesIO(wat.imports_and_exports("a:b/c@1.2.3", "d:e/f@0.1.0")))
    assert found.component
    assert found.imports == ("a:b/c@1.2.3", "plain", "kind")
    assert found.exports == ("d:e/f@0.1.0", "again")


@pytest.mark.parametrize("length", range(9, 400, 7))
def test_a_component_that_is_cut_short_is_never_misread(wat, length):
    whole = wat.imports_and_exports("a:b/c@1.2.3", "d:e/f@0.1.0")
    try:
        found = anatomy(io.BytesIO(whole[:length]))
    except NotWasm:
        return
    complete = anatomy(io.BytesIO(whole))
    assert complete.exports[: len(found.exports)] == found.exports
