"""Storing, reading, deleting and listing scripts, besides what the recorded conversations show."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from redisai_engine.commands.table import COMMANDS
from redisai_engine.protocol.frames import ReplyError
from support import dumps
from support.servers import Server
from support.torch_scripts import ADD, BOTH, needs_torch
from support.wire import Wire

WRONG_TYPE = ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")
MISSING = ReplyError("ERR script key is empty")
STORE_ADD = ("CPU", "ENTRY_POINTS", 1, "add", "SOURCE", ADD)


@pytest.fixture
def wire(engine: Server) -> Iterator[Wire]:
    """A connection whose keys are deleted after the test."""
    with Wire(engine.port) as wire:
        yield wire
        wire.ask("DEL", "script", "script:other", "script:a", "script:c")


def add(wire: Wire, key: str = "script") -> object:
    """Return what the script stored under the key makes of 2 and 2."""
    wire.ask("AI.TENSORSET", "script:a", "FLOAT", 1, "VALUES", 2)
    reply = wire.ask("AI.SCRIPTEXECUTE", key, "add", "INPUTS", 2, "script:a", "script:a", "OUTPUTS", 1, "script:c")
    return wire.ask("AI.TENSORGET", "script:c", "VALUES") if reply == b"OK" else reply


# -- storing --------------------------------------------------------------------------------------


@needs_torch
def test_words_behind_the_source_are_ignored(wire: Wire):
    assert wire.ask("AI.SCRIPTSTORE", "script", *STORE_ADD, "FOO", "BAR") == b"OK"


@needs_torch
def test_keywords_and_devices_in_any_letter_case(wire: Wire):
    assert wire.ask("ai.scriptstore", "script", "cpu:1", "tag", "t", "entry_points", 1, "add", "source", ADD) == b"OK"

    assert wire.ask("AI.SCRIPTGET", "script", "meta")[:4] == [b"device", b"cpu:1", b"tag", b"t"]  # type: ignore[index]
    assert add(wire) == [b"4"]


@needs_torch
def test_a_script_may_have_no_entry_points(wire: Wire):
    assert wire.ask("AI.SCRIPTSTORE", "script", "CPU", "TAG", "t", "ENTRY_POINTS", 0, "SOURCE", ADD) == b"OK"

    assert wire.ask("AI.SCRIPTGET", "script", "META") == [b"device", b"CPU", b"tag", b"t", b"Entry Points", []]


@pytest.mark.parametrize("count", [-1, 3, 2**62])
def test_a_number_of_entry_points_that_can_not_be(wire: Wire, count: int):
    reply = wire.ask("AI.SCRIPTSTORE", "script", "CPU", "TAG", "t", "ENTRY_POINTS", count, "add", "SOURCE")

    assert reply == ReplyError("ERR Insufficient arguments, missing script entry points")


def test_a_tag_of_scriptset_takes_two_words(wire: Wire):
    """RedisAI takes five or seven words, not six."""
    reply = wire.ask("AI.SCRIPTSET", "script", "CPU", "TAG", "SOURCE", ADD)

    assert reply == ReplyError("ERR wrong number of arguments for 'ai.scriptset' command")


@needs_torch
def test_storing_over_a_script_takes_the_new_one_and_the_time_to_live_off(wire: Wire):
    wire.ask("AI.SCRIPTSTORE", "script", "CPU", "ENTRY_POINTS", 1, "both", "SOURCE", BOTH)
    wire.ask("EXPIRE", "script", 100)

    assert wire.ask("AI.SCRIPTSTORE", "script", *STORE_ADD) == b"OK"

    assert add(wire) == [b"4"]
    assert wire.ask("TTL", "script") == -1


@needs_torch
@pytest.mark.parametrize("made", ["SET script v", "HSET script f v", "RPUSH script v"])
def test_a_key_of_another_kind_stays_as_it_is(wire: Wire, made: str):
    wire.ask(*made.split())
    before = wire.raw("DUMP", "script")

    assert wire.ask("AI.SCRIPTSTORE", "script", *STORE_ADD) == WRONG_TYPE
    assert wire.ask("AI.SCRIPTDEL", "script") == WRONG_TYPE
    assert wire.ask("AI.SCRIPTGET", "script") == WRONG_TYPE

    assert wire.raw("DUMP", "script") == before


def test_without_torch_storing_names_the_pip_command(new_engine: Callable[..., Server], tmp_path):  # type: ignore[no-untyped-def]
    """The engine's process finds a module `torch` that can't be imported, as in a broken installation."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")

    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    engine = new_engine(environment={"PYTHONPATH": path})

    with Wire(engine.port) as wire:
        package = "mlflow-redisai[torch]"
        text = f"ERR Could not load backend: TORCH needs {package}: pip install '{package}'"
        assert wire.ask("AI.SCRIPTSTORE", "script", *STORE_ADD) == ReplyError(text)
        assert wire.ask("DBSIZE") == 0


# -- rights ---------------------------------------------------------------------------------------

REQUESTS = {
    "AI.SCRIPTSTORE": ("script", *STORE_ADD),
    "AI.SCRIPTSET": ("script", "CPU", "SOURCE", ADD),
    "AI.SCRIPTGET": ("script",),
    "AI.SCRIPTEXECUTE": ("script", "add", "INPUTS", 2, "script:a", "script:a", "OUTPUTS", 1, "script:c"),
    "AI.SCRIPTRUN": ("script", "add", "INPUTS", "script:a", "script:a", "OUTPUTS", "script:c"),
    "AI._SCRIPTSCAN": (),
    "AI.SCRIPTDEL": ("script",),
}


