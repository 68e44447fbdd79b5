"""
Models in memory: a prediction uses the model that Redis holds, although Redis isn't asked.

A change made through the same engine takes effect at once, one made directly in Redis within BOUND_S.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from support.connection import Connect, Connection
from support.gateway import MISSING, Pair, model_blob, modelstore, predict, prediction, store_model, store_onnx
from support.servers import Server
from support.waiting import wait_until

OK = b"+OK\r\n"
BOUND_S = 0.5  # milliseconds on an idle machine

# Commands that delete or replace the model `key` in some way.
REMOVALS = [
    "DEL {key}",
    "UNLINK {key}",
    "del {key}",
    "RENAME {key} {key}:gone",
    "EXPIRE {key} -1",
    "PEXPIREAT {key} 1",
    "AI.MODELDEL {key}",
    "MOVE {key} 7",
    "EVAL return(redis.call('DEL','{key}')) 0",
    "EVAL return(redis.call('DEL',KEYS[1])) 1 {key}",
]


@pytest.fixture(params=["engine", "direct"])
def changer(request: pytest.FixtureRequest, pair: Pair, connect: Connect) -> Connection:
    """The connection that makes the change: another client of the engine, or a direct connection to Redis."""
    return connect(pair.engine if request.param == "engine" else pair.redis)


def used(wire: Connection, key: str, operator: str = "Add") -> None:
    """Store a model and predict with it until it is certainly known without asking Redis."""
    store_model(wire, key, operator)
    for _ in range(5):
        assert predict(wire, key, 2, 3) == (5.0 if operator == "Add" else 6.0)


def calls_of(wire: Connection, key: str) -> int:
    return int(wire.ask("AI.INFO", key).partition(b"calls\r\n:")[2].partition(b"\r\n")[0])


def weights(size: int) -> bytes:
    """Return a model that adds a vector of so many bytes to its input."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from support.tiny_models import onnx_model

    vector = numpy_helper.from_array(np.arange(size // 4, dtype=np.float32), "w")
    add = helper.make_node("Add", ["x", "w"], ["sum"])
    largest = helper.make_node("ReduceMax", ["sum"], ["y"])
    shape = (TensorProto.FLOAT, ("N",))
    answer = (TensorProto.FLOAT, (1,))
    return onnx_model([add, largest], {"x": shape}, {"y": answer}, initializers=[vector])


def run_weights(wire: Connection, key: str) -> bytes:
    wire.send(
        "AI.TENSORSET weights:x FLOAT 1 VALUES 1", f"AI.MODELEXECUTE {key} INPUTS 1 weights:x OUTPUTS 1 weights:y"
    )
    return wire.replies(2)[1]


def model_memory(wire: Connection) -> int:
    """Return how many bytes the engine counts for the models of ONNX in memory."""
    return int(wire.ask("INFO ai_backends_info").partition(b"onnxruntime_memory:")[2].partition(b"\r\n")[0])


def commands_of(direct: Connection, names: tuple[str, ...] = ("exists", "hmget", "hget", "hgetall")) -> int:
    """Return how many commands that read models Redis has carried out."""
    stats = direct.ask("INFO COMMANDSTATS").decode()
    lines = [line for line in stats.splitlines() if line.split(":")[0].removeprefix("cmdstat_") in names]
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines)


class TestKnown:
    """Redis isn't asked for what is known."""

    def test_predictions_ask_redis_about_once_a_second(self, wire: Connection, direct: Connection):
        used(wire, "models:known")
        before = commands_of(direct)
        started = time.monotonic()

        for _ in range(500):
            assert predict(wire, "models:known", 2, 3) == 5.0

        seconds = time.monotonic() - started
        assert commands_of(direct) - before <= 4 * (seconds + 2)

    def test_strict_asks_for_every_prediction(self, new_pair: Callable[..., Pair], connect: Connect):
        pair = new_pair("--strict")
        wire, direct = connect(pair.engine), connect(pair.redis)
        used(wire, "m")
        before = commands_of(direct, ("hmget",))

        for _ in range(50):
            assert predict(wire, "m", 2, 3) == 5.0

        assert commands_of(direct, ("hmget",)) - before == 50
        assert b"tracking_clients:0" in direct.ask("INFO CLIENTS")

    def test_strict_sees_changes_made_directly_at_once(self, new_pair: Callable[..., Pair], connect: Connect):
        pair = new_pair("--strict")
        wire, direct = connect(pair.engine), connect(pair.redis)
        for _ in range(20):
            used(wire, "m")
            direct.ask("DEL m")
            assert predict(wire, "m", 2, 3) == MISSING


class TestThroughTheEngine:
    """A change made through the same engine takes effect for the next command of any client."""

    @pytest.mark.parametrize("removal", REMOVALS)
    def test_a_removed_model_is_gone_at_once(self, pair: Pair, connect: Connect, removal: str):
        user, changer = connect(pair.engine), connect(pair.engine)
        key = "models:removed"
        for _ in range(5):
            changer.send("SELECT 7", f"DEL {key} {key}:gone", "SELECT 0")
            changer.replies(3)
            used(user, key)

            assert not changer.ask(removal.format(key=key)).startswith(b"-")

            assert predict(user, key, 2, 3) == MISSING

    def test_a_replaced_model_serves_at_once(self, pair: Pair, connect: Connect):
        user, changer = connect(pair.engine), connect(pair.engine)
        for _ in range(10):
            used(user, "models:replaced", "Add")
            store_model(changer, "models:replaced", "Mul")
            assert predict(user, "models:replaced", 2, 3) == 6.0

    def test_a_key_that_becomes_another_kind_is_refused_at_once(self, pair: Pair, connect: Connect):
        user, changer = connect(pair.engine), connect(pair.engine)
        used(user, "models:kind")

        changer.ask("SET models:kind text")

        refused = predict(user, "models:kind", 2, 3)
        assert refused == b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
        changer.ask("DEL models:kind")

    def test_a_renamed_model_serves_under_its_new_name(self, pair: Pair, connect: Connect):
        user, changer = connect(pair.engine), connect(pair.engine)
        used(user, "models:from", "Add")
        used(user, "models:to", "Mul")

        changer.ask("RENAME models:from models:to")

        assert predict(user, "models:to", 2, 3) == 5.0
        assert predict(user, "models:from", 2, 3) == MISSING

    @pytest.mark.parametrize("how", ["RENAME", "renamenx"])
    @pytest.mark.parametrize("around", [[], ["MULTI"], ["MULTI", "SET models:other 1", "AI.MODELSTORE"]])
    def test_a_renamed_model_stays_in_memory(self, pair: Pair, connect: Connect, how: str, around: list[str]):
        """Its statistics are those of the version in memory."""
        user, changer = connect(pair.engine), connect(pair.engine)
        changer.ask("DEL models:new")
        used(user, "models:old")
        store = modelstore("models:beside", "Mul")
        before = [store if word == "AI.MODELSTORE" else word for word in around]
        after = ["PERSIST models:new", "EXEC"] if around else []

        changer.send(*before, f"{how} models:old models:new", *after)

        assert not [reply for reply in changer.replies(len(before) + 1 + len(after)) if reply.startswith(b"-")]
        assert calls_of(user, "models:new") == 5
        assert predict(user, "models:new", 2, 3) == 5.0
        assert predict(user, "models:old", 2, 3) == MISSING

    @pytest.mark.parametrize("before", ["SET models:watched 2", "PING"])
    def test_what_a_transaction_did_not_rename_stays_where_it_is(self, pair: Pair, connect: Connect, before: str):
        """A watched key has changed, or the first key doesn't exist."""
        user, changer = connect(pair.engine), connect(pair.engine)
        used(user, "models:target", "Mul")
        changer.ask("WATCH models:watched")
        user.ask(before)

        changer.send("MULTI", "RENAME models:missing models:target", "EXEC")

        changer.replies(3)
        assert calls_of(user, "models:target") == 5
        assert predict(user, "models:target", 2, 3) == 6.0

    def test_a_transaction_holds_at_once(self, pair: Pair, connect: Connect):
        user, changer = connect(pair.engine), connect(pair.engine)
        for body in ("DEL models:tx", "EVAL return(redis.call('DEL','models:tx')) 0", "AI.MODELDEL models:tx"):
            used(user, "models:tx")

            changer.send("MULTI", body, "EXEC")

            assert changer.replies(3)[2][:2] == b"*1"
            assert predict(user, "models:tx", 2, 3) == MISSING

    def test_a_change_in_the_same_pipeline_holds_behind_it(self, wire: Connection):
        used(wire, "models:pipe")

        wire.send(prediction("models:pipe", 2, 3), "DEL models:pipe", prediction("models:pipe", 2, 3))

        first, deleted, second = wire.replies(3)
        assert first.startswith(b"*4")
        assert deleted == b":1\r\n"
        assert second == MISSING

    def test_flushing_holds_at_once(self, new_pair: Callable[..., Pair], connect: Connect):
        pair = new_pair()
        user, changer = connect(pair.engine), connect(pair.engine)
        for flush in ("FLUSHALL", "FLUSHDB", "flushall async", "SWAPDB 0 1", "EVAL return(redis.call('FLUSHALL')) 0"):
            used(user, "m")
            assert not changer.ask(flush).startswith(b"-")
            assert predict(user, "m", 2, 3) == MISSING

    def test_an_id_that_somebody_copied_is_no_way_to_another_model(self, pair: Pair, connect: Connect):
        """Whoever may write some key could otherwise have others' predictions run a model of theirs."""
        owner, thief, direct = connect(pair.engine), connect(pair.engine), connect(pair.redis)
        used(thief, "models:stolen", "Mul")
        store_model(owner, "models:owned", "Add")
        for field in ("ai.model:id", "ai.model:meta"):
            told = direct.ask("HGET", "models:owned", field).partition(b"\r\n")[2][:-2]
            direct.ask("HSET", "models:stolen", field, told)
        assert predict(thief, "models:stolen", 2, 3) == 6.0

        assert predict(owner, "models:owned", 2, 3) == 5.0

    def test_the_same_key_in_two_databases_is_two_models(self, pair: Pair, connect: Connect):
        user, other = connect(pair.engine), connect(pair.engine)
        other.ask("SELECT 5")
        used(user, "models:db", "Add")
        used(other, "models:db", "Mul")

        user.ask("DEL models:db")

        assert predict(user, "models:db", 2, 3) == MISSING
        assert predict(other, "models:db", 2, 3) == 6.0
        other.ask("DEL models:db")


class TestDirectly:
    """A change made in Redis itself takes effect when Redis' invalidation message has arrived."""

    @pytest.mark.parametrize("removal", [removal for removal in REMOVALS if not removal.startswith("AI.")])
    def test_a_removed_model_is_gone_soon(self, wire: Connection, direct: Connection, removal: str):
        key = "models:direct"
        direct.send("SELECT 7", f"DEL {key} {key}:gone", "SELECT 0")
        direct.replies(3)
        used(wire, key)

        direct.ask(removal.format(key=key))

        wait_until(lambda: predict(wire, key, 2, 3) == MISSING, timeout_s=BOUND_S)

    def test_a_model_expires_in_time(self, wire: Connection, changer: Connection):
        used(wire, "models:expiring")

        changer.ask("PEXPIRE models:expiring 300")
        expires_at = time.monotonic() + 0.3

        while (answer := predict(wire, "models:expiring", 2, 3)) == 5.0:
            assert time.monotonic() < expires_at + BOUND_S
        assert answer == MISSING
        assert time.monotonic() > expires_at - 0.1

    def test_flushing_holds_soon(self, new_pair: Callable[..., Pair], connect: Connect):
        pair = new_pair()
        wire, direct = connect(pair.engine), connect(pair.redis)
        used(wire, "m")

        direct.ask("FLUSHALL")

        wait_until(lambda: predict(wire, "m", 2, 3) == MISSING, timeout_s=BOUND_S)

    def test_two_engines_in_front_of_one_redis(self, pair: Pair, new_engine: Callable[..., object], connect: Connect):
        first, second = connect(pair.engine), connect(new_engine("--redis", pair.redis.url))  # type: ignore[arg-type]
        used(first, "models:shared", "Add")
        assert predict(second, "models:shared", 2, 3) == 5.0

        store_model(second, "models:shared", "Mul")
        wait_until(lambda: predict(first, "models:shared", 2, 3) == 6.0, timeout_s=BOUND_S)
        first.ask("DEL models:shared")
        wait_until(lambda: predict(second, "models:shared", 2, 3) == MISSING, timeout_s=BOUND_S)


def tracking_ids(direct: Connection) -> list[str]:
    """Return the ids of the connections that have client tracking on."""
    lines = direct.ask("CLIENT LIST").decode().splitlines()
    tracking = [line for line in lines if "flags=t" in line or ("flags=" in line and "t" in flags_of(line))]
    return [line.split("id=")[1].split()[0] for line in tracking]


def flags_of(line: str) -> str:
    return line.split("flags=")[1].split(maxsplit=1)[0]


class TestLosingTracking:
    """Without the connection that receives invalidations nothing is known, and every prediction asks Redis."""

    def test_the_cache_is_emptied_and_comes_back(self, new_pair: Callable[..., Pair], connect: Connect):
        pair = new_pair()
        wire, direct = connect(pair.engine), connect(pair.redis)
        used(wire, "m")
        (number,) = tracking_ids(direct)

        direct.send(f"CLIENT KILL ID {number}", "DEL m")
        assert direct.replies(2) == [b":1\r\n", b":1\r\n"]

        wait_until(lambda: predict(wire, "m", 2, 3) == MISSING, timeout_s=BOUND_S)
        wait_until(lambda: tracking_ids(direct) not in ([], [number]), timeout_s=5)
        used(wire, "m", "Mul")
        wait_until(lambda: self.is_known(wire, direct), timeout_s=5)
        direct.ask("DEL m")
        wait_until(lambda: predict(wire, "m", 2, 3) == MISSING, timeout_s=BOUND_S)

    @staticmethod
    def is_known(wire: Connection, direct: Connection) -> bool:
        before = commands_of(direct, ("hmget",))
        for _ in range(10):
            predict(wire, "m", 2, 3)
        return commands_of(direct, ("hmget",)) - before < 10

    def test_a_redis_that_refuses_tracking_is_asked_every_time(self, new_pair: Callable[..., Pair], connect: Connect):
        """The engine's own connection isn't authenticated if its URL has no password."""
        pair = new_pair(redis=("--requirepass", "secret"))
        wire, direct = connect(pair.engine), connect(pair.redis)
        for connection in (wire, direct):
            connection.ask("AUTH secret")
        for _ in range(10):
            used(wire, "m")
            direct.ask("DEL m")
            assert predict(wire, "m", 2, 3) == MISSING

    def test_a_password_in_the_url_is_for_tracking_alone(
        self, new_redis: Callable[..., object], new_engine: Callable[..., object], connect: Connect
    ):
        redis = new_redis("--requirepass", "s/e:c@ret")
        url = f"redis://:s%2Fe%3Ac%40ret@127.0.0.1:{redis.port}"  # type: ignore[attr-defined]
        wire, direct = connect(new_engine("--redis", url)), connect(redis)  # type: ignore[arg-type]
        assert wire.ask("PING") == b"-NOAUTH Authentication required.\r\n"
        for connection in (wire, direct):
            connection.ask("AUTH", "s/e:c@ret")

        used(wire, "m")

        wait_until(lambda: self.is_known(wire, direct), timeout_s=5)


@pytest.mark.slow
class TestMemory:
    """The least recently used models are evicted when all of them take too many bytes."""

    def test_the_bound_makes_models_leave_and_they_come_back(self, new_pair: Callable[..., Pair], connect: Connect):
        pair = new_pair("--model-memory", str(len(model_blob("Add")) * 3))
        wire, direct = connect(pair.engine), connect(pair.redis)
        for number in range(6):
            store_model(wire, f"m{number}", "Add")
        for _ in range(2):
            for number in range(6):
                assert predict(wire, f"m{number}", number, 1) == number + 1

        assert commands_of(direct, ("hmget",)) >= 20  # evicted models had to be read again: metadata, then blob

    def test_models_deleted_at_another_engine_leave(
        self, new_pair: Callable[..., Pair], new_engine: Callable[..., Server], connect: Connect
    ):
        """Scripts do too (`test_watch.py`)."""
        pair = new_pair()
        second = new_engine("--redis", pair.redis.url)
        storing, predicting = connect(pair.engine), connect(second)
        blob = weights(2**20)
        store_onnx(storing, "first", blob)
        assert run_weights(predicting, "first") == OK

        before = model_memory(predicting)
        assert before > len(blob)
        for number in range(40):
            store_onnx(storing, f"m{number}", blob)
            assert run_weights(predicting, f"m{number}") == OK
            assert storing.ask(f"DEL m{number}") == b":1\r\n"

        wait_until(lambda: model_memory(predicting) == before)

    def test_a_model_larger_than_all_memory_is_refused_before_it_is_loaded(
        self, new_pair: Callable[..., Pair], connect: Connect
    ):
        wire = connect(new_pair("--model-memory", "50").engine)

        refused = wire.ask("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", bytes(51))

        assert refused == b"-ERR the model has 51 bytes; this engine keeps at most 50 in memory (model-memory)\r\n"
        assert wire.ask("EXISTS m") == b":0\r\n"

    def test_storing_a_model_again_and_again_does_not_fill_the_memory(
        self, new_pair: Callable[..., Pair], connect: Connect
    ):
        import psutil

        pair = new_pair()
        wire = connect(pair.engine)
        process = psutil.Process(pair.engine.process.pid)
        for _ in range(50):
            used(wire, "m")
        before = process.memory_info().rss

        for _ in range(500):
            wire.send(modelstore("m"), prediction("m", 2, 3))
            wire.replies(2)

        assert process.memory_info().rss - before < 40 * 2**20
