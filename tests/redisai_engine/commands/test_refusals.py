"""Where Redis itself would refuse a command, that is the answer, and not what is wrong with the arguments."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from support.connection import Connect, Connection
from support.gateway import Pair, store_model
from support.replies import OK, array
from support.waiting import wait_until

ARITY = b"-ERR wrong number of arguments for '%s' command\r\n"
QUEUED = b"+QUEUED\r\n"

#: Requests that write, with something wrong in their arguments, and what is wrong if Redis lets them in.
SPOILED = {
    "AI.TENSORSET": ARITY % b"ai.tensorset",
    "AI.TENSORSET t": ARITY % b"ai.tensorset",
    "AI.TENSORSET t FLOAT x": b"-ERR invalid or negative value found in tensor shape\r\n",
    "AI.MODELSTORE m": ARITY % b"ai.modelstore",
    "AI.MODELSTORE m NONE CPU BLOB x": b"-ERR unsupported backend\r\n",
    "AI.MODELSET m NONE CPU BLOB x": b"-ERR unsupported backend\r\n",
    "AI.SCRIPTSTORE s CPU ENTRY_POINTS x f SOURCE x": (
        b"-ERR Non numeric entry points number provided to AI.SCRIPTSTORE command\r\n"
    ),
    "AI.SCRIPTSET s CPU SRC x": b"-ERR Insufficient arguments, missing script SOURCE\r\n",
    "AI.MODELEXECUTE m INPUTS 1 a": ARITY % b"AI.MODELEXECUTE",
    "AI.MODELEXECUTE m INPUTS 1 a OUTPUTS 1 y x": (
        b"-Number of keys given as INPUTS here does not match model definition\r\n"
    ),
    "AI.MODELEXECUTE m INPUTS 2 t none OUTPUTS 1 y": b"-ERR tensor key is empty or in a different shard\r\n",
    "AI.MODELRUN none INPUTS t t OUTPUTS y": b"-ERR model key is empty\r\n",
    "AI.SCRIPTEXECUTE none f INPUTS 1 t OUTPUTS 1 y": b"-ERR script key is empty\r\n",
    "AI.SCRIPTRUN none f INPUTS t OUTPUTS y": b"-ERR script key is empty\r\n",
    "AI.DAGEXECUTE LOAD 1 t": b"-ERR missing arguments for 'AI.DAGEXECUTE' command\r\n",
    "AI.DAGEXECUTE LOAD x t |> AI.TENSORGET t": b"-ERR invalid or negative value found in number of keys to LOAD\r\n",
    "AI.DAGRUN |> AI.NONE x": b"-Unsupported command within DAG\r\n",
}
#: Requests without effect on memory: Redis lets them in though it is full.
DELETING = {
    "AI.MODELDEL": ARITY % b"ai.modeldel",
    "AI.MODELDEL m x": ARITY % b"ai.modeldel",
    "AI.SCRIPTDEL s x": ARITY % b"ai.scriptdel",
}
READING = {
    "AI.TENSORGET": ARITY % b"ai.tensorget",
    "AI.TENSORGET t x": b"-ERR unsupported data format\r\n",
    "AI.MODELGET m META BLOB x": ARITY % b"ai.modelget",
    "AI._MODELSCAN x": ARITY % b"ai._modelscan",
    "AI.INFO": ARITY % b"ai.info",
    "AI.CONFIG": ARITY % b"ai.config",
    "AI.DAGEXECUTE_RO LOAD 1 t": b"-ERR missing arguments for 'AI.DAGEXECUTE_RO' command\r\n",
    "AI.DAGRUN_RO |> AI.NONE x": b"-Unsupported command within DAG\r\n",
}
WRITING = {"AI.TENSORSET t FLOAT x", "AI.MODELSTORE m NONE CPU BLOB x", "AI.SCRIPTSET s CPU SRC x"}
NAMED = {line: error for line, error in SPOILED.items() if line != "AI.TENSORSET"}


def refused(wire: Connection, kind: bytes, lines: dict[str, bytes]) -> dict[str, bytes]:
    """Return the answers that aren't errors of this kind."""
    answers = {line: wire.ask(line) for line in lines}
    return {line: answer for line, answer in answers.items() if not answer.startswith(b"-%b " % kind)}