@needs_torch
@pytest.mark.parametrize("name", REQUESTS)
def test_a_command_needs_just_the_rights_that_it_is_made_of(engine: Server, wire: Wire, name: str):
    wire.ask("AI.SCRIPTSTORE", "script", *STORE_ADD)
    wire.ask("AI.TENSORSET", "script:a", "FLOAT", 1, "VALUES", 2)
    rights = [f"+{command.lower()}" for command in COMMANDS[name.encode()].made_of]

    answers = []
    for allowed in (rights, ["+ping"]):
        wire.ask("ACL", "SETUSER", "scripting", "reset", "on", ">pw", "~*", *allowed)
        with Wire(engine.port) as user:
            user.ask("AUTH", "scripting", "pw")
            answers.append(user.raw(name, *REQUESTS[name]))

    assert wire.ask("ACL", "DELUSER", "scripting") == 1
    assert not answers[0].startswith(b"-"), answers[0]
    assert answers[1].startswith(b"-NOPERM")


def test_every_command_for_scripts_is_tried_above():
    assert {name.decode() for name in COMMANDS if b"SCRIPT" in name} == set(REQUESTS)


# -- as keys of Redis -----------------------------------------------------------------------------


@needs_torch
def test_a_script_goes_by_its_new_name_after_rename(wire: Wire):
    wire.ask("AI.SCRIPTSTORE", "script", *STORE_ADD)

    assert wire.ask("RENAME", "script", "script:other") == b"OK"

    assert wire.ask("AI.SCRIPTGET", "script") == MISSING
    assert add(wire, "script:other") == [b"4"]


@needs_torch
def test_redis_tells_its_type_and_encoding_and_can_not_copy_it(wire: Wire):
    wire.ask("AI.SCRIPTSTORE", "script", *STORE_ADD)

    assert wire.ask("TYPE", "script") == b"AI_SCRIPT"
    assert wire.ask("OBJECT", "ENCODING", "script") == b"raw"
    assert wire.ask("COPY", "script", "script:other") == ReplyError("ERR not supported for this module key")
    assert wire.ask("SCAN", 0, "TYPE", "AI_SCRIPT", "MATCH", "script", "COUNT", 10000) == [b"0", [b"script"]]


def test_other_keys_have_redis_own_encoding(wire: Wire):
    wire.ask("SET", "script", 12)

    assert wire.ask("OBJECT", "ENCODING", "script") == b"int"
    assert wire.raw("OBJECT", "ENCODING", "script:other") == b"$-1\r\n"


@needs_torch
@pytest.mark.parametrize("replace", [False, True])
def test_what_redisai_dumped_is_restored(wire: Wire, *, replace: bool):
    if replace:
        wire.ask("SET", "script", "v")
    payload = dumps.script(ADD, "add")

    assert wire.ask("RESTORE", "script", 100_000, payload, *["REPLACE"] * replace) == b"OK"

    assert wire.ask("AI.SCRIPTGET", "script") == [
        *(b"device", b"CPU", b"tag", b"", b"Entry Points", [b"add"], b"source", ADD.encode()),
    ]
    assert add(wire) == [b"4"]
    assert wire.ask("PTTL", "script") in range(1, 100_001)


@needs_torch
def test_a_dumped_script_that_does_not_compile_is_refused(wire: Wire):
    reply = wire.ask("RESTORE", "script", 0, dumps.script("broken"))

    assert isinstance(reply, ReplyError)
    assert reply.text.startswith("expected def but found")
    assert wire.ask("EXISTS", "script") == 0


# -- inside MULTI ---------------------------------------------------------------------------------


@needs_torch
def test_scripts_are_stored_read_listed_and_deleted_inside_multi(wire: Wire):
    wire.ask("MULTI")
    assert wire.ask("AI.SCRIPTSTORE", "script", *STORE_ADD) == b"QUEUED"
    wire.ask("AI.SCRIPTGET", "script", "META")
    wire.ask("AI.SCRIPTDEL", "script")

    assert wire.ask("EXEC") == [b"OK", [b"device", b"CPU", b"tag", b"", b"Entry Points", [b"add"]], b"OK"]
    assert wire.ask("EXISTS", "script") == 0


@needs_torch
def test_somebodys_hash_is_as_it_was_when_exec_is_over(wire: Wire):
    wire.ask("HSET", "script", "f", "v")
    wire.ask("MULTI")
    wire.ask("AI.SCRIPTSTORE", "script", *STORE_ADD)

    assert wire.ask("EXEC") == [WRONG_TYPE]
    assert wire.ask("HGETALL", "script") == [b"f", b"v"]


def test_calls_are_refused_inside_multi(wire: Wire):
    wire.ask("MULTI")
    wire.ask("AI.SCRIPTEXECUTE", "script", "add", "INPUTS", 1, "script:a")
    wire.ask("AI.SCRIPTRUN", "script", "add")

    refused = ReplyError("ERR Cannot run RedisAI command within a transaction or a LUA script")
    assert wire.ask("EXEC") == [refused, refused]
