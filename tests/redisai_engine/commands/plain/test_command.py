"""COMMAND reports AI commands in the form in which the Redis behind the engine reports its own."""

from __future__ import annotations

import pytest

import redisai_engine.commands.ai
import redisai_engine.commands.plain  # noqa: F401  # registers all commands in the table
from redisai_engine.commands.table import COMMANDS
from redisai_engine.protocol.frames import ReplyError
from support.servers import Server
from support.wire import Wire

NAMES = {row.name.lower().encode() for row in COMMANDS.values()}


def names(rows: object) -> list[bytes | None]:
    assert isinstance(rows, list)
    return [row and row[0] for row in rows]


def test_info_keeps_the_order_of_a_mixed_list(engine: Server):
    with Wire(engine.port) as wire:
        rows = wire.ask("COMMAND", "INFO", "get", "ai.tensorget", "nope", "AI.MODELEXECUTE", "ai.nope", "set")

    assert names(rows) == [b"get", b"ai.tensorget", None, b"ai.modelexecute", None, b"set"]


def test_info_of_redis_6_is_shorter(engine_on_6: Server):
    with Wire(engine_on_6.port) as wire:
        rows = wire.ask("COMMAND", "INFO", "get", "ai.modelexecute", "ai._modelscan")

    assert isinstance(rows, list)
    assert rows[1:] == [
        [b"ai.modelexecute", -1, [b"write", b"denyoom", b"movablekeys"], 4, 4, 1, []],
        [b"ai._modelscan", -1, [b"readonly"], 0, 0, 0, []],
    ]


_SEARCH = b"$12\r\nbegin_search"


def test_info_over_resp3_has_sets_and_maps(engine: Server):
    with Wire(engine.port, protocol=3) as wire:
        raw = wire.raw("COMMAND", "INFO", "AI.TENSORGET")
        plain = wire.raw("COMMAND", "INFO", "GET")

    assert raw.startswith(
        b"*1\r\n*10\r\n$12\r\nai.tensorget\r\n:-1\r\n~2\r\n+readonly\r\n+module\r\n:1\r\n:1\r\n:1\r\n~0\r\n~0\r\n~1"
    )
    assert b"%3\r\n$5\r\nflags\r\n~3\r\n+RW\r\n+access\r\n+update\r\n$12\r\nbegin_search\r\n%2\r\n" in raw
    no_subcommands = len(b"~0\r\n")  # a list to Valkey
    assert raw[raw.index(_SEARCH) : -no_subcommands] == plain[plain.index(_SEARCH) : -no_subcommands]


def test_all_commands_are_listed_and_counted(engine: Server, redis_server: Server):
    with Wire(engine.port) as wire, Wire(redis_server.port) as plain:
        for listing in (("COMMAND",), ("COMMAND", "INFO")):
            assert set(names(wire.ask(*listing))) == {*names(plain.ask(*listing)), *NAMES}
        assert wire.ask("COMMAND", "COUNT") == len(names(wire.ask("COMMAND")))


def test_all_commands_are_listed_and_counted_in_front_of_redis_6(engine_on_6: Server):
    """In Redis 6, COMMAND INFO without names is an empty list, and LIST and DOCS are unknown."""
    with Wire(engine_on_6.port) as wire:
        rows = wire.ask("COMMAND")
        assert set(names(rows)) > NAMES
        assert isinstance(rows, list)
        assert {len(row) for row in rows if isinstance(row, list)} == {7}
        assert wire.ask("COMMAND", "COUNT") == len(rows)
        assert wire.ask("COMMAND", "INFO") == []
        for subcommand in ("LIST", "DOCS"):
            assert isinstance(wire.ask("COMMAND", subcommand), ReplyError)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (
            "MODULE ai",
            NAMES - {b"ai._modelid", b"ai.modelstream", b"ai.streamnext", b"ai.streamend"},
        ),  # the engine's own
        ("MODULE AI", set()),  # names of modules are case-sensitive
        ("PATTERN AI.*", NAMES),
        ("PATTERN ai.tensor?et", {b"ai.tensorset", b"ai.tensorget"}),
        ("PATTERN ai.tensor[^g]et", {b"ai.tensorset"}),
        ("PATTERN ech*", {b"echo"}),
        ("ACLCAT ai", set()),  # a module's commands are in no category
    ],
)
def test_list_takes_conditions(engine: Server, condition: str, expected: set[bytes]):
    with Wire(engine.port) as wire:
        reply = wire.ask("COMMAND", "LIST", "FILTERBY", *condition.split())

    assert isinstance(reply, list)
    assert set(reply) == expected


