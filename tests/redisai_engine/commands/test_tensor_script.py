"""
AI.TENSORSET of a small tensor is one script in Redis. Where that isn't possible, two commands give the same replies.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator

import pytest

from redisai_engine.commands.tensor_script import DIGEST, LARGEST, load_script
from support.connection import Connect, Connection
from support.gateway import Pair
from support.servers import Server

OK = b"+OK\r\n"
WRONGTYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
SMALL = "AI.TENSORSET %s FLOAT 2 VALUES 1 2"
LARGE = f"AI.TENSORSET %s FLOAT {LARGEST // 4}"  # with its header too large for the script
KEYS = {
    "a string": "SET %s abc",
    "a long string": f"SET %s {'x' * 100}",
    "an integer": "SET %s 7",
    "an empty string": ("SET", "%s", ""),
    "a hash": "HSET %s field value",
    "a list": "RPUSH %s element",
    "a set": "SADD %s member",
    "a sorted set": "ZADD %s 1 member",
    "a stream": "XADD %s * field value",
}


def scripts(direct: Connection) -> int:
    """Return how many scripts Redis was asked to run, by digest or in full."""
    told = direct.ask("INFO commandstats")
    return sum(int(calls) for calls in re.findall(rb"cmdstat_eval(?:sha)?:calls=(\d+)", told))


def test_the_digest_is_that_of_the_script() -> None:
    ((_, script, _),) = next(load_script())

    assert hashlib.sha1(script, usedforsecurity=False).hexdigest().encode() == DIGEST


@pytest.fixture
def user(pair: Pair, connect: Connect, direct: Connection) -> Iterator[Callable[..., Connection]]:
    """Return a function that opens a connection of a user with these rules."""

    def login(*rules: str) -> Connection:
        assert direct.ask("ACL", "SETUSER", "stepper", "reset", "on", "nopass", "~*", *rules) == OK
        wire = connect(pair.engine)
        assert wire.ask("AUTH stepper any") == OK
        return wire

    yield login
    direct.ask("ACL DELUSER stepper")


class TestKeys:
    """What the key may hold."""

    @pytest.mark.parametrize("command", [SMALL, LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("held", KEYS.values(), ids=KEYS)
    def test_another_kind_of_key_stays_as_it_is(
        self, wire: Connection, direct: Connection, held: str | tuple[str, ...], command: str
    ):
        words = held.split() if isinstance(held, str) else list(held)
        direct.ask("DEL step:foreign")
        direct.ask(*(word.replace("%s", "step:foreign") for word in words))
        before = direct.ask("DUMP step:foreign")

        assert wire.ask(command % "step:foreign") == WRONGTYPE
        assert direct.ask("DUMP step:foreign") == before

    def test_a_key_of_another_kind_is_told_before_bad_arguments_are(self, wire: Connection, direct: Connection):
        direct.ask("SET step:order abc")

        assert wire.ask("AI.TENSORSET step:order FLOAT 2 VALUES 1") == WRONGTYPE
        assert wire.ask("AI.TENSORSET step:free FLOAT 2 VALUES 1").startswith(b"-ERR ")
        assert direct.ask("EXISTS step:free") == b":0\r\n"

    @pytest.mark.parametrize("command", [SMALL, LARGE], ids=["small", "large"])
    def test_a_tensor_is_replaced_and_lives_for_ever(self, wire: Connection, direct: Connection, command: str):
        assert wire.ask("AI.TENSORSET step:old INT8 1 VALUES 7") == OK
        assert direct.ask("EXPIRE step:old 100") == b":1\r\n"

        assert wire.ask(command % "step:old") == OK

        assert b"FLOAT" in wire.ask("AI.TENSORGET step:old META")
        assert direct.ask("TTL step:old") == b":-1\r\n"

    def test_what_is_stored_does_not_depend_on_the_way(self, wire: Connection, direct: Connection):
        wire.send("MULTI", SMALL % "step:queued", "EXEC")
        assert wire.replies(3)[2] == b"*1\r\n+OK\r\n"
        assert wire.ask(SMALL % "step:once") == OK

        assert direct.ask("GET step:once") == direct.ask("GET step:queued")

    def test_the_keys_of_the_selected_database_are_meant(self, wire: Connection, direct: Connection):
        wire.ask("SELECT 3")
        assert wire.ask(SMALL % "step:third") == OK

        assert direct.ask("EXISTS step:third") == b":0\r\n"


class TestWay:
    """When the script is used."""

    def test_small_tensors_take_one_script(self, wire: Connection, direct: Connection):
        wire.ask(SMALL % "step:way")
        before = scripts(direct)

        assert wire.ask(SMALL % "step:way") == OK

        assert scripts(direct) == before + 1

    @pytest.mark.parametrize(
        ("elements", "used"), [(LARGEST // 4 - 12, 1), (LARGEST // 4 - 11, 0)], ids=["just small", "just large"]
    )
    def test_large_ones_take_none(self, wire: Connection, direct: Connection, elements: int, used: int):
        wire.ask(SMALL % "step:way")
        before = scripts(direct)

        assert wire.ask(f"AI.TENSORSET step:way FLOAT {elements}") == OK

        assert scripts(direct) == before + used

    def test_nor_do_those_inside_multi(self, wire: Connection, direct: Connection):
        before = scripts(direct)

        wire.send("MULTI", SMALL % "step:multi", "EXEC")

        assert wire.replies(3)[2] == b"*1\r\n+OK\r\n"
        assert scripts(direct) == before

    def test_a_redis_that_lost_the_script_gets_it_again(self, wire: Connection, direct: Connection):
        for _ in range(2):
            assert direct.ask("SCRIPT FLUSH") == OK
            assert wire.ask(SMALL % "step:flushed") == OK
            assert wire.ask("DEL step:flushed") == b":1\r\n"

    def test_redis_6_takes_it_too(self, engine_on_6: Server, redis_6: Server, connect: Connect):
        wire, direct = connect(engine_on_6), connect(redis_6)
        wire.ask(SMALL % "step:six")
        before = scripts(direct)
        assert wire.ask(SMALL % "step:six") == OK
        assert scripts(direct) == before + 1
        direct.ask("SET step:six abc")

        assert wire.ask(SMALL % "step:six") == WRONGTYPE
        assert direct.ask("GET step:six") == b"$3\r\nabc\r\n"


class TestRights:
    """Nobody needs the right to run scripts, and the script gives nobody a right."""

    @pytest.mark.parametrize("rules", [("-evalsha",), ("-@scripting",), ("-eval",)], ids=" ".join)
    def test_without_scripts_it_is_two_commands(
        self, user: Callable[..., Connection], direct: Connection, rules: tuple[str, ...]
    ):
        direct.ask("SCRIPT FLUSH")
        wire = user("+@all", *rules)
        assert wire.ask(SMALL % "step:mine") == OK
        direct.ask("SET step:theirs abc")
        before = scripts(direct)

        assert wire.ask(SMALL % "step:mine") == OK
        assert wire.ask(SMALL % "step:theirs") == WRONGTYPE

        assert scripts(direct) == before  # the first refusal is remembered

    def test_another_user_of_the_connection_is_not_held_to_that(
        self, user: Callable[..., Connection], direct: Connection
    ):
        wire = user("+@all", "-evalsha")
        wire.ask(SMALL % "step:auth")
        direct.ask("ACL SETUSER stepper +evalsha")
        before = scripts(direct)
        assert wire.ask("AUTH stepper any") == OK

        assert wire.ask(SMALL % "step:auth") == OK

        assert scripts(direct) > before

    @pytest.mark.parametrize("rules", [("-set",), ("-getrange",), ("resetkeys", "%R~*"), ("resetkeys", "%W~*")])
    def test_a_right_that_lacks_is_told_as_ever(
        self, user: Callable[..., Connection], direct: Connection, rules: tuple[str, ...]
    ):
        direct.ask("DEL step:kept")
        small, large = (user("+@all", *rules).ask(command % "step:kept") for command in (SMALL, LARGE))

        assert small == large
        assert small.startswith(b"-NOPERM ")
        assert direct.ask("EXISTS step:kept") == b":0\r\n"


def test_a_full_redis_says_so(new_pair: Callable[..., Pair], connect: Connect):
    pair = new_pair()
    wire, direct = connect(pair.engine), connect(pair.redis)
    assert wire.ask(SMALL % "t") == OK
    assert direct.ask("CONFIG SET maxmemory 1") == OK

    assert wire.ask(SMALL % "t").startswith(b"-OOM ")
    assert direct.ask("CONFIG SET maxmemory 0") == OK
    assert wire.ask(SMALL % "t") == OK


def test_a_replica_refuses_it_as_a_write(new_pair: Callable[..., Pair], connect: Connect):
    pair = new_pair()
    wire, direct = connect(pair.engine), connect(pair.redis)
    assert wire.ask(SMALL % "t") == OK
    assert direct.ask("REPLICAOF 127.0.0.1 1") == OK

    assert wire.ask(SMALL % "t").startswith(b"-READONLY ")
