"""Models and records change together. Whatever EXEC could not do is noticed and repaired."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from mlflow_redisai import RedisAIClient, errors
from mlflow_redisai.config import DeploymentOptions
from mlflow_redisai.server.commands import ModelMeta, ModelToStore
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.server.deployments import Deployments, Prepared
from mlflow_redisai.server.record import Record
from mlflow_redisai.target import Target
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.record import record_key
from support.saved_models import save_large, save_multiplication
from support.servers import Server, start_redis

Keys = Callable[[str], list[str]]

ROWS = np.array([[1.0, 2.0]], np.float32)
GARBAGE = ModelToStore(ModelMeta(backend="ONNX", device="CPU"), b"not a model", chunk_bytes=1000)


@pytest.fixture(scope="module")
def doubling(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_multiplication(tmp_path_factory.mktemp("models") / "doubling", 2.0).uri


@pytest.fixture
def store(engine: Server) -> Deployments:
    return Deployments(Connection(Target.parse(engine.target)))


def some_record() -> Record:
    return Record(
        **Record.new_identity(),
        flavor="onnx",
        model_uri="",
        run_id=None,
        signature=None,
        mapping=Mapping.generic(["x"], ["y"]),
        verification=None,
        notes=(),
        options=DeploymentOptions(),
        fingerprint="",
    )


def test_a_store_that_fails_inside_exec_leaves_the_old_deployment_whole(
    engine: Server, client: RedisAIClient, store: Deployments, doubling: str
) -> None:
    """EXEC doesn't roll back: the new record is written although the model isn't, and must be removed again."""
    client.create_deployment("exec:kept", doubling)
    before = engine.client().hgetall(record_key(b"exec:kept"))

    with pytest.raises(errors.ModelRefused, match="can't load this model"):
        store.replace("exec:kept", Prepared(GARBAGE, some_record()))

    assert engine.client().hgetall(record_key(b"exec:kept")) == before
    assert client.predict("exec:kept", ROWS)["predictions"]["y"].tolist() == [[2.0, 4.0]]


def test_a_first_store_that_fails_inside_exec_leaves_nothing(store: Deployments, keys: Keys) -> None:
    with pytest.raises(errors.ModelRefused):
        store.create("exec:nothing", Prepared(GARBAGE, some_record()))

    assert keys("exec:nothing") == []


def test_a_model_that_the_server_can_not_load_is_refused_before_it_takes_the_name(
    store: Deployments, keys: Keys
) -> None:
    with pytest.raises(errors.ModelRefused) as caught, store.staged("aside:garbage", GARBAGE, 1000):
        raise AssertionError("it was stored")

    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert keys("aside:garbage") == []


def test_a_record_is_not_written_over_somebody_elses_key(
    engine: Server, client: RedisAIClient, doubling: str, keys: Keys
) -> None:
    engine.client().set(record_key(b"record:theirs"), "mine")

    with pytest.raises(MlflowException) as caught:
        client.create_deployment("record:theirs", doubling)

    assert caught.value.error_code == "RESOURCE_CONFLICT"
    assert keys("record:theirs") == [record_key(b"record:theirs").decode()]
    assert engine.client().get(record_key(b"record:theirs")) == b"mine"


def test_only_the_deployment_that_was_read_is_replaced(
    client: RedisAIClient, store: Deployments, doubling: str
) -> None:
    client.create_deployment("instead:of", doubling)
    read = store.read("instead:of")
    client.update_deployment("instead:of", config={"tag": "theirs"})

    replaced = store.replace("instead:of", Prepared(GARBAGE, some_record()), instead_of=read)

    assert replaced is False
    assert client.get_deployment("instead:of")["tag"] == "theirs"


def sent(engine: Server) -> int:
    found: int = engine.client().info("stats")["total_net_input_bytes"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("change", ["create", "update", "options"])
def test_a_model_is_sent_once(
    engine: Server, client: RedisAIClient, tmp_path: Path, doubling: str, change: str
) -> None:
    """From the trial's key to its name it only needs a RENAME."""
    large, name = save_large(tmp_path / "large", 2.0), f"once:{change}"
    if change != "create":
        client.create_deployment(name, doubling if change == "update" else large.uri)
    before = sent(engine)

    if change == "create":
        client.create_deployment(name, large.uri)
    else:
        client.update_deployment(name, *([large.uri] if change == "update" else []), config={"tag": "v2"})

    assert 64 << 20 < sent(engine) - before < 80 << 20
    assert engine.client().pttl(name) == -1
    client.delete_deployment(name)


def test_runs_of_the_trial_do_not_count(engine: Server, client: RedisAIClient, doubling: str) -> None:
    client.create_deployment("counted", doubling)
    before = engine.client().execute_command("AI.INFO", "counted")
    client.predict("counted", ROWS)
    after = engine.client().execute_command("AI.INFO", "counted")

    calls = before.index(b"calls") + 1
    assert (before[calls], after[calls]) == (0, 1)