def answered(wire: Connection, lines: dict[str, bytes]) -> dict[str, bytes]:
    return {line: wire.ask(line) for line in lines}


@pytest.fixture
def own(new_pair: Callable[..., Pair], connect: Connect) -> tuple[Connection, Connection]:
    """An engine of this test's own, with a model and a tensor, and its Redis."""
    pair = new_pair(redis=("--save", "1000000 1"))
    wire = connect(pair.engine)
    store_model(wire, "m")
    assert wire.ask("AI.TENSORSET t FLOAT 1 VALUES 1") == OK
    return wire, connect(pair.redis)


def test_without_a_reason_of_redis_the_arguments_count(own: tuple[Connection, Connection]):
    wire, _ = own

    assert answered(wire, SPOILED | DELETING | READING) == SPOILED | DELETING | READING


def test_out_of_memory(own: tuple[Connection, Connection]):
    wire, redis = own
    redis.ask("CONFIG SET maxmemory 1")

    assert refused(wire, b"OOM", SPOILED) == {}
    assert answered(wire, DELETING | READING) == DELETING | READING


def test_out_of_memory_in_a_transaction(own: tuple[Connection, Connection]):
    wire, redis = own
    redis.ask("CONFIG SET maxmemory 1")
    wire.ask("MULTI")

    queued = refused(wire, b"OOM", SPOILED | READING)
    # Redis then queues nothing at all, and Valkey 9 what writes nothing.
    assert not set(queued) & WRITING
    assert set(queued.values()) <= {b"+QUEUED\r\n"}
    assert wire.ask("EXEC").startswith(b"-EXECABORT ")


def test_a_read_only_replica(own: tuple[Connection, Connection]):
    wire, redis = own
    redis.ask("REPLICAOF 127.0.0.1 1")

    assert refused(wire, b"READONLY", SPOILED | DELETING) == {}
    assert answered(wire, READING) == READING


def test_a_read_only_replica_in_a_transaction(own: tuple[Connection, Connection]):
    wire, redis = own
    redis.ask("REPLICAOF 127.0.0.1 1")
    keyed = {line: error for line, error in (NAMED | DELETING).items() if b"wrong number" not in error}
    wire.ask("MULTI")

    assert refused(wire, b"READONLY", {line: error for line, error in keyed.items() if "DAGRUN" not in line}) == {}
    assert wire.ask("EXEC").startswith(b"-EXECABORT ")


def test_a_master_without_replicas(own: tuple[Connection, Connection]):
    wire, redis = own
    redis.ask("CONFIG SET min-replicas-to-write 1")

    assert refused(wire, b"NOREPLICAS", SPOILED | DELETING) == {}
    assert answered(wire, READING) == READING


def test_a_redis_that_can_not_save(new_pair: Callable[..., Pair], connect: Connect):
    pair = new_pair(redis=("--save", "1000000 1"))
    wire, redis = connect(pair.engine), connect(pair.redis)
    assert wire.ask("AI.TENSORSET t FLOAT 1 VALUES 1") == OK
    assert pair.redis.data_dir is not None
    shutil.rmtree(pair.redis.data_dir)
    redis.ask("BGSAVE")
    wait_until(lambda: b"rdb_last_bgsave_status:err" in redis.ask("INFO persistence"), what="a save that fails")

    assert refused(wire, b"MISCONF", SPOILED | DELETING) == {}


def test_a_client_that_has_not_logged_in(new_pair: Callable[..., Pair], connect: Connect):
    pair = new_pair(redis=("--requirepass", "secret"))
    wire = connect(pair.engine)

    assert refused(wire, b"NOAUTH", SPOILED | DELETING | READING) == {}
    assert wire.ask("AUTH secret") == OK
    assert wire.ask("AI.TENSORSET t") == SPOILED["AI.TENSORSET t"]


