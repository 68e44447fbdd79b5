"""A Redis that is silent isn't waited for without end, and one that is only slow isn't taken for silent."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from support.connection import Connect, Connection
from support.gateway import MISSING, Pair, model_blob, predict, prediction, store_model
from support.replies import OK, bulk, bulks, integer
from support.servers import Server
from support.waiting import wait_until

SILENT = (
    "-ERR Redis hasn't answered anything for %d ms (see --upstream-timeout); it may still carry out what it was sent"
)


def silent(timeout_ms: int) -> bytes:
    return (SILENT % timeout_ms + "\r\n").encode()


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


WAITING = {
    "a plain command": (["GET k"], 1),
    "a pipeline": (["GET k", "AI.TENSORSET t FLOAT 1 VALUES 1"], 2),
    "a tensor": (["AI.TENSORGET t VALUES"], 1),
    "a model": ([("AI.MODELSTORE", "m2", "ONNX", "CPU", "BLOB", model_blob("Add"))], 1),
    "a prediction": ([prediction("unseen", 1, 2)], 1),
    "a command that blocks": (["BLPOP nothing 0"], 1),
    "the begin of a transaction": (["MULTI"], 1),
    "a subscription": (["SUBSCRIBE channel"], 1),
}


def test_whoever_waits_for_a_stopped_redis_gets_an_error(new_pair: Callable[..., Pair], connect: Connect) -> None:
    pair = new_pair("--upstream-timeout", "500")
    wires = {what: connect(pair.engine) for what in WAITING}
    for wire in wires.values():
        assert wire.ask("SET k 0") == OK

    with stopped(pair.redis):
        for what, (commands, _) in WAITING.items():
            wires[what].send(*commands)
        answers = {what: wires[what].replies(count) for what, (_, count) in WAITING.items()}
        ended = {what: wire.ends() for what, wire in wires.items()}

    assert {what: [silent(500)] * count for what, (_, count) in WAITING.items()} == answers
    assert all(ended.values()), ended


def test_a_client_that_comes_meanwhile_gets_the_error_too(new_pair: Callable[..., Pair], connect: Connect) -> None:
    pair = new_pair("--upstream-timeout", "300")

    with stopped(pair.redis):
        assert [connect(pair.engine).ask("GET k") for _ in range(3)] == [silent(300)] * 3


def test_everything_works_again_when_redis_goes_on(new_pair: Callable[..., Pair], connect: Connect) -> None:
    """An idle connection lives on, with its transaction; what waited is never answered by replies that come late."""
    pair = new_pair("--upstream-timeout", "300")
    idle, waiting = connect(pair.engine), connect(pair.engine)
    store_model(idle, "m")
    assert predict(idle, "m", 1, 2) == 3
    assert [idle.ask("MULTI"), idle.ask("INCR n")] == [OK, b"+QUEUED\r\n"]
    assert waiting.ask("SET k before") == OK

    with stopped(pair.redis):
        assert waiting.ask("GET k") == silent(300)
        assert waiting.ends()

    fresh = wait_until(lambda: _answered(connect(pair.engine)))
    assert [fresh.ask("SET k after"), fresh.ask("GET k")] == [OK, bulk("after")]
    assert predict(fresh, "m", 2, 2) == 4
    assert idle.ask("EXEC") == b"*1\r\n:1\r\n"
    log = pair.engine.logged("answers again")
    assert log.count("hasn't answered anything for 300 ms (upstream-timeout)") == 1
    assert log.count("answers again") == 1


def _answered(wire: Connection) -> Connection | None:
    return wire if wire.ask("PING") == b"+PONG\r\n" else None


def test_a_transaction_that_was_waited_for_is_over(new_pair: Callable[..., Pair], connect: Connect) -> None:
    pair = new_pair("--upstream-timeout", "300")
    wire = connect(pair.engine)
    assert wire.ask("MULTI") == OK

    with stopped(pair.redis):
        assert wire.ask("INCR n") == silent(300)
        assert wire.ends()

    fresh = wait_until(lambda: _answered(connect(pair.engine)))
    assert [fresh.ask("GET n"), fresh.ask("EXEC")] == [b"$-1\r\n", b"-ERR EXEC without MULTI\r\n"]


def test_a_model_that_was_known_is_asked_for_again(new_pair: Callable[..., Pair], connect: Connect) -> None:
    """While Redis was silent, the engine can't have been told that the model was deleted."""
    pair = new_pair("--upstream-timeout", "300")
    wire = connect(pair.engine)
    store_model(wire, "m")
    wait_until(lambda: b"tracking_clients:1" in connect(pair.redis).ask("INFO clients"))
    assert [predict(wire, "m", 1, 2) for _ in range(5)] == [3] * 5

    with stopped(pair.redis):
        assert wait_until(lambda: _refusal(connect(pair.engine), "m")) == silent(300)

    wait_until(lambda: _answered(connect(pair.engine)))
    assert connect(pair.redis).ask("DEL m") == integer(1)
    wait_until(lambda: predict(connect(pair.engine), "m", 1, 2) == MISSING)