def test_list_without_conditions_and_wrong_ones(engine: Server, redis_server: Server):
    with Wire(engine.port) as wire, Wire(redis_server.port) as plain:
        assert set(wire.ask("COMMAND", "LIST")) == {*plain.ask("COMMAND", "LIST"), *NAMES}  # type: ignore[misc, arg-type]
        for wrong in (("FILTERBY", "MODULE"), ("FILTERBY", "FOO", "x"), ("FOO",), ("FILTERBY", "MODULE", "ai", "x")):
            assert wire.raw("COMMAND", "LIST", *wrong) == plain.raw("COMMAND", "LIST", *wrong)


def test_docs_tell_summary_group_and_module(engine: Server):
    with Wire(engine.port) as wire:
        docs = wire.ask("COMMAND", "DOCS", "ai.tensorget", "nope", "echo")
        everything = wire.ask("COMMAND", "DOCS")

    assert isinstance(docs, list)
    by_name = dict(zip(docs[::2], docs[1::2], strict=True))
    assert set(by_name) == {b"echo", b"ai.tensorget"}
    assert by_name[b"ai.tensorget"] == [b"summary", b"Reads a tensor", b"group", b"module", b"module", b"ai"]
    assert isinstance(everything, list)
    assert set(everything[::2]) > NAMES


@pytest.mark.parametrize("server", ["engine", "engine_on_6"])
def test_getkeys_and_its_errors(server: str, request: pytest.FixtureRequest):
    with Wire(request.getfixturevalue(server).port) as wire:
        assert wire.ask("COMMAND", "GETKEYS", "ai.modelexecute", "m", "INPUTS", 1, "a", "OUTPUTS", 0) == [b"m", b"a"]
        assert wire.ask("COMMAND", "GETKEYS", "SET", "k", "v") == [b"k"]
        for request_, error in [
            ("AI.CONFIG GET x", "ERR The command has no key arguments"),
            ("AI.MODELEXECUTE m", "ERR Invalid arguments specified for command"),
            ("AI.NOPE m", "ERR Invalid command specified"),
        ]:
            assert wire.ask("COMMAND", "GETKEYS", *request_.split()) == ReplyError(error)


def test_getkeysandflags_gives_each_key_the_flags_of_a_module_key(engine: Server):
    with Wire(engine.port) as wire:
        reply = wire.ask("COMMAND", "GETKEYSANDFLAGS", "AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 0)

    assert reply == [[key, [b"RW", b"access", b"update"]] for key in (b"m", b"a")]


def test_who_may_not_ask_redis_about_commands_may_not_ask_about_ours(engine: Server):
    with Wire(engine.port) as wire:
        wire.ask("ACL", "SETUSER", "unasked", "reset", "on", ">pw", "~*", "+@all", "-command")
        with Wire(engine.port) as user:
            user.ask("AUTH", "unasked", "pw")
            for question in ("GETKEYS AI.TENSORGET t", "INFO AI.TENSORGET", "COUNT", "LIST FILTERBY MODULE ai", "DOCS"):
                reply = user.ask("COMMAND", *question.split())
                assert isinstance(reply, ReplyError)
                assert reply.text.startswith("NOPERM")
        wire.ask("ACL", "DELUSER", "unasked")


def test_inside_multi_the_answers_stand_in_execs_reply(engine: Server):
    with Wire(engine.port) as wire:
        wire.ask("MULTI")
        assert wire.ask("COMMAND", "GETKEYS", "AI.TENSORGET", "t") == b"QUEUED"
        assert wire.ask("COMMAND", "INFO", "AI.TENSORGET") == b"QUEUED"
        reply = wire.ask("EXEC")

    assert isinstance(reply, list)
    assert reply[0] == [b"t"]
    assert names(reply[1]) == [b"ai.tensorget"]
