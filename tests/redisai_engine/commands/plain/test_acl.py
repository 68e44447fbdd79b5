"""The right to an AI command is the right to the plain commands that it consists of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from redisai_engine.commands.table import COMMANDS
from redisai_engine.protocol.frames import ReplyError
from support.servers import Server
from support.tiny_models import product_and_sum
from support.wire import Wire

REQUESTS = {
    "AI.TENSORSET": "rights:t FLOAT 1 2 VALUES 1 2",
    "AI.TENSORGET": "rights:t VALUES",
    "AI.MODELSTORE": "rights:m ONNX CPU BLOB <blob>",
    "AI.MODELSET": "rights:m ONNX CPU BLOB <blob>",
    "AI.MODELGET": "rights:m",
    "AI.MODELEXECUTE": "rights:m INPUTS 2 rights:t rights:t OUTPUTS 2 rights:c rights:d",
    "AI.MODELRUN": "rights:m INPUTS rights:t rights:t OUTPUTS rights:c rights:d",
    "AI.DAGEXECUTE": "LOAD 1 rights:t PERSIST 1 c |> AI.MODELEXECUTE rights:m INPUTS 2 rights:t rights:t OUTPUTS 2 c d",
    "AI.DAGEXECUTE_RO": "LOAD 1 rights:t ROUTING rights:r |> AI.TENSORGET rights:t",
    "AI.DAGRUN": "LOAD 1 rights:t |> AI.MODELRUN rights:m INPUTS rights:t rights:t OUTPUTS c d",
    "AI.DAGRUN_RO": "|> AI.TENSORSET x FLOAT 1 VALUES 1",
    "AI._MODELSCAN": "",
    "AI._MODELID": "rights:m",
    "AI.INFO": "rights:m",
    "AI.CONFIG": "GET MODEL_CHUNK_SIZE",
    "AI.MODELDEL": "rights:m",
}


@pytest.fixture
def wire(engine: Server) -> Iterator[Wire]:
    """A connection of the default user; a tensor and a model are stored."""
    blob = product_and_sum("ONNX").blob
    with Wire(engine.port) as wire:
        assert wire.ask("AI.TENSORSET", "rights:t", "FLOAT", 1, 2, "VALUES", 1, 2) == b"OK"
        assert wire.ask("AI.MODELSTORE", "rights:m", "ONNX", "CPU", "BLOB", blob) == b"OK"
        yield wire
        wire.ask("ACL", "DELUSER", "limited")


@pytest.mark.parametrize("name", REQUESTS)
def test_a_command_needs_just_what_it_is_made_of(engine: Server, wire: Wire, name: str):
    rights = [f"+{command.lower()}" for command in COMMANDS[name.encode()].made_of]
    words = [product_and_sum("ONNX").blob if word == "<blob>" else word for word in REQUESTS[name].split()]
    assert wire.ask("ACL", "SETUSER", "limited", "reset", "on", ">pw", "~*", *rights) == b"OK"

    with Wire(engine.port) as user:
        assert user.ask("AUTH", "limited", "pw") == b"OK"
        reply = user.raw(name, *words)
        assert not reply.startswith(b"-"), reply
        assert b"NOPERM" not in reply


def test_every_command_of_the_table_is_tried_above():
    """Except for streams, which only Python models have (`execution/test_streams.py`)."""
    assert {name.decode() for name in COMMANDS if b"SCRIPT" not in name and b"STREAM" not in name} == set(REQUESTS)


@pytest.mark.parametrize("name", sorted(REQUESTS.keys() - {"AI.CONFIG", "AI.DAGRUN_RO"}))
def test_without_those_rights_redis_refuses_it(engine: Server, wire: Wire, name: str):
    words = [product_and_sum("ONNX").blob if word == "<blob>" else word for word in REQUESTS[name].split()]
    wire.ask("ACL", "SETUSER", "limited", "reset", "on", ">pw", "~*", "+ping")

    with Wire(engine.port) as user:
        user.ask("AUTH", "limited", "pw")
        reply = user.raw(name, *words)

    assert reply.startswith(b"-NOPERM")
    assert wire.ask("TYPE", "rights:m") == b"AI__MODEL"


@pytest.mark.parametrize(
    ("rule", "explanation"),
    [
        ("+ai.tensorget", "; AI.TENSORGET is made of GET, GETRANGE)"),
        ("-AI.MODELDEL", "; AI.MODELDEL is made of EXISTS, HDEL)"),
        ("+ai.nope", "the plain commands that it is made of)"),
        ("+@ai", "the plain commands that it is made of)"),
    ],
)
@pytest.mark.parametrize("server", ["engine", "engine_on_6"])
def test_a_rule_that_names_ai_commands_is_explained(
    server: str, rule: str, explanation: str, request: pytest.FixtureRequest
):
    with Wire(request.getfixturevalue(server).port) as wire:
        reply = wire.ask("ACL", "SETUSER", "nobody", "on", rule)

    assert isinstance(reply, ReplyError)
    assert reply.text.startswith(
        f"ERR Error in ACL SETUSER modifier '{rule}': Unknown command or category name in ACL ("
    )
    assert reply.text.endswith(explanation)


def test_a_rule_in_a_selector_is_explained_too(engine: Server):
    with Wire(engine.port) as wire:
        reply = wire.ask("ACL", "SETUSER", "nobody", "(+ai.tensorget ~x)")

    assert isinstance(reply, ReplyError)
    assert reply.text.endswith("; AI.TENSORGET is made of GET, GETRANGE)")


def test_other_rules_and_their_errors_are_redis_own(engine: Server, redis_server: Server):
    with Wire(engine.port) as wire, Wire(redis_server.port) as plain:
        for rules in (["+nope"], ["+get", "~ai.*"], [">+ai.x"], ["+@airline"]):
            assert wire.raw("ACL", "SETUSER", "nobody", *rules) == plain.raw("ACL", "SETUSER", "nobody", *rules)
        for server in (wire, plain):
            assert server.ask("ACL", "DELUSER", "nobody") == 1


def test_the_page_names_what_each_command_is_made_of():
    page = (Path(__file__).parents[4] / "docs" / "engine" / "compatibility.md").read_text()
    rows = [set(re.findall(r"[\w.]+", line)) for line in page.splitlines() if line.startswith("| AI.")]

    for command in COMMANDS.values():
        told = set().union(*(row for row in rows if command.name in row))
        assert set(command.made_of) - {"PING"} <= told, command.name
