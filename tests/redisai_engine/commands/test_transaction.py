"""WATCH, MULTI, EXEC and DISCARD with AI commands among plain ones."""

from __future__ import annotations

import pytest

from support.connection import Connect, Connection, encoded
from support.gateway import Pair, model_blob, modelstore, predict, prediction, store_model
from support.replies import bulk

OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"
ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
WRONG_TYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
NO_TENSOR = b"-ERR tensor key is empty or in a different shard\r\n"
NO_MODEL = b"-ERR model key is empty\r\n"

Command = str | bytes | tuple[bytes | str | int, ...]


def array(*elements: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(elements), b"".join(elements))


def transact(wire: Connection, *commands: Command) -> bytes:
    """Send MULTI, the commands and EXEC one by one; each command is QUEUED. Return EXEC's reply."""
    assert wire.ask("MULTI") == OK
    for command in commands:
        wire.send(command)
        assert wire.reply() == QUEUED, command
    return wire.ask("EXEC")


class TestExec:
    """EXEC's reply has the reply of each command, whether Redis or the engine answers it."""

    @pytest.mark.parametrize("protocol", [2, 3])
    def test_ai_and_plain_commands_are_answered_in_their_places(self, wire: Connection, protocol: int):
        wire.ask("HELLO", protocol)

        reply = transact(
            wire,
            "SET tx:a 1",
            "AI.TENSORSET tx:t FLOAT 2 VALUES 1 2",
            "INCR tx:a",
            "AI.TENSORGET tx:t META",
            "HGETALL tx:missing",
            modelstore("tx:m"),
            "AI.MODELGET tx:m BLOB",
            "TYPE tx:t",
            "AI.MODELDEL tx:m",
            "EXISTS tx:m",
            "DEL tx:t",
        )

        meta = array(bulk(b"dtype"), bulk(b"FLOAT"), bulk(b"shape"), array(b":2\r\n"))
        empty = b"%0\r\n" if protocol == 3 else b"*0\r\n"
        blob = bulk(model_blob("Add"))
        answers = (OK, OK, b":2\r\n", meta, empty, OK, blob, b"+AI_TENSOR\r\n", OK, b":0\r\n", b":1\r\n")
        assert array(*answers) == reply

    def test_a_transaction_may_come_in_one_write(self, wire: Connection):
        commands: list[Command] = ["MULTI", "SET tx:one 1", "AI.TENSORSET tx:t1 INT8 1 VALUES 7"]
        wire.send(*commands, "AI.TENSORGET tx:t1 VALUES", "EXEC", "GET tx:one", "AI.TENSORGET tx:t1 VALUES")

        expected = [OK, QUEUED, QUEUED, QUEUED, array(OK, OK, array(b":7\r\n")), bulk(b"1"), array(b":7\r\n")]
        assert expected == wire.replies(7)

    def test_many_transactions_in_one_write_keep_apart(self, wire: Connection):
        one = b"".join(map(encoded, ["MULTI", "AI.TENSORSET tx:many INT8 1 VALUES 1", "PING", "EXEC"]))

        wire.send(one * 100)

        assert [OK, QUEUED, QUEUED, array(OK, b"+PONG\r\n")] * 100 == wire.replies(400)

    def test_an_empty_transaction(self, wire: Connection):
        assert transact(wire) == b"*0\r\n"

    def test_a_large_value_among_the_replies(self, wire: Connection):
        value = b"x" * 5_000_000
        wire.ask("SET", "tx:large", value)

        reply = transact(wire, "GET tx:large", "AI.TENSORGET tx:missing", "PING")

        assert array(bulk(value), NO_TENSOR, b"+PONG\r\n") == reply
        wire.ask("DEL tx:large")

    def test_nobody_sees_a_model_before_exec(self, wire: Connection, pair: Pair, connect: Connect):
        other = connect(pair.engine)
        wire.send("DEL tx:hidden", "MULTI", modelstore("tx:hidden"))
        wire.replies(3)

        before = other.ask("AI.MODELGET tx:hidden")
        wire.ask("EXEC")

        assert before == NO_MODEL
        assert predict(other, "tx:hidden", 2, 3) == 5.0

    def test_a_replaced_model_holds_from_exec_on(self, wire: Connection, pair: Pair, connect: Connect):
        other = connect(pair.engine)
        store_model(wire, "tx:replaced", "Add")
        assert predict(other, "tx:replaced", 2, 3) == 5.0

        transact(wire, modelstore("tx:replaced", "Mul"))

        assert predict(wire, "tx:replaced", 2, 3) == 6.0
        assert predict(other, "tx:replaced", 2, 3) == 6.0

    def test_a_model_deleted_by_a_plain_command_is_gone_from_exec_on(self, wire: Connection):
        store_model(wire, "tx:deleted")
        assert predict(wire, "tx:deleted", 2, 3) == 5.0

        transact(wire, "DEL tx:deleted")

        assert predict(wire, "tx:deleted", 2, 3) == NO_MODEL


