"""
A bug anywhere in one client's work ends that client's connection, or its command, and nothing else.

Every function that runs in the event loop for a mixed pipeline is found by running it. Then each of them raises once,
at its start, while a client sends that pipeline. That client must be answered in full or disconnected, never left
waiting, the log must have the traceback, and others must be served as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import uvloop

import redisai_engine
from redisai_engine.config import Settings
from redisai_engine.fronts.resp.front import RespFront
from redisai_engine.redis.address import Address
from redisai_engine.service.engine import Engine
from support.connection import Connection, connected, encoded
from support.gateway import modelstore, predict, prediction, store_model
from support.servers import start_redis

pytestmark = pytest.mark.slow

ROOT = Path(redisai_engine.__file__).parent
FOLDERS = ("commands", "fronts", "protocol", "redis", "service")

#: Where an exception at the very start can't be met, because it is how everything else is met.
EXEMPT = {
    "service/turn.py": {"_end", "_fail", "_abort", "plan", "_stay_awake"},
    "fronts/resp/front.py": {"_session"},
    "fronts/resp/session.py": {"connection_made", "fail", "abort", "_refuse"},
    "commands/task.py": {"_fail", "end"},
    "redis/upstream.py": {"_open", "connection_made", "_fail", "_lost"},
    "service/loading.py": {"<lambda>"},
    "service/encoding.py": {"<lambda>", "result_of", "deliver"},
    "service/polling.py": {"_poll", "turn_ended"},
}

REQUESTS: list[bytes] = [
    *map(encoded, ["PING", "SET injected:k v", "GET injected:k", "SELECT 0", "HELLO 2"]),
    encoded("AI.TENSORSET injected:t FLOAT 2 VALUES 1 2"),
    encoded("AI.TENSORGET injected:t VALUES"),
    encoded("AI.TENSORGET injected:t META"),
    encoded("AI.TENSORGET injected:missing"),
    encoded("AI.MODELGET injected:m META"),
    encoded("AI.INFO injected:m"),
    *[prediction("injected:m", 1, 2)] * 3,
    encoded("AI.MODELEXECUTE injected:m INPUTS 2 injected:t injected:t OUTPUTS 1 injected:y"),
    encoded(
        "AI.DAGEXECUTE LOAD 1 injected:t PERSIST 1 y |> AI.MODELEXECUTE injected:m INPUTS 2 injected:t injected:t"
        " OUTPUTS 1 y |> AI.TENSORGET y VALUES"
    ),
    *map(encoded, ["MULTI", "SET injected:k w", "AI.TENSORSET injected:u FLOAT 1", "EXEC"]),
    modelstore("injected:new"),
    encoded("AI.MODELDEL injected:new"),
    encoded(("SET", "injected:large", b"x" * 100_000)),
    encoded("GET injected:large"),
    encoded("RESET"),
    encoded("PING"),
]


class Injected(Exception):
    """Raised in place of a function."""


@dataclass
class LocalEngine:
    """An engine in a thread of this process, so that a function in it can be made to raise."""

    port: int
    loop: asyncio.AbstractEventLoop
    host: str = "127.0.0.1"

    def trace(self, tracer: Callable[..., Any] | None) -> None:
        """Have the event loop's thread call `tracer` at the start of every function, and return when it does."""
        done = threading.Event()

        def begin() -> None:
            sys.settrace(tracer)
            done.set()

        self.loop.call_soon_threadsafe(begin)
        assert done.wait(10)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    redis = start_redis(tmp_path_factory.mktemp("behind"))
    started: list[LocalEngine] = []
    ready, stop = threading.Event(), asyncio.Event()
    loop = uvloop.new_event_loop()

    async def serve() -> None:
        shared = Engine(Settings(port=0), Address(port=redis.port), loop)
        front = RespFront(shared)
        _, port = await front.listen(Settings(port=0), shared=False, most_clients=1000)
        started.append(LocalEngine(port, loop))
        ready.set()
        await stop.wait()
        await front.drain(30)
        await shared.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(20)
    yield started[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    loop.close()
    redis.stop()


def converse(engine: LocalEngine) -> list[bytes]:
    """Send all requests in two writes. Return the replies, fewer than the requests if the connection ended."""
    replies: list[bytes] = []
    with connected(engine) as wire:  # type: ignore[arg-type]
        wire.socket.settimeout(5)
        middle = len(REQUESTS) // 2
        with contextlib.suppress(ConnectionError, AssertionError):
            for part in (REQUESTS[:middle], REQUESTS[middle:]):
                wire.send(*part)
                for _ in part:
                    replies.append(wire.reply())
    return replies


def functions_called(engine: LocalEngine) -> dict[CodeType, str]:
    """Return the functions of the engine that the loop calls for the requests, each with its name."""
    found: dict[CodeType, str] = {}

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        path = Path(code.co_filename)
        if code not in found and ROOT in path.parents:
            place = path.relative_to(ROOT)
            exempt = {"<genexpr>", *EXEMPT.get(place.as_posix(), ())}  # which belongs to the function around it
            if place.parts[0] in FOLDERS and code.co_name not in exempt:
                found[code] = f"{place.as_posix()}:{code.co_firstlineno} {code.co_name}"

    engine.trace(note)
    answers = converse(engine)
    engine.trace(None)
    assert len(answers) == len(REQUESTS)
    return found


def failing(code: CodeType, at: int, raised: list[FrameType]) -> Callable[..., Any]:
    """Return a trace function that raises at the `at`-th call of a function."""
    calls = 0

    def tracer(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if frame.f_code is code:
            calls += 1
            if calls == at:  # Python stops tracing when a trace function raises
                raised.append(frame)
                raise Injected(code.co_name)

    return tracer


@pytest.fixture
def bystander(engine: LocalEngine) -> Iterator[Connection]:
    """A connection that predicts all the time."""
    with connected(engine) as wire:  # type: ignore[arg-type]
        store_model(wire, "injected:m")
        assert predict(wire, "injected:m", 1, 2) == 3.0
        yield wire


@pytest.mark.timeout(900)
@pytest.mark.parametrize("at", [1, 2])
def test_what_fails_for_one_client_harms_no_other(
    engine: LocalEngine, bystander: Connection, caplog: pytest.LogCaptureFixture, at: int
):
    faults: list[str] = []
    functions = functions_called(engine)
    assert len(functions) > 100  # about 190; fewer where modules are compiled
    for code, name in functions.items():
        caplog.clear()
        raised: list[FrameType] = []
        engine.trace(failing(code, at, raised))
        try:
            converse(engine)
        except TimeoutError:
            faults.append(f"{name}: the client is left waiting")
        engine.trace(None)
        if raised and not any(_is_traceback(record) for record in caplog.records):
            faults.append(f"{name}: no traceback in the log")
        try:
            assert predict(bystander, "injected:m", 2, 3) == 5.0
            with connected(engine) as newcomer:  # type: ignore[arg-type]
                assert predict(newcomer, "injected:m", 3, 4) == 7.0
                assert newcomer.ask("GET injected:none") == b"$-1\r\n"
        except (AssertionError, OSError) as error:
            faults.append(f"{name}: others aren't served: {error!r}")
            break

    assert faults == [], "\n".join(faults)


def _is_traceback(record: logging.LogRecord) -> bool:
    return record.exc_info is not None and record.exc_info[0] is not None and issubclass(record.exc_info[0], Injected)
