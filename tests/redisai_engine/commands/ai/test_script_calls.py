"""A script's Redis commands run with the rights, in the database and in the order of the client that called it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from redisai_engine.protocol.frames import ReplyError
from support.gateway import Pair
from support.servers import Server
from support.tiny_models import product_and_sum
from support.torch_scripts import COMMAND, RUN_MODEL, entry_point, needs_torch
from support.wire import Wire

pytestmark = needs_torch

SLOW_INCR = entry_point(
    "slow_incr", "x = tensors[0]", "for i in range(int(args[0])):", "    x = x + 1", 'redis.execute("INCR", keys[0])'
)
NAMES = ("command", "run_model", "slow_incr")
SOURCE = COMMAND + RUN_MODEL + SLOW_INCR


@pytest.fixture
def wire(engine: Server) -> Iterator[Wire]:
    """A connection; a script with NAMES and a tensor are stored. Their keys are deleted after the test."""
    with Wire(engine.port) as wire:
        assert store(wire) == b"OK"
        yield wire
        wire.ask("DEL", "calls", "calls:a", "calls:k", "calls:m", "calls:c", "calls:d")


def store(wire: Wire) -> object:
    wire.ask("AI.TENSORSET", "calls:a", "FLOAT", 1, 2, "VALUES", 2, 3)
    return wire.ask("AI.SCRIPTSTORE", "calls", "CPU", "ENTRY_POINTS", len(NAMES), *NAMES, "SOURCE", SOURCE)


def execute(wire: Wire, *command: str) -> object:
    """Have a script carry out a Redis command."""
    return wire.ask("AI.SCRIPTEXECUTE", "calls", "command", "KEYS", 1, "calls:k", "ARGS", len(command), *command)


def error_in_script(reply: object) -> str:
    assert isinstance(reply, ReplyError)
    return reply.text.partition("Redis command returned an error: ")[2]


def slow_incr(loops: int) -> tuple[str | int, ...]:
    return ("AI.SCRIPTEXECUTE", "calls", "slow_incr", "KEYS", 1, "calls:k", "INPUTS", 1, "calls:a", "ARGS", 1, loops)


# -- whose command it is --------------------------------------------------------------------------


def test_it_is_done_in_the_database_that_the_client_selected(engine: Server):
    with Wire(engine.port) as wire:
        wire.ask("SELECT", 3)
        store(wire)

        assert execute(wire, "SET", "calls:k", "v") == b"OK"

        assert wire.ask("GET", "calls:k") == b"v"
        wire.ask("DEL", "calls", "calls:a", "calls:k")
        wire.ask("SELECT", 0)
        assert wire.ask("EXISTS", "calls:k") == 0


def test_it_needs_the_rights_of_the_client(engine: Server, wire: Wire):
    wire.ask("ACL", "SETUSER", "calling", "reset", "on", ">pw", "~calls", "~calls:k", "+@all", "-incr")

    with Wire(engine.port) as user:
        user.ask("AUTH", "calling", "pw")
        assert execute(user, "SET", "calls:k", "1") == b"OK"
        assert error_in_script(execute(user, "INCR", "calls:k")).startswith("NOPERM")
        assert error_in_script(execute(user, "GET", "calls:other")).startswith("NOPERM")

    assert wire.ask("ACL", "DELUSER", "calling") == 1
    assert wire.ask("GET", "calls:k") == b"1"


def test_a_model_needs_the_right_to_read_it(engine: Server, wire: Wire):
    wire.ask("AI.MODELSTORE", "calls:m", "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    wire.ask("ACL", "SETUSER", "calling", "reset", "on", ">pw", "~calls", "~calls:a", "~calls:c", "~calls:d", "+@all")
    run = ("AI.SCRIPTEXECUTE", "calls", "run_model", "KEYS", 1, "calls:m", "INPUTS", 2, "calls:a", "calls:a")
    run = (*run, "ARGS", 1, 2, "OUTPUTS", 2, "calls:c", "calls:d")

    assert wire.ask(*run) == b"OK"
    assert wire.ask("AI.TENSORGET", "calls:c", "VALUES") == [b"4", b"9"]
    with Wire(engine.port) as user:
        user.ask("AUTH", "calling", "pw")
        reply = user.ask(*run)

    assert wire.ask("ACL", "DELUSER", "calling") == 1
    assert isinstance(reply, ReplyError)
    assert "NOPERM" in reply.text


def test_what_the_client_sends_behind_the_call_comes_after_it(wire: Wire):
    wire.ask("SET", "calls:k", 0)

    wire.send(*slow_incr(20_000))
    wire.send("GET", "calls:k")
    wire.send("AI.DAGEXECUTE", "LOAD", 1, "calls:a", "|>", *slow_incr(20_000))
    wire.send("GET", "calls:k")

    assert [wire.receive() for _ in range(4)] == [b"+OK\r\n", b"$1\r\n1\r\n", b"*1\r\n+OK\r\n", b"$1\r\n2\r\n"]


def test_in_resp3_too(engine: Server, wire: Wire):
    with Wire(engine.port, protocol=3) as resp3:
        assert execute(resp3, "HSET", "calls:k", "f", "1.5") == b"OK"
        assert execute(resp3, "HGETALL", "calls:k") == b"OK"


# -- which commands -------------------------------------------------------------------------------


def test_ai_commands_are_carried_out_by_the_engine(wire: Wire):
    assert execute(wire, "AI.TENSORSET", "calls:k", "FLOAT", "1", "VALUES", "3") == b"OK"

    assert wire.ask("AI.TENSORGET", "calls:k", "VALUES") == [b"3"]


@pytest.mark.parametrize("command", ["AI.SCRIPTEXECUTE calls command INPUTS 1 a", "AI.DAGRUN |> AI.TENSORGET a x"])
def test_what_runs_models_or_scripts_is_refused(wire: Wire, command: str):
    refused = "ERR Cannot run RedisAI command within a transaction or a LUA script"

    assert error_in_script(execute(wire, *command.split())) == refused


@pytest.mark.parametrize(
    "command",
    [
        *("MULTI", "EXEC", "WATCH k", "SELECT 1", "AUTH pw", "HELLO 3", "RESET", "QUIT", "CLIENT REPLY OFF"),
        *("SUBSCRIBE c", "MONITOR", "BLPOP k 0", "XREAD BLOCK 0 STREAMS k $", "WAIT 1 0"),
    ],
)
def test_what_changes_or_blocks_the_connection_is_refused(wire: Wire, command: str):
    assert error_in_script(execute(wire, *command.lower().split())) == (
        "ERR This Redis command is not allowed from script"
    )
    assert wire.ask("PING") == b"PONG"


def test_a_model_that_a_script_replaces_is_replaced_at_once(wire: Wire):
    blob = product_and_sum("ONNX").blob
    wire.ask("AI.MODELSTORE", "calls:m", "ONNX", "CPU", "BLOB", blob)
    run = ("AI.MODELEXECUTE", "calls:m", "INPUTS", 2, "calls:a", "calls:a", "OUTPUTS", 2, "calls:c", "calls:d")
    assert wire.ask(*run) == b"OK"

    assert execute(wire, "DEL", "calls:m") == b"OK"

    assert wire.ask(*run) == ReplyError("ERR model key is empty")


# -- many, and ends -------------------------------------------------------------------------------


def test_many_clients_scripts_do_not_get_in_each_others_way(engine: Server, wire: Wire):
    wire.ask("SET", "calls:k", 0)

    def call(_: int) -> None:
        with Wire(engine.port) as client:
            for _ in range(20):
                assert client.ask(*slow_incr(1)) == b"OK"

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(call, range(8)))

    assert wire.ask("GET", "calls:k") == b"160"


@pytest.mark.slow
def test_a_script_ends_when_redis_is_lost(new_pair: Callable[..., Pair]):
    """The thread that runs it must not wait forever."""
    pair = new_pair()
    with Wire(pair.engine.port) as wire:
        store(wire)
        wire.send(*slow_incr(200_000))
        pair.redis.stop()
        with pytest.raises(ConnectionError):
            wire.receive()

    assert pair.engine.stop() == 0  # it waits for running scripts


def test_a_client_that_resets_its_connection_leaves_no_thread_behind(engine: Server, wire: Wire):
    dying = Wire(engine.port)
    dying.send(*slow_incr(20_000))
    dying._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    dying._socket.close()

    assert wire.ask(*slow_incr(1)) == b"OK"  # all scripts share one thread
