"""The program that only waits answers canned bytes, after Redis has carried out what they stand for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import redis

from bench import servers
from bench.waiting import Canned, reply_to, waiting
from redisai_engine.protocol.replies import command


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_it_answers_when_redis_has(tmp_path: Path) -> None:
    canned = {"SAY": Canned(b"$5\r\nhello\r\n"), "KEEP": Canned(b"+kept\r\n", command(b"SET", b"k", b"v"), 100)}

    with servers.plain_redis(tmp_path) as plain, waiting(tmp_path / "waiting", tmp_path, canned) as program:
        assert reply_to(program.port, ["SAY"]) == b"$5\r\nhello\r\n"
        with redis.Redis(port=program.port, protocol=2) as client, redis.Redis(port=plain.port) as own:
            assert client.execute_command("KEEP", "x") == b"kept"
            assert own.get("k") == b"v"
            assert client.execute_command("ELSE") == b"OK"