class TestErrors:
    """What Redis refuses to queue makes EXEC fail. An AI command's own error is an element of EXEC's reply."""

    def test_errors_of_ai_commands_are_elements(self, wire: Connection):
        wire.send("SET tx:string x", "DEL tx:gone")
        wire.replies(2)

        reply = transact(
            wire,
            "AI.TENSORGET tx:gone",
            "AI.TENSORGET tx:string",
            "AI.MODELGET tx:gone",
            "AI.MODELDEL tx:gone",
            "AI.TENSORSET tx:gone NOTYPE 1 VALUES 1",
            "SET tx:fine 1",
        )

        invalid_type = b"-ERR invalid data type\r\n"
        assert array(NO_TENSOR, WRONG_TYPE, NO_MODEL, NO_MODEL, invalid_type, OK) == reply

    def test_errors_of_plain_commands_are_elements(self, wire: Connection):
        reply = transact(wire, "SET tx:string x", "LPUSH tx:string y", "AI.TENSORGET tx:missing")

        assert array(OK, WRONG_TYPE, NO_TENSOR) == reply

    @pytest.mark.parametrize("bad", ["NOSUCHCOMMAND", "GET", "SET tx:a", "CLIENT", "HELLO 2 3 4 5 6 x"])
    def test_what_redis_does_not_queue_discards_everything(self, wire: Connection, bad: str):
        wire.send("DEL tx:t2", "MULTI", "AI.TENSORSET tx:t2 FLOAT 1 VALUES 1", bad, "PING")
        refused = wire.replies(5)[3]

        if refused[:1] == b"-":
            assert wire.ask("EXEC") == ABORTED
            assert wire.ask("AI.TENSORGET tx:t2") == NO_TENSOR
        else:
            assert wire.ask("EXEC").startswith(b"*3\r\n+OK\r\n-")

    def test_a_model_that_can_not_be_loaded_is_an_element_and_changes_nothing(self, wire: Connection):
        store_model(wire, "tx:kept")

        reply = transact(wire, "AI.MODELSTORE tx:kept ONNX CPU BLOB nonsense", "PING")

        assert reply.startswith(b"*2\r\n-")
        assert reply.endswith(b"+PONG\r\n")
        assert predict(wire, "tx:kept", 2, 3) == 5.0

    def test_commands_that_run_models_are_refused_in_their_places(self, wire: Connection):
        store_model(wire, "tx:run")

        reply = transact(wire, "PING", prediction("tx:run", 1, 2), "AI.MODELEXECUTE tx:run INPUTS 2 a b OUTPUTS 1 y")

        refused = b"-ERR Cannot run RedisAI command within a transaction or a LUA script\r\n"
        assert array(b"+PONG\r\n", refused, refused) == reply

    @pytest.mark.parametrize("make", ["SET {} text", "HSET {} field value", "RPUSH {} x", "SADD {} x", "ZADD {} 1 x"])
    @pytest.mark.parametrize("store", ["tensor", "model"])
    def test_a_key_of_another_kind_is_left_as_it_was(self, wire: Connection, make: str, store: str):
        key = "tx:other"
        wire.send(f"DEL {key}", make.format(key), f"EXPIRE {key} 1000")
        wire.replies(3)
        look = f"HGETALL {key}" if make.startswith("HSET") else f"DUMP {key}"  # a hash may get another encoding
        before = wire.ask(look)

        command = modelstore(key) if store == "model" else f"AI.TENSORSET {key} FLOAT 1 VALUES 1"
        reply = transact(wire, command, "PING")

        assert array(WRONG_TYPE, b"+PONG\r\n") == reply
        assert before == wire.ask(look)
        assert int(wire.ask(f"TTL {key}")[1:]) > 900

    @pytest.mark.parametrize("command", ["AI.TENSORSET tx:elsewhere FLOAT 1 VALUES 1", modelstore("tx:elsewhere")])
    def test_a_key_of_another_kind_in_another_database_is_left_as_it_was(self, wire: Connection, command: Command):
        wire.send("SELECT 5", "SET tx:elsewhere text", "SELECT 0", "SET tx:here 1")
        wire.replies(4)

        reply = transact(wire, "SELECT 5", command, "SELECT 0", "INCR tx:here")

        assert reply == array(OK, WRONG_TYPE, OK, b":2\r\n")
        wire.send("GET tx:here", "EXISTS tx:elsewhere", "SELECT 5", "GET tx:elsewhere", "SELECT 0")
        assert wire.replies(5) == [bulk(b"2"), b":0\r\n", OK, bulk(b"text"), OK]
        wire.send("DEL tx:here", "SELECT 5", "DEL tx:elsewhere", "SELECT 0")
        wire.replies(4)


