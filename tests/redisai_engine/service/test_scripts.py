"""The scripts in memory: bounded by what they take, one version for each key, and gone when they are deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from redisai_engine.backends.base import BackendSettings
from redisai_engine.backends.torch_script import TorchScript, compile_script
from redisai_engine.service.scripts import Scripts
from redisai_engine.service.watch import KeyWatch


@pytest.fixture(scope="module")
def script() -> TorchScript:
    return compile_script("", (), "CPU", BackendSettings())


@pytest.fixture
def watch() -> Iterator[KeyWatch]:
    loop = asyncio.new_event_loop()
    yield KeyWatch(loop)
    loop.close()


def test_the_least_recently_used_leaves(script: TorchScript, watch: KeyWatch) -> None:
    kept = Scripts(watch, limit=250 * 1024)
    for name in (b"1", b"2", b"3"):
        kept.keep(0, name, name, script, 10)
    assert kept.compiled(0, b"1", b"1") is script

    kept.keep(0, b"4", b"4", script, 10)

    assert kept.compiled(0, b"1", b"1") is script
    assert kept.compiled(0, b"2", b"2") is None
    assert kept.compiled(0, b"4", b"4") is script


def test_a_key_has_one_version(script: TorchScript, watch: KeyWatch) -> None:
    kept = Scripts(watch)
    kept.keep(0, b"key", b"old", script, 10)
    kept.keep(1, b"key", b"old", script, 10)

    kept.keep(0, b"key", b"new", script, 10)

    assert kept.compiled(0, b"key", b"old") is None
    assert kept.compiled(0, b"key", b"new") is script
    assert kept.compiled(1, b"key", b"old") is script


def test_what_is_deleted_leaves(script: TorchScript, watch: KeyWatch) -> None:
    kept = Scripts(watch)
    kept.keep(0, b"key", b"id", script, 10)

    kept.drop(0, b"key")

    assert kept.compiled(0, b"key", b"id") is None
