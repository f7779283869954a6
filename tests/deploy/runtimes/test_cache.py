"""Compiled code is native code: it is loaded from nowhere that others could have written to."""

from __future__ import annotations

import os
import stat

import pytest

from registry.deploy.runtimes.wasmtime.cache import Cache, CacheUnsafe

WASM = "ab" * 32


def load(cache: Cache) -> bytes:
    with cache.opened(str(cache.path(WASM))) as path, open(path, "rb") as file:
        return file.read()


def test_the_directory_is_made_private(tmp_path):
    cache = Cache.open(tmp_path / "a" / "cache")
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o750, 0o704])
def test_a_directory_that_is_not_private_is_refused(tmp_path, mode):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    with pytest.raises(CacheUnsafe, match="mode 0700"):
        Cache.open(tmp_path / "cache")


def test_a_link_instead_of_the_directory_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheUnsafe):
        Cache.open(tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_directory_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o700)
    os.chown(tmp_path / "cache", 65534, -1)
    with pytest.raises(CacheUnsafe):
        Cache.open(tmp_path / "cache")


def test_what_was_kept_is_loaded(tmp_path):
    cache = Cache.open(tmp_path / "cache")
    assert not cache.has(WASM)
    cache.keep(WASM, b"code")
    assert cache.has(WASM)
    assert load(cache) == b"code"
    assert [path.name for path in cache.directory.iterdir()] == [cache.path(WASM).name]


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_write_is_not_loaded(tmp_path, mode):
    cache = Cache.open(tmp_path / "cache")
    cache.keep(WASM, b"code").chmod(mode)
    assert not cache.has(WASM)
    with pytest.raises(CacheUnsafe):
        load(cache)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_not_loaded(tmp_path):
    cache = Cache.open(tmp_path / "cache")
    os.chown(cache.keep(WASM, b"code"), 65534, -1)
    with pytest.raises(CacheUnsafe):
        load(cache)


def test_a_link_is_not_followed(tmp_path):
    cache = Cache.open(tmp_path / "cache")
    (tmp_path / "other").write_bytes(b"other code")
    cache.path(WASM).symlink_to(tmp_path / "other")
    assert not cache.has(WASM)
    with pytest.raises(CacheUnsafe):
        load(cache)


def test_a_file_outside_is_not_loaded(tmp_path):
    cache = Cache.open(tmp_path / "cache")
    outside = tmp_path / "code.native"
    outside.write_bytes(b"code")
    with pytest.raises(CacheUnsafe), cache.opened(str(outside)):
        pass


def test_unsafe_code_is_compiled_again_over_it(tmp_path):
    cache = Cache.open(tmp_path / "cache")
    cache.keep(WASM, b"bad").chmod(0o666)
    cache.keep(WASM, b"good")
    assert load(cache) == b"good"