class TestRights:
    """Only what the AI command itself needs is asked for."""

    @pytest.fixture
    def limited(self, own: tuple[Connection, Connection]) -> Callable[..., Connection]:
        wire, redis = own

        def log_in(*rules: str) -> Connection:
            assert redis.ask("ACL", "SETUSER", "limited", "reset", "on", "nopass", *rules) == OK
            assert wire.ask("AUTH limited x") == OK
            return wire

        return log_in

    def test_a_user_who_may_only_read(self, limited: Callable[..., Connection]):
        wire = limited("~*", "+@read", "+ping")

        assert refused(wire, b"NOPERM", SPOILED) == {}
        assert answered(wire, READING) == READING

    def test_a_user_of_other_keys(self, limited: Callable[..., Connection]):
        wire = limited("~other:*", "+@all")

        assert wire.ask("AI.TENSORSET t FLOAT x").startswith(b"-NOPERM ")
        assert wire.ask("AI.MODELSTORE m NONE CPU BLOB x").startswith(b"-NOPERM ")
        assert wire.ask("AI.TENSORSET other:t FLOAT x") == SPOILED["AI.TENSORSET t FLOAT x"]
        assert wire.ask("AI.TENSORSET") == SPOILED["AI.TENSORSET"]

    def test_a_user_who_reads_the_model_and_writes_the_output(self, limited: Callable[..., Connection]):
        wire = limited("%R~m", "%R~t", "%RW~y", "+@all")

        line = "AI.MODELEXECUTE m INPUTS 1 a OUTPUTS 1 y x"
        assert wire.ask(line) == SPOILED[line]
        assert wire.ask(line.replace("y", "t")).startswith(b"-NOPERM ")

    def test_the_question_needs_no_other_rights_than_the_command(self, limited: Callable[..., Connection]):
        wire = limited("~*", "+getrange", "+set", "+strlen")

        assert wire.ask("AI.TENSORSET t FLOAT x") == SPOILED["AI.TENSORSET t FLOAT x"]
        assert wire.ask("AI.TENSORGET") == READING["AI.TENSORGET"]

    def test_in_a_transaction(self, limited: Callable[..., Connection]):
        wire = limited("~other:*", "+@all")
        wire.ask("MULTI")

        assert wire.ask("AI.TENSORSET t FLOAT x").startswith(b"-NOPERM ")
        assert wire.ask("EXEC").startswith(b"-EXECABORT ")


def test_the_question_changes_nothing(own: tuple[Connection, Connection]):
    wire, redis = own
    redis.ask("RPUSH list 1")
    before = redis.ask("DBSIZE"), redis.ask("DUMP m"), redis.ask("DUMP t"), redis.ask("DUMP list")

    answered(wire, SPOILED | DELETING | READING)
    answered(wire, {line.replace(" m ", " list ").replace(" t ", " list "): error for line, error in SPOILED.items()})

    assert (redis.ask("DBSIZE"), redis.ask("DUMP m"), redis.ask("DUMP t"), redis.ask("DUMP list")) == before


def test_a_wrong_request_in_a_transaction_keeps_its_place(own: tuple[Connection, Connection]):
    wire, redis = own
    lines = [*SPOILED, "SET x 1", *DELETING, *READING]
    wire.ask("MULTI")

    assert [wire.ask(line) for line in lines] == [QUEUED] * len(lines)
    refusing = ("AI.MODELEXECUTE", "AI.MODELRUN", "AI.SCRIPTEXECUTE", "AI.SCRIPTRUN", "AI.DAG")
    in_transaction = b"-ERR Cannot run RedisAI command within a transaction or a LUA script\r\n"
    errors = SPOILED | DELETING | READING | {"SET x 1": OK}
    expected = [in_transaction if line.startswith(refusing) else errors[line] for line in lines]
    assert wire.ask("EXEC") == array(expected)
    assert redis.ask("GET x") == b"$1\r\n1\r\n"


def test_requests_behind_a_wrong_one_wait_for_its_answer(own: tuple[Connection, Connection]):
    wire, _ = own

    wire.send("AI.TENSORSET t FLOAT x", "MULTI", "SET x 1", "AI.TENSORSET t", "EXEC", "AI.MODELDEL a b", "GET x")

    arity = SPOILED["AI.TENSORSET t"]
    assert wire.replies(5) == [SPOILED["AI.TENSORSET t FLOAT x"], OK, QUEUED, QUEUED, array([OK, arity])]
    assert wire.replies(2) == [DELETING["AI.MODELDEL m x"], b"$1\r\n1\r\n"]