class TestWatch:
    """WATCH is Redis' own and covers the keys of AI commands."""

    @pytest.mark.parametrize("protocol", [2, 3])
    @pytest.mark.parametrize("change", ["AI.TENSORSET tx:w FLOAT 1 VALUES 2", "DEL tx:w", "model", "AI.MODELDEL tx:w"])
    def test_a_watched_key_that_changed_stops_exec(
        self, wire: Connection, pair: Pair, connect: Connect, protocol: int, change: str
    ):
        other = connect(pair.engine)
        null = b"_\r\n" if protocol == 3 else b"*-1\r\n"
        wire.ask("HELLO", protocol)
        wire.ask("DEL tx:w")
        if change in ("model", "AI.MODELDEL tx:w"):
            store_model(wire, "tx:w")
        else:
            wire.ask("AI.TENSORSET tx:w FLOAT 1 VALUES 1")
        wire.ask("WATCH tx:w")
        other.send(modelstore("tx:w", "Mul") if change == "model" else change)
        other.reply()

        assert null == transact(wire, "AI.TENSORSET tx:unset FLOAT 1 VALUES 1", "PING")
        assert wire.ask("EXISTS tx:unset") == b":0\r\n"
        wire.ask("DEL tx:w")

    def test_an_unchanged_key_does_not_stop_exec(self, wire: Connection):
        store_model(wire, "tx:unchanged")
        wire.send("WATCH tx:unchanged", "AI.MODELGET tx:unchanged META", prediction("tx:unchanged", 1, 2))
        wire.replies(3)

        assert array(OK) == transact(wire, modelstore("tx:unchanged", "Mul"))

    def test_ai_commands_between_watch_and_multi_do_not_lose_it(self, wire: Connection, direct: Connection):
        store_model(wire, "tx:between")
        wire.ask("WATCH tx:watched")
        predict(wire, "tx:between", 1, 2)
        wire.ask("AI.TENSORSET tx:between:t FLOAT 1 VALUES 1")
        direct.ask("SET tx:watched 2")

        assert transact(wire, "PING") == b"*-1\r\n"

    def test_watch_inside_multi_is_refused_and_does_no_harm(self, wire: Connection, direct: Connection):
        """To Redis; Valkey 9 gives up the transaction."""
        rest = ("WATCH tx:x", "MULTI", "PING", "EXEC")
        direct.send("MULTI", "SET tx:plain 1", *rest)

        wire.send("MULTI", "AI.TENSORSET tx:t3 FLOAT 1 VALUES 1", *rest)

        replies = wire.replies(6)
        assert replies == direct.replies(6)
        assert [reply[:1] for reply in replies[2:4]] == [b"-", b"-"]
        assert replies[5] == array(OK, b"+PONG\r\n") or replies[5].startswith(b"-EXECABORT ")


