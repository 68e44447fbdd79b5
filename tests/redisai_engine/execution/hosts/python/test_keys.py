"""Which keys may hold a Python model that runs: `--python-models` and Redis' ACLs together decide who stores one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import redis

from redisai_engine.codec.record import verification_key
from support.gateway import Pair
from support.obedient import obedient, workers_of
from support.servers import Server, start_engine, start_redis
from support.waiting import wait_until

ELSEWHERE = "PYFUNC models are on for keys that match py:*,exact (python-models); {} doesn't"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """An engine that serves Python models under some keys, before a Redis of its own."""
    behind = start_redis(tmp_path_factory.mktemp("behind"))
    engine = start_engine(tmp_path_factory.mktemp("front"), "--redis", behind.url, "--python-models", "py:*,exact")
    yield Pair(engine, behind)
    engine.stop()
    behind.stop()


@pytest.fixture
def client(served: Pair) -> Iterator[redis.Redis]:
    """A client of the engine with a model under `py:a`, and no other key."""
    client = served.engine.client(socket_timeout=240)
    store(client, "py:a")
    yield client
    client.flushall()


def store(client: redis.Redis, key: str | bytes) -> None:
    assert client.execute_command("AI.MODELSTORE", key, "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"


def run(client: redis.Redis, key: str | bytes) -> object:
    command = ("AI.DAGEXECUTE", "ROUTING", key, "|>", "AI.TENSORSET", "x", "STRING", 1, "VALUES", "be well")
    outputs = ("|>", "AI.MODELEXECUTE", key, "INPUTS", 1, "x", "OUTPUTS", 1, "y", "|>", "AI.TENSORGET", "y", "VALUES")
    return client.execute_command(*command, *outputs)[-1]


def assert_it_runs(client: redis.Redis, key: str) -> None:
    assert run(client, key) == [b"be well"]


def assert_it_does_not_run(client: redis.Redis, key: str) -> None:
    with pytest.raises(redis.ResponseError, match=re.escape(ELSEWHERE.format(repr(key)))):
        run(client, key)


def test_a_model_is_stored_only_under_a_key_that_matches(client: redis.Redis) -> None:
    store(client, "exact")
    store(client, verification_key(b"py:new", "1"))
    assert_it_runs(client, "exact")

    for key in ("m", "exactly", "PY:a", "x:py:a", verification_key(b"m", "1").decode()):
        with pytest.raises(redis.ResponseError, match=re.escape(ELSEWHERE.format(repr(key)))):
            store(client, key)
        assert not client.exists(key)
    assert client.info("ai")["ai_python_models"] == "on"
    assert client.info("ai")["ai_python_model_keys"] in ("py:*,exact", ["py:*", "exact"])  # redis-py 6 splits it


def rename(client: redis.Redis, behind: redis.Redis) -> None:
    client.rename("py:a", "m")


def rename_if_free(client: redis.Redis, behind: redis.Redis) -> None:
    client.renamenx("py:a", "m")


def rename_in_a_transaction(client: redis.Redis, behind: redis.Redis) -> None:
    client.pipeline(transaction=True).rename("py:a", "m").execute()


def rename_past_the_engine(client: redis.Redis, behind: redis.Redis) -> None:
    behind.rename("py:a", "m")


def restore(client: redis.Redis, behind: redis.Redis) -> None:
    client.restore("m", 0, client.dump("py:a"))


def copy_past_the_engine(client: redis.Redis, behind: redis.Redis) -> None:
    behind.copy("py:a", "m")


def copy_in_a_transaction(client: redis.Redis, behind: redis.Redis) -> None:
    client.pipeline(transaction=True).copy("py:a", "m").execute()


def write_its_fields(client: redis.Redis, behind: redis.Redis) -> None:
    client.hset("m", mapping=client.hgetall("py:a"))


WAYS = [
    *(rename, rename_if_free, rename_in_a_transaction, rename_past_the_engine),
    *(restore, copy_past_the_engine, copy_in_a_transaction, write_its_fields),
]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_a_model_that_comes_under_another_key_does_not_run_there(
    client: redis.Redis, served: Pair, way: Callable[[redis.Redis, redis.Redis], None]
) -> None:
    assert_it_runs(client, "py:a")

    way(client, served.redis.client())

    for _ in range(2):
        assert_it_does_not_run(client, "m")
    client.rename("m", "py:b")
    assert_it_runs(client, "py:b")


def test_the_worker_of_a_model_that_is_renamed_to_such_a_key_ends(client: redis.Redis, served: Pair) -> None:
    assert_it_runs(client, "py:a")

    client.rename("py:a", "m")

    wait_until(lambda: not workers_of(served.engine))


def test_a_user_without_the_right_to_write_such_keys_runs_no_code(client: redis.Redis, served: Pair) -> None:
    admin = served.redis.client()
    words = ("on", ">secret", "+@all", "-@admin", "~team:*", "~mlflow-redisai:{team:*}:*")
    admin.execute_command("ACL", "SETUSER", "author", *words)
    author = served.engine.client(username="author", password="secret", socket_timeout=240)

    for key in ("py:a", "py:b", "exact", verification_key(b"py:b", "1").decode()):
        with pytest.raises(redis.exceptions.NoPermissionError):
            store(author, key)
    for key in ("team:m", verification_key(b"team:m", "1").decode()):
        with pytest.raises(redis.ResponseError, match="PYFUNC models are on for keys that match"):
            store(author, key)
    author.restore("team:m", 0, client.dump("py:a"))
    assert_it_does_not_run(author, "team:m")
    with pytest.raises(redis.exceptions.NoPermissionError):
        author.rename("team:m", "py:b")


def test_a_model_of_another_time_does_not_run_once_the_pattern_is_another(
    client: redis.Redis, served: Pair, new_engine: Callable[..., Server]
) -> None:
    narrower = new_engine("--redis", served.redis.url, "--python-models", "exact").client()

    with pytest.raises(redis.ResponseError, match=r"on for keys that match exact \(python-models\); 'py:a' doesn't"):
        run(narrower, "py:a")
