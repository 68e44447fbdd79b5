"""AI commands can't be called from Lua, and the error says so."""

from __future__ import annotations

import re

import pytest

from redisai_engine.protocol import texts
from redisai_engine.protocol.frames import ReplyError
from support.servers import Server
from support.wire import Wire


@pytest.mark.parametrize("server", ["engine", "engine_on_6"])
@pytest.mark.parametrize("call", ["redis.call('AI.TENSORGET', 't')", "redis.pcall('ai.modelget', 'm')"])
def test_the_error_says_what_to_do(server: str, call: str, request: pytest.FixtureRequest):
    with Wire(request.getfixturevalue(server).port) as wire:
        reply = wire.ask("EVAL", f"return {call}", 0)

    assert isinstance(reply, ReplyError)
    assert re.search("Unknown (Redis )?command called from", reply.text)
    assert reply.text.endswith(texts.NO_LUA)


def test_other_errors_of_scripts_are_redis_own(engine: Server, redis_server: Server):
    scripts = ["return redis.call('NOPE')", "return 'AI.' .. nothing", "return redis.error_reply('ERR AI.X')"]
    with Wire(engine.port) as wire, Wire(redis_server.port) as plain:
        for script in scripts:
            assert wire.raw("EVAL", script, 0) == plain.raw("EVAL", script, 0)


def test_scripts_that_only_speak_of_ai_commands_run(engine: Server):
    with Wire(engine.port) as wire:
        assert wire.ask("EVAL", "return {'AI.X', ARGV[1]}", 0, "y") == [b"AI.X", b"y"]
        wire.ask("MULTI")
        assert wire.ask("EVAL", "return 'ai.x'", 0) == b"QUEUED"
        assert wire.ask("EXEC") == [b"ai.x"]
