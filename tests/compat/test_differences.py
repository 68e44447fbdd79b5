"""What the engine does where it differs from RedisAI for good: every scenario of `differences.py` has a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from redis.exceptions import NoPermissionError

from compat.differences import DIFFERENCES
from support.servers import Server
from support.transcripts import recorded_model

pytestmark = pytest.mark.slow

Test = TypeVar("Test", bound=Callable[..., None])

COVERED: set[str] = set()


def instead_of(*names: str) -> Callable[[Test], Test]:
    """Says which scenarios a test stands for."""

    def mark(test: Test) -> Test:
        COVERED.update(names)
        return test

    return mark


@pytest.fixture
def client(private_engine: Server) -> Iterator[redis.Redis]:
    """The default user of an empty engine."""
    with redis.Redis(port=private_engine.port, protocol=2) as client:
        client.flushall()
        yield client


@pytest.fixture
def user(private_engine: Server, client: redis.Redis) -> Iterator[Callable[..., redis.Redis]]:
    """Makes a user with these rules, and gives a client of that user."""
    made = []

    def make(*rules: str) -> redis.Redis:
        client.execute_command("ACL", "SETUSER", "somebody", "reset", "on", ">secret", *rules)
        made.append(redis.Redis(port=private_engine.port, protocol=2, username="somebody", password="secret"))
        return made[-1]

    yield make
    for one in made:
        one.close()
    client.execute_command("ACL", "DELUSER", "somebody")


def store_mul(client: redis.Redis, key: str) -> None:
    """Stores the model that multiplies its two inputs."""
    stored = client.execute_command("AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", recorded_model("mul.onnx"))
    assert stored == b"OK"


def set_tensor(client: redis.Redis, key: str, *values: int) -> Any:
    return client.execute_command("AI.TENSORSET", key, "FLOAT", 1, len(values), "VALUES", *values)


def test_every_difference_has_a_test():
    assert set(DIFFERENCES) == COVERED


def test_every_difference_stands_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "engine" / "compatibility.md").read_text()

    assert [name for name in DIFFERENCES if f"`{name}`" not in page] == []


# -- Lua ------------------------------------------------------------------------------------------


@instead_of("admin/lua_tensor", "admin/lua_modelexecute")
@pytest.mark.parametrize("command", ["'AI.TENSORSET', 't', 'FLOAT', '1'", "'AI.MODELEXECUTE', 'm', 'INPUTS', '1', 't'"])
def test_lua_can_not_call_ai_commands(client: redis.Redis, command: str):
    with pytest.raises(redis.ResponseError, match="Unknown Redis command called from script"):
        client.eval(f"return redis.call({command})", 0)

    assert client.dbsize() == 0


# -- databases ------------------------------------------------------------------------------------


@instead_of("admin/select_model")
def test_a_model_runs_in_the_database_that_was_selected(private_engine: Server, client: redis.Redis):
    with redis.Redis(port=private_engine.port, protocol=2, db=1) as other:
        store_mul(other, "m")
        set_tensor(other, "a", 2, 3)

        assert other.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "a", "OUTPUTS", 1, "c") == b"OK"
        assert other.execute_command("AI.TENSORGET", "c", "VALUES") == [b"4", b"9"]

    with pytest.raises(redis.ResponseError, match="model key is empty"):
        client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "a", "OUTPUTS", 1, "c")
    assert client.dbsize() == 0


# -- queues ---------------------------------------------------------------------------------------


@instead_of("dag/timeout_behind_slow", "batching/timeout_behind_slow_run")
def test_a_slow_model_holds_up_only_its_own_requests(private_engine: Server, client: redis.Redis):
    client.execute_command("AI.MODELSTORE", "slow", "ONNX", "CPU", "BLOB", recorded_model("count_loop.onnx"))
    client.execute_command("AI.TENSORSET", "n", "INT64", 1, "VALUES", 2 * 10**9)
    client.execute_command("AI.TENSORSET", "s", "FLOAT", 1, "VALUES", 0)
    store_mul(client, "m")
    set_tensor(client, "a", 2, 3)
    slow_run = ("AI.MODELEXECUTE", "slow", "INPUTS", 2, "n", "s", "OUTPUTS", 1, "e")
    with redis.Redis(port=private_engine.port, protocol=2).client() as other:
        connection = other.connection
        connection.send_command(*slow_run)
        client.ping()  # by its answer, the engine has read what was sent before

        behind = client.execute_command(*slow_run, "TIMEOUT", 20)
        run = client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "a", "OUTPUTS", 1, "c")
        without_runs = client.execute_command(
            "AI.DAGEXECUTE", "PERSIST", 1, "x", "TIMEOUT", 20000, "|>", "AI.TENSORSET", "x", "FLOAT", 1, "VALUES", 1
        )
        slow_is_answered = connection.can_read(timeout=0)

    assert (behind, run, without_runs, slow_is_answered) == (b"TIMEDOUT", b"OK", [b"OK"], False)


# -- rights ---------------------------------------------------------------------------------------


@instead_of("admin/acl_categories")
def test_who_may_read_may_get_tensors_and_who_may_write_may_set_them(
    client: redis.Redis, user: Callable[..., redis.Redis]
):
    set_tensor(client, "t", 1)

    reader = user("~*", "+@read", "+@connection")
    assert reader.execute_command("AI.TENSORGET", "t", "VALUES") == [b"1"]
    with pytest.raises(NoPermissionError):
        set_tensor(reader, "t", 2)

    writer = user("~*", "+@write", "+@connection")
    with pytest.raises(NoPermissionError):
        writer.execute_command("AI.TENSORGET", "t", "VALUES")
    assert client.execute_command("AI.TENSORGET", "t", "VALUES") == [b"1"]


@instead_of("admin/acl_single_commands")
def test_who_may_not_write_strings_may_not_set_tensors_not_even_in_a_dag(
    client: redis.Redis, user: Callable[..., redis.Redis]
):
    """RedisAI 1.2.7 lets a DAG set what AI.TENSORSET may not."""
    with pytest.raises(redis.ResponseError, match=r"ai\.tensorget"):
        user("~*", "+ai.tensorget")

    restricted = user("~*", "+@all", "-set")

    with pytest.raises(NoPermissionError):
        set_tensor(restricted, "t", 1)
    dag = ["PERSIST", 1, "t", "|>", "AI.TENSORSET", "t", "FLOAT", 1, "VALUES", 1]
    set_inside, stored = restricted.execute_command("AI.DAGEXECUTE", *dag)
    assert set_inside == b"OK"
    assert isinstance(stored, NoPermissionError)
    assert client.dbsize() == 0


@instead_of("admin/acl_modelexecute_keys")
def test_who_may_not_read_a_model_does_not_see_it_in_the_scan(client: redis.Redis, user: Callable[..., redis.Redis]):
    store_mul(client, "in:m")
    store_mul(client, "other")

    restricted = user("~in:*", "+@all")

    assert restricted.execute_command("AI._MODELSCAN") == [[b"in:m", b""]]
    with pytest.raises(NoPermissionError):
        restricted.execute_command("AI.MODELGET", "other", "META")


# -- tensors as strings ----------------------------------------------------------------------------


@instead_of("admin/keyspace_events")
def test_redis_tells_of_a_tensor_that_was_set(private_engine: Server, client: redis.Redis):
    client.config_set("notify-keyspace-events", "KA")
    try:
        with redis.Redis(port=private_engine.port) as other, other.pubsub() as events:
            events.psubscribe("__keyspace@0__:t")
            set_tensor(client, "t", 1)
            client.delete("t")

            seen = [events.get_message(timeout=10) for _ in range(3)]
    finally:
        client.config_set("notify-keyspace-events", "")

    assert [message and message["data"] for message in seen] == [1, b"set", b"del"]


@instead_of("tensor/other_commands_on_tensor")
def test_commands_on_strings_take_a_tensor_and_one_that_they_broke_is_no_tensor_any_more(client: redis.Redis):
    set_tensor(client, "t", 1)

    assert client.strlen("t") == len(client.get("t") or b"") == 52
    for command in ("LPUSH t 1", "HGET t f", "INCR t"):
        with pytest.raises(redis.ResponseError, match=r"WRONGTYPE|not an integer"):
            client.execute_command(*command.split())

    client.append("t", "x")

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.execute_command("AI.TENSORGET", "t")


# -- names ----------------------------------------------------------------------------------------


@instead_of("model/type_rename_model")
def test_a_renamed_model_goes_by_its_new_name(client: redis.Redis):
    store_mul(client, "old")

    client.rename("old", "new")

    assert client.type("new") == b"AI__MODEL"
    assert client.execute_command("AI._MODELSCAN") == [[b"new", b""]]
    assert client.execute_command("AI.INFO", "new")[:2] == [b"key", b"new"]
    with pytest.raises(redis.ResponseError, match="cannot find run info for key"):
        client.execute_command("AI.INFO", "old")
