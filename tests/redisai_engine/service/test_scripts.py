"""The scripts in memory: their number is bounded, and the least recently used is evicted."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from redisai_engine.backends.base import BackendSettings
from redisai_engine.backends.torch_script import compile_script
from redisai_engine.service.scripts import Scripts


def test_the_least_recently_used_leaves():
    script = compile_script("", (), "CPU", BackendSettings())
    scripts = Scripts(limit=2)
    scripts.keep(b"1", script)
    scripts.keep(b"2", script)

    assert scripts.compiled(b"1") is script
    scripts.keep(b"3", script)

    assert scripts.compiled(b"1") is script
    assert scripts.compiled(b"2") is None
    assert scripts.compiled(b"3") is script
