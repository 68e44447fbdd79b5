"""What storing a model or a script checks before anything is compiled or loaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redisai_engine.protocol.frames import ReplyError
from support.servers import Server
from support.wire import Wire

BROKEN = [
    ("AI.SCRIPTSET", "key", "CPU", "SOURCE", "no script"),
    ("AI.SCRIPTSTORE", "key", "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", "no script"),
    ("AI.MODELSTORE", "key", "ONNX", "CPU", "BLOB", "no model"),
    ("AI.MODELSET", "key", "ONNX", "CPU", "BLOB", "no model"),
]
OOM = ReplyError("OOM command not allowed when used memory > 'maxmemory'.")


@pytest.fixture
def full(engine: Server) -> Iterator[Wire]:
    """A connection to a server that has no memory left."""
    with Wire(engine.port) as wire:
        wire.ask("CONFIG", "SET", "maxmemory", 1)
        yield wire
        wire.ask("CONFIG", "SET", "maxmemory", 0)


@pytest.mark.parametrize("request_", BROKEN, ids=[str(request_[0]) for request_ in BROKEN])
def test_out_of_memory_is_told_before_what_is_stored_is_looked_at(full: Wire, request_: tuple[str | int, ...]) -> None:
    assert full.ask(*request_) == OOM


@pytest.mark.parametrize("request_", BROKEN, ids=[str(request_[0]) for request_ in BROKEN])
def test_the_check_leaves_nothing_behind(engine: Server, request_: tuple[str | int, ...]) -> None:
    with Wire(engine.port) as wire:
        answer = wire.ask(*request_)

        assert isinstance(answer, ReplyError)
        assert not answer.text.startswith("ERR wrong number of arguments")
        assert wire.ask("EXISTS", "key") == 0


@pytest.mark.parametrize("request_", BROKEN, ids=[str(request_[0]) for request_ in BROKEN])
def test_inside_multi_too(full: Wire, request_: tuple[str | int, ...]) -> None:
    full.ask("MULTI")

    assert full.ask(*request_) == OOM

    assert isinstance(full.ask("EXEC"), ReplyError)
