"""Predictions that wait too long, that are split into chunks, and that go on while their deployment changes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from redis.exceptions import RedisError

from mlflow_redisai import RedisAIClient, errors
from mlflow_redisai.predict.chunks import CHUNK_BYTES
from mlflow_redisai.predict.predictor import _rows_at_once
from mlflow_redisai.server.commands import dag
from mlflow_redisai.server.deployments import Deployment
from redisai_engine.codec.mapping import Mapping, Output
from redisai_engine.protocol.tensor import Tensor
from support.saved_models import save_multiplication
from support.servers import Server
from support.tiny_models import onnx_counter
from support.waiting import wait_until

ROWS = np.array([[1.0, 2.0]], np.float32)


def count(times: int) -> list[Tensor]:
    return [Tensor.from_array(np.array([times])), Tensor.from_array(np.zeros(1, np.float32))]


def test_a_prediction_that_waits_too_long_is_given_up_with_an_error(new_engine: Callable[..., Server]) -> None:
    """RedisAI replies TIMEDOUT as if nothing were wrong. Here a long run occupies the device's only thread."""
    engine = new_engine()
    redis = engine.client()
    redis.execute_command("AI.MODELSTORE", "slow", "ONNX", "CPU", "BLOB", onnx_counter())
    client = RedisAIClient(engine.target)
    RedisAIClient(f"{engine.target}?timeout=120").update_deployment("slow", config={"timeout": 500})
    n, start = np.array([10]), np.zeros(1, np.float32)

    def run_long() -> None:
        with contextlib.suppress(RedisError):  # it may take longer than this client or the engine waits
            redis.execute_command(*dag(b"slow", count(2_000_000), 1, [0], 0))

    running = threading.Thread(target=run_long, daemon=True)

    running.start()
    # On a busy machine the server's answer may come later than the limit of the whole.
    with pytest.raises((errors.PredictionTimedOut, errors.CallTimedOut)) as caught:
        # The long run may not have begun yet when the first predictions arrive.
        wait_until(lambda: not client.predict("slow", {"n": n, "start": start}), timeout_s=20)

    assert caught.value.error_code == "DEADLINE_EXCEEDED"
    assert caught.value.message.startswith(
        (
            f"Redis at 127.0.0.1:{engine.port} didn't start the prediction within 500 ms; raise the option timeout, or",
            "the prediction with 'slow' took longer than 0.5 s and was given up: ",
        )
    )
    running.join()


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(None,), (None, 3)], CHUNK_BYTES // 8),
        ([(None,), (1, 3)], None),  # one answer for all rows
        ([(None,), None], None),  # unknown
        ([()], None),
    ],
)
def test_rows_are_sent_apart_only_where_each_has_an_answer_of_its_own(
    shapes: list[tuple[int | None, ...] | None], expected: int | None
) -> None:
    names = [f"o{index}" for index in range(len(shapes))]
    generic = Mapping.generic(["x"], names)
    outputs = tuple(Output(name, shape=shape) for name, shape in zip(names, shapes, strict=True))
    mapping = Mapping(generic.inputs, outputs, generic.fetch, generic.answer)

    assert _rows_at_once([Tensor.from_array(np.zeros((1000, 2), np.float32))], 1000, mapping) == expected


def test_what_is_known_of_a_deployment_is_read_once(client: RedisAIClient, engine: Server, tmp_path: Path) -> None:
    """A prediction is one round trip. Reading a deployment sends HGETALL."""
    client.create_deployment("known:model", save_multiplication(tmp_path / "m", 2.0).uri)
    client.predict("known:model", ROWS)

    def read() -> int:
        found: int = engine.client().info("commandstats")["cmdstat_hgetall"]["calls"]
        return found

    before = read()
    for _ in range(10):
        client.predict("known:model", ROWS)

    assert read() == before


def test_a_repeated_prediction_asks_nothing_of_redis(
    connect: Callable[..., RedisAIClient], engine: Server, tmp_path: Path
) -> None:
    """The engine knows the model's version. Only the rights are checked again every second, with EXISTS and HMGET."""
    client = connect()
    client.create_deployment("near:model", save_multiplication(tmp_path / "m", 2.0).uri)
    watcher = engine.client()

    def asked() -> dict[str, int]:
        found = watcher.info("commandstats")
        return {name: found.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("hget", "hmget", "hgetall")}

    client.predict("near:model", ROWS)
    before, rounds = asked(), 300
    for _ in range(rounds):
        client.predict("near:model", ROWS)
    after = asked()

    assert sum(after.values()) - sum(before.values()) < rounds / 10


def test_an_input_that_only_the_new_model_takes_is_predicted_with_it(
    connect: Callable[..., RedisAIClient], engine: Server, tmp_path: Path
) -> None:
    """The client has cached the old model, which would refuse the input."""
    mine, theirs = connect(), connect()
    mine.create_deployment("wider:model", save_multiplication(tmp_path / "two", 2.0).uri)
    mine.predict("wider:model", ROWS)

    theirs.update_deployment("wider:model", save_multiplication(tmp_path / "three", 3.0, width=3).uri)

    wide = np.ones((1, 3), np.float32)
    assert mine.predict("wider:model", wide)["predictions"]["y"].tolist() == [[3.0, 3.0, 3.0]]
    with pytest.raises(errors.InvalidInput):
        mine.predict("wider:model", ROWS)


def test_a_deployment_that_never_stays_the_same_is_given_up(client: RedisAIClient, tmp_path: Path) -> None:
    """Here everything that is read is outdated at once, as if another client updated faster than this one predicts."""
    client.create_deployment("hasty:model", save_multiplication(tmp_path / "m", 2.0).uri)
    read = client._store.read

    def outdated(name: str) -> Deployment:
        found = read(name)
        return Deployment(found.name, found.meta, found.record, b"another", b"another")

    client._store.read = outdated  # type: ignore[method-assign]

    with pytest.raises(errors.ConcurrentChange) as caught:
        client.predict("hasty:model", ROWS)

    assert (
        caught.value.message
        == "other clients changed the deployment 'hasty:model' during each of 50 attempts; try again later"
    )
