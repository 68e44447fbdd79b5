"""Python models (backend PYFUNC): stored, described and run by tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import redis
from sklearn.linear_model import LinearRegression

from redisai_engine.protocol import parcels
from support.obedient import archive, obedient, workers_of
from support.servers import Server, start_engine
from support.waiting import wait_until


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    engine = start_engine(tmp_path_factory.mktemp("python"), "--python-models", "yes")
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def client(serving: Server) -> redis.Redis:
    return serving.client(socket_timeout=240)


def test_a_model_of_columns_is_run_by_a_tensor(client: redis.Redis, tmp_path: Path) -> None:
    """The tensor's columns get the names and types of the signature, without which MLflow refuses the input."""
    rows = np.random.default_rng(1).normal(size=(50, 3))
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    model = LinearRegression().fit(frame, rows @ [1.0, 2.0, 3.0] + 4)
    mlflow.sklearn.save_model(
        model, tmp_path / "m", signature=mlflow.models.infer_signature(frame), pip_requirements=[]
    )

    store = ["AI.MODELSTORE", "m", "PYFUNC", "CPU", "TAG", "v1", "INPUTS", 1, "rows", "OUTPUTS", 1, "answers"]
    assert client.execute_command(*store, "BLOB", archive(tmp_path / "m")) == b"OK"
    client.execute_command("AI.TENSORSET", "x", "DOUBLE", 50, 3, "BLOB", rows.tobytes())
    assert client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y") == b"OK"
    answer = np.frombuffer(client.execute_command("AI.TENSORGET", "y", "BLOB"))

    np.testing.assert_array_equal(answer, model.predict(frame))
    meta = client.execute_command("AI.MODELGET", "m", "META")
    assert dict(zip(meta[::2], meta[1::2], strict=True))[b"inputs"] == [b"rows"]


OFF = (
    "PYFUNC models are off; start the engine with --python-models, and without MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false"
)


def run_obedient(client: redis.Redis, key: str, text: str) -> bytes:
    client.execute_command("AI.TENSORSET", "{m}x", "STRING", 1, "VALUES", text)
    client.execute_command("AI.MODELEXECUTE", key, "INPUTS", 1, "{m}x", "OUTPUTS", 1, "{m}y")
    return client.execute_command("AI.TENSORGET", "{m}y", "VALUES")[0]  # type: ignore[no-any-return]


def test_a_parcel_is_answered_by_a_parcel(client: redis.Redis) -> None:
    """With the params that came with it. A damaged one is an error, and costs no worker."""
    assert client.execute_command("AI.MODELSTORE", "p", "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"

    def ask(parcel: bytes) -> object:
        client.execute_command("AI.TENSORSET", "x", "UINT8", len(parcel), "BLOB", parcel)
        client.execute_command("AI.MODELEXECUTE", "p", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
        return parcels.unpack(client.execute_command("AI.TENSORGET", "y", "BLOB"))[0]

    assert ask(parcels.pack(["say this", "and that"])) == ["say this", "and that"]
    with pytest.raises(redis.ResponseError, match="the parcel is damaged"):
        ask(parcels.pack(["say this"])[:20])
    assert ask(parcels.pack(["say this"])) == ["say this"]


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (b"nothing", "the blob is not a whole ZIP archive"),
        (archive(Path("/nowhere")), "the archive has no model/MLmodel"),
        (archive(Path("/nowhere"), **{"model/MLmodel": b"flavors: {}"}), "the model can't be loaded: MlflowException"),
        (archive(Path("/nowhere"), **{"model/MLmodel": b"x", "model/../../y": b""}), "leads out of its folder"),
        (
            archive(
                Path("/nowhere"),
                {"environment": {"kind": "path", "path": "/nowhere/python"}},
                **{"model/MLmodel": b"flavors: {}"},
            ),
            "/nowhere/python",
        ),
    ],
)
def test_a_blob_that_is_no_model_is_refused(client: redis.Redis, blob: bytes, problem: str) -> None:
    with pytest.raises(redis.ResponseError, match=problem):
        client.execute_command("AI.MODELSTORE", "bad", "PYFUNC", "CPU", "BLOB", blob)

    assert not client.exists("bad")


def test_a_model_is_a_key_like_any_other_and_runs_only_where_python_models_are_on(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server]
) -> None:
    behind = new_redis()
    on, off = new_engine("--redis", behind.url, "--python-models"), new_engine("--redis", behind.url)
    allowed, forbidden = on.client(socket_timeout=240), off.client(socket_timeout=240)
    blob = obedient()

    assert allowed.execute_command("AI.MODELSTORE", "{m}a", "PYFUNC", "CPU", "BLOB", blob) == b"OK"
    with pytest.raises(redis.ResponseError, match=re.escape(OFF)):
        forbidden.execute_command("AI.MODELSTORE", "{m}b", "PYFUNC", "CPU", "BLOB", blob)
    forbidden.restore("{m}copy", 0, allowed.dump("{m}a"))
    with pytest.raises(redis.ResponseError, match=re.escape(OFF)):
        run_obedient(forbidden, "{m}copy", "be well")
    assert forbidden.execute_command("AI.MODELGET", "{m}copy", "BLOB") == blob
    assert [client.info("ai")["ai_python_models"] for client in (allowed, forbidden)] == ["on", "off"]

    assert run_obedient(allowed, "{m}a", "be well") == b"be well"
    assert allowed.execute_command("AI.INFO", "{m}a")[2:6] == [b"type", b"MODEL", b"backend", b"PYFUNC"]
    allowed.execute_command("AI.MODELDEL", "{m}a")
    wait_until(lambda: not workers_of(on))
    assert run_obedient(allowed, "{m}copy", "be well") == b"be well"