class TestState:
    """A queued command that changes the connection takes effect at EXEC, and never without it."""

    def test_discard_forgets_everything(self, wire: Connection):
        wire.send("MULTI", "AI.TENSORSET tx:t4 FLOAT 1 VALUES 1", "SELECT 5", "DISCARD", "EXISTS tx:t4")
        assert wire.replies(5) == [OK, QUEUED, QUEUED, OK, b":0\r\n"]
        wire.send("EXEC", "DISCARD", "AI.TENSORGET tx:t4")
        assert wire.replies(3) == [b"-ERR EXEC without MULTI\r\n", b"-ERR DISCARD without MULTI\r\n", NO_TENSOR]

    def test_select_inside_multi_holds_for_what_follows(self, wire: Connection, direct: Connection):
        store_model(wire, "tx:db")
        predict(wire, "tx:db", 2, 3)

        transact(wire, "SELECT 4", modelstore("tx:db", "Mul"), "AI.TENSORSET tx:db:t FLOAT 1 VALUES 1")

        assert predict(wire, "tx:db", 2, 3) == 6.0
        direct.ask("SELECT 4")
        assert direct.ask("EXISTS tx:db tx:db:t") == b":2\r\n"
        wire.ask("SELECT 0")
        assert predict(wire, "tx:db", 2, 3) == 5.0

    def test_hello_3_inside_multi(self, wire: Connection):
        wire.ask("AI.TENSORSET tx:proto DOUBLE 1 VALUES 1.5")

        reply = transact(wire, "HELLO 3", "PING")

        assert reply.startswith(b"*2\r\n%7\r\n")
        assert wire.ask("AI.TENSORGET tx:proto VALUES") == array(b",1.5\r\n")

    def test_subscribe_inside_multi(self, wire: Connection, direct: Connection):
        """Redis allows it, though its manual advises against it."""
        reply = transact(wire, "SUBSCRIBE tx:channel")

        assert reply == array(array(bulk(b"subscribe"), bulk(b"tx:channel"), b":1\r\n"))
        assert wire.ask("PING") == array(bulk(b"pong"), bulk(b""))
        direct.ask("PUBLISH tx:channel hi")
        assert wire.reply() == array(bulk(b"message"), bulk(b"tx:channel"), bulk(b"hi"))

    def test_reset_leaves_a_transaction(self, wire: Connection):
        wire.send("MULTI", "AI.TENSORSET tx:t5 FLOAT 1 VALUES 1", "RESET", "AI.TENSORGET tx:t5", "EXEC")

        assert wire.replies(5)[2:] == [b"+RESET\r\n", NO_TENSOR, b"-ERR EXEC without MULTI\r\n"]

    def test_quit_leaves_a_transaction(self, wire: Connection, direct: Connection):
        wire.send("MULTI", "SET tx:quit 1", "QUIT", "EXEC")

        assert wire.rest() == OK + QUEUED + OK
        assert direct.ask("EXISTS tx:quit") == b":0\r\n"

    def test_exec_with_an_argument_ends_the_transaction(self, wire: Connection):
        wire.send("MULTI", "AI.TENSORSET tx:t6 FLOAT 1 VALUES 1", "EXEC now", "AI.TENSORGET tx:t6")

        assert wire.replies(4)[2].startswith(b"-EXECABORT ")
        wire.send("EXEC")
        assert wire.reply() == b"-ERR EXEC without MULTI\r\n"

    @pytest.mark.parametrize("rule", ["-multi", "-exec"])
    def test_a_client_without_the_right_to_transactions(
        self, pair: Pair, connect: Connect, direct: Connection, rule: str
    ):
        direct.ask("ACL", "SETUSER", "single", "reset", "on", "nopass", "~*", "+@all", rule)
        wire = connect(pair.engine)
        wire.ask("AUTH single x")

        wire.send("MULTI", "AI.TENSORSET tx:single FLOAT 1 VALUES 1", "EXEC", "PING", "DEL tx:single")
        replies = wire.replies(5)

        if rule == "-multi":
            assert replies[0].startswith(b"-NOPERM ")
            assert replies[1:] == [OK, b"-ERR EXEC without MULTI\r\n", b"+PONG\r\n", b":1\r\n"]
        else:
            assert replies[:2] == [OK, QUEUED]
            assert replies[2].startswith(b"-EXECABORT Transaction discarded because of: NOPERM ")
            assert replies[3:] == [b"+PONG\r\n", b":0\r\n"]

    def test_a_client_that_is_not_authenticated(self, new_pair, connect: Connect):
        wire = connect(new_pair(redis=("--requirepass", "secret")).engine)
        refused = b"-NOAUTH Authentication required.\r\n"

        wire.send("MULTI", "SET a 1", "AI.TENSORSET t FLOAT 1 VALUES 1", "EXEC", "AUTH secret", "EXEC")

        replies = wire.replies(6)

        assert [refused] * 3 == replies[:3]
        assert replies[3].startswith(b"-EXECABORT ")
        assert replies[4:] == [OK, b"-ERR EXEC without MULTI\r\n"]

    def test_a_key_without_rights_discards_the_transaction(self, pair: Pair, connect: Connect, direct: Connection):
        direct.ask("ACL", "SETUSER", "fenced", "reset", "on", "nopass", "~mine:*", "+@all")
        wire = connect(pair.engine)
        wire.ask("AUTH fenced x")

        wire.send("MULTI", "AI.TENSORSET mine:t FLOAT 1 VALUES 1", "AI.TENSORSET other:t FLOAT 1 VALUES 1", "EXEC")

        assert wire.replies(3)[2].startswith(b"-NOPERM ")
        assert wire.reply() == ABORTED
        assert wire.ask("EXISTS mine:t") == b":0\r\n"
