"""AI.CONFIG and AI.INFO: which users get an answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.servers import Server
from support.tiny_models import product_and_sum
from support.wire import Wire

CHANGES = ["MODEL_CHUNK_SIZE 1000", "BACKENDSPATH /nowhere", "LOADBACKEND ONNX /nowhere"]


@pytest.fixture
def guarded(new_redis: Callable[..., Server], new_engine: Callable[..., Server]) -> Server:
    """An engine in front of a Redis that requires a password."""
    redis = new_redis("--requirepass", "secret")
    return new_engine("--redis", f"redis://:secret@127.0.0.1:{redis.port}")


def test_who_is_not_let_in_gets_no_answer_and_changes_nothing(guarded: Server):
    blob = product_and_sum("ONNX").blob
    requests: list[tuple[str | bytes, ...]] = [
        *(("AI.CONFIG", *change.split()) for change in ("GET MODEL_CHUNK_SIZE", "GET FOO", "FOO", *CHANGES)),
        ("AI.TENSORSET", "t", "FLOAT", "1", "VALUES", "1"),
        ("AI.TENSORGET", "t"),
        ("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", blob),
        ("AI.MODELGET", "m"),
        ("AI._MODELSCAN",),
        ("AI.INFO", "m"),
        ("AI.DAGRUN", "|>", "AI.TENSORSET", "x", "FLOAT", "1", "VALUES", "1"),
        ("AI.DAGRUN_RO", "|>", "AI.TENSORSET", "x", "FLOAT", "1", "VALUES", "1"),
        ("COMMAND", "GETKEYS", "AI.TENSORGET", "t"),
        ("MODULE", "LIST"),
        ("INFO", "ai_versions"),
        ("SCAN", "0", "TYPE", "AI_TENSOR"),
    ]
    with Wire(guarded.port) as stranger, Wire(guarded.port) as known:
        for request in requests:
            reply = stranger.raw(*request)
            assert reply.startswith((b"-NOAUTH", b"-ERR cannot find run info")), (request[0], reply)

        assert known.ask("AUTH", "secret") == b"OK"
        assert known.ask("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE") == 535822336
        assert known.ask("DBSIZE") == 0


@pytest.mark.parametrize("change", CHANGES)
def test_changing_a_setting_needs_the_right_to_redis_configuration(engine: Server, change: str):
    with Wire(engine.port) as wire, Wire(engine.port) as user:
        wire.ask("ACL", "SETUSER", "reader", "reset", "on", ">pw", "~*", "+@all", "-config")
        user.ask("AUTH", "reader", "pw")

        assert user.raw("AI.CONFIG", *change.split()).startswith(b"-NOPERM")
        assert user.ask("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE") == 535822336

        wire.ask("ACL", "DELUSER", "reader")


def test_a_setting_can_be_changed_inside_multi(engine: Server):
    with Wire(engine.port) as wire:
        wire.ask("MULTI")
        wire.ask("AI.CONFIG", "MODEL_CHUNK_SIZE", 1024)
        wire.ask("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE")
        wire.ask("AI.CONFIG", "MODEL_CHUNK_SIZE", 535822336)

        assert wire.ask("EXEC") == [b"OK", 1024, b"OK"]