def test_who_may_not_rename_keys_may_still_deploy(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], doubling: str
) -> None:
    redis = new_redis()
    engine = new_engine("--redis", redis.url)
    redis.client().acl_setuser(
        "storing", enabled=True, passwords=["+x"], keys=["*"], categories=["+@all"], commands=["-rename"]
    )
    client = RedisAIClient(f"redisai://storing:x@127.0.0.1:{engine.port}/0")

    client.create_deployment("stored", doubling)

    assert client.predict("stored", ROWS)["predictions"]["y"].tolist() == [[2.0, 4.0]]
    assert redis.client().keys("*:verify:*") == []
    assert redis.client().pttl("stored") == -1


def test_a_trial_that_has_expired_is_stored_again(
    engine: Server, client: RedisAIClient, store: Deployments, doubling: str
) -> None:
    """Something may have held up the client for longer than the key lasts."""
    client.create_deployment("expired:first", doubling)
    first = store.read("expired:first")
    assert first.record is not None
    model = ModelToStore(first.meta, store.blob("expired:first"), chunk_bytes=1 << 20)

    with store.staged("expired", model, 1000) as (key, _):
        engine.client().delete(key)
        store.create("expired", Prepared(model, first.record, key))

    assert client.predict("expired", ROWS)["predictions"]["y"].tolist() == [[2.0, 4.0]]


def test_a_model_bigger_than_the_servers_chunk_goes_and_comes_in_pieces(
    new_engine: Callable[..., Server], doubling: str
) -> None:
    engine = new_engine()
    engine.client().execute_command("AI.CONFIG", "MODEL_CHUNK_SIZE", 50)
    client = RedisAIClient(engine.target)

    client.create_deployment("pieces", doubling)
    updated = client.update_deployment("pieces", config={"tag": "x"})

    assert isinstance(engine.client().execute_command("AI.MODELGET", "pieces", "BLOB"), list)
    assert updated["tag"] == "x"
    assert client.predict("pieces", ROWS)["predictions"]["y"].tolist() == [[2.0, 4.0]]


def test_databases_are_apart(engine: Server, doubling: str) -> None:
    zero, two = (RedisAIClient(f"redisai://127.0.0.1:{engine.port}/{db}") for db in (0, 2))

    two.create_deployment("db:model", doubling)

    assert two.predict("db:model", ROWS)["predictions"]["y"].tolist() == [[2.0, 4.0]]
    assert [row["name"] for row in two.list_deployments()] == ["db:model"]
    with pytest.raises(errors.DeploymentMissing):
        zero.get_deployment("db:model")


def test_a_user_without_rights_is_told_and_nothing_is_left(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], doubling: str
) -> None:
    """Permission for the model's key alone is not enough, because the record is a separate key."""
    redis = new_redis()
    redis.client().execute_command("ACL", "SETUSER", "me", "on", ">s3cr3t", "~iris", "+@all")
    engine = new_engine("--redis", redis.url)
    client = RedisAIClient(f"redisai://me:s3cr3t@127.0.0.1:{engine.port}")

    with pytest.raises(MlflowException) as caught:
        client.create_deployment("iris", doubling)

    assert caught.value.error_code == "PERMISSION_DENIED"
    assert "on the model's key and on mlflow-redisai:*" in caught.value.message
    assert "s3cr3t" not in caught.value.message
    assert redis.client().keys("*") == []


def test_a_server_without_memory_left_is_told_and_nothing_is_left(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], doubling: str
) -> None:
    redis = new_redis()
    engine = new_engine("--redis", redis.url)
    redis.client().config_set("maxmemory", 1)

    with pytest.raises(MlflowException) as caught:
        RedisAIClient(engine.target).create_deployment("iris", doubling)

    assert caught.value.error_code == "RESOURCE_EXHAUSTED"
    assert redis.client().keys("*") == []


def test_a_deployment_changed_again_and_again_is_given_up(store: Deployments, doubling: str, engine: Server) -> None:
    """After every WATCH another client makes a change, more often than the plugin tries."""
    client = RedisAIClient(engine.target)
    client.create_deployment("busy:model", doubling)
    other = engine.client()
    read = store.read("busy:model")
    assert read.record is not None

    def disturbed(transaction: object, name: str) -> tuple[bytes | None, str]:
        other.hset(record_key(b"busy:model"), "touched", "again")
        return read.identity

    store._identity = disturbed  # type: ignore[method-assign]
    model = ModelToStore(read.meta, store.blob("busy:model"), 10_000)

    with pytest.raises(errors.ConcurrentChange) as caught:
        store.replace("busy:model", Prepared(model, read.record), instead_of=read)

    assert caught.value.error_code == "ABORTED"
    assert (
        caught.value.message
        == "other clients changed the deployment 'busy:model' during each of 20 attempts; try again later"
    )


def test_a_server_that_has_no_processes_for_models_is_not_asked_for_one(tmp_path: Path) -> None:
    """A plain Redis lacks the engine's commands, as RedisAI does."""
    redis = start_redis(tmp_path)
    try:
        with pytest.raises(errors.InvalidRequest, match="option isolate=yes needs mlflow-redisai's engine"):
            Deployments(Connection(Target.parse(redis.target))).check_isolation("m")
    finally:
        redis.stop()