def _refusal(wire: Connection, key: str) -> bytes | None:
    answer = predict(wire, key, 1, 2)
    return answer if isinstance(answer, bytes) else None


PATIENT = ["--upstream-timeout", "200"]

# What each waits for lasts several times as long as a silent Redis is waited for.
SLOW = {
    "BLPOP": ("BLPOP nothing 1.5", b"*-1\r\n"),
    "WAIT": ("WAIT 5 1500", integer(0)),
    "XREAD": ("XREAD BLOCK 1500 STREAMS nothing $", b"*-1\r\n"),
    "DEBUG": ("DEBUG SLEEP 1.5", OK),
}


@pytest.mark.parametrize("what", SLOW)
def test_a_slow_command_gets_its_reply(new_pair: Callable[..., Pair], connect: Connect, what: str) -> None:
    command, reply = SLOW[what]
    pair = new_pair(*PATIENT, redis=("--enable-debug-command", "yes"))
    wire = connect(pair.engine)

    assert wire.ask(command) == reply
    assert wire.ask("SET k 1") == OK


def test_a_pause_of_all_clients_is_waited_for(new_pair: Callable[..., Pair], connect: Connect) -> None:
    pair = new_pair(*PATIENT)
    wire = connect(pair.engine)
    assert wire.ask("CLIENT PAUSE 1500") == OK

    assert wire.ask("SET k 1") == OK
    assert "upstream-timeout" not in pair.engine.log.read_text()


def test_a_long_script_is_waited_for(new_pair: Callable[..., Pair], connect: Connect) -> None:
    """Redis answers that it is busy, which is an answer."""
    pair = new_pair(*PATIENT, redis=("--lua-time-limit", "20"))
    wire, other = connect(pair.engine), connect(pair.engine)
    slow = (
        "local t = redis.call('TIME'); local till = t[1] * 1000000 + t[2] + 1500000\n"
        "repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > till\nreturn 'done'"
    )
    wire.send(("EVAL", slow, "0"))

    assert wait_until(lambda: _busy(other)).startswith(b"-BUSY")
    assert wire.reply() == bulk("done")


def _busy(wire: Connection) -> bytes | None:
    reply = wire.ask("GET k")
    return reply if reply.startswith(b"-") else None


def test_messages_and_monitor_are_waited_for(new_pair: Callable[..., Pair], connect: Connect) -> None:
    """Nothing is due to a subscriber, so a stopped Redis doesn't end it, and it gets what comes later."""
    pair = new_pair(*PATIENT)
    subscriber, monitor, waiting = (connect(pair.engine) for _ in range(3))
    assert subscriber.ask("SUBSCRIBE c") == b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    assert monitor.ask("MONITOR") == OK

    with stopped(pair.redis):
        assert waiting.ask("GET k") == silent(200)
    wait_until(lambda: _answered(connect(pair.engine)))

    connect(pair.engine).ask("PUBLISH c hello")
    assert subscriber.reply() == bulks("message", "c", "hello")
    wait_until(lambda: b'"PUBLISH" "c"' in monitor.reply())


def test_redis_is_asked_only_while_somebody_waits(new_pair: Callable[..., Pair], connect: Connect) -> None:
    pair = new_pair("--upstream-timeout", "100")
    wire, direct = connect(pair.engine), connect(pair.redis)
    wait_until(lambda: b"tracking_clients:1" in direct.ask("INFO clients"))
    assert wire.ask("SET k 1") == OK
    before = connections(direct)

    assert direct.ask("BLPOP nothing 1") == b"*-1\r\n"  # while the engine's client is idle
    idle = connections(direct)
    assert wire.ask("BLPOP nothing 1") == b"*-1\r\n"

    assert idle == before
    assert connections(direct) > idle


def connections(direct: Connection) -> int:
    return int(direct.ask("INFO stats").split(b"total_connections_received:")[1].split(b"\r\n")[0])


def test_without_a_timeout_all_wait_on(
    new_pair: Callable[..., Pair], new_engine: Callable[..., Server], connect: Connect
) -> None:
    """A second engine shows when the time has long been over."""
    pair = new_pair("--upstream-timeout", "0")
    patient, impatient = connect(pair.engine), new_engine("--redis", pair.redis.url, "--upstream-timeout", "300")

    with stopped(pair.redis):
        patient.send("SET k 1")
        assert connect(impatient).ask("GET k") == silent(300)

    assert patient.reply() == OK
