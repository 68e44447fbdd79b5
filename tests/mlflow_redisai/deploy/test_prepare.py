"""Which model and flavor a URI stands for, and what the server's replies to a trial run mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis.exceptions import ResponseError

from mlflow_redisai import RedisAIClient, errors
from mlflow_redisai.deploy.prepare import tensors_of
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.target import Target
from redisai_engine.codec.record import record_key
from support.local_runs import save_onnx
from support.mlflow_models import LoggedModel, wine_frame
from support.saved_models import save_wine
from support.servers import Server


def refused(reply: object, target: str = "redisai://h") -> errors.RedisAIError:
    with pytest.raises(errors.RedisAIError) as caught:
        tensors_of(Connection(Target.parse(target)), reply, 1, 50)
    return caught.value


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (b"TIMEDOUT", errors.PredictionTimedOut, "Redis at h:6379 didn't start the prediction within 50 ms; "),
        (
            [b"OK", ResponseError("bad dims"), b"NA"],
            errors.ModelFailed,
            "the model failed on Redis at h:6379: bad dims",
        ),
        (ResponseError("OOM no memory"), errors.ServerOutOfMemory, "Redis at h:6379 is out of memory: "),
        ([b"OK", b"OK", b"NA"], errors.UnexpectedReply, "Redis at h:6379 sent a reply that the plugin can't "),
    ],
)
def test_what_is_no_answer_becomes_an_error(reply: object, kind: type[Exception], message: str) -> None:
    error = refused(reply)

    assert type(error) is kind
    assert error.message.startswith(message)


def test_a_redisai_that_runs_only_models_of_database_0_is_told_as_such() -> None:
    """RedisAI 1.2.7 stores a model in the selected database, but looks in database 0 when it runs one."""
    error = refused(ResponseError("model key is empty"), "redisai://h/2")

    assert error.error_code == "INVALID_PARAMETER_VALUE"
    assert error.message == (
        "Redis at h:6379/2 runs only models in database 0: model key is empty; set database 0 in the target"
    )


# -- which model ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_form_of_a_uri_is_deployed(client: RedisAIClient, wine: LoggedModel, tmp_path: Path) -> None:
    """
    By alias, version, run, the model's own id (MLflow 3), file: URI and plain folder: one model, the same answers.
    """
    import mlflow

    found = mlflow.MlflowClient().get_model_version_by_alias("wine", "champion")
    folder = mlflow.artifacts.download_artifacts(wine.uri, dst_path=str(tmp_path))
    by_id = [found.source] if found.source.startswith("models:/m-") else []
    uris = [wine.uri, f"models:/wine/{found.version}", f"runs:/{found.run_id}/wine", *by_id, f"file:{folder}", folder]

    for number, uri in enumerate(uris):
        created = client.create_deployment(f"uri:{number}", uri)

        assert client.get_deployment(f"uri:{number}")["model_uri"] == uri
        assert created["verification"]["status"] == "passed"
        assert client.predict(f"uri:{number}", wine.frame).get_predictions().tolist() == wine.expected().tolist()


@pytest.mark.slow
def test_of_several_flavors_the_first_of_the_table_is_deployed_or_the_one_named(
    cli: Any, client: RedisAIClient, engine: Server, tmp_path: Path
) -> None:
    """
    One folder has both: a classifier as scikit-learn's, a regression as ONNX. The answers show which one is served.
    """
    from mlflow.models import Model
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression
    from sklearn.naive_bayes import GaussianNB

    frame, labels = wine_frame()
    saved = save_wine(tmp_path / "both", GaussianNB(), labels)
    regression = LinearRegression().fit(frame, frame["alcohol"])
    graph = save_onnx(tmp_path / "graph", to_onnx(regression, frame.to_numpy(np.float32)[:1], target_opset=15))
    (graph / "model.onnx").rename(tmp_path / "both" / "model.onnx")
    meta = Model.load(str(tmp_path / "both"))
    meta.add_flavor("onnx", onnx_version="1.0", data="model.onnx", providers=["CPUExecutionProvider"])
    meta.save(str(tmp_path / "both" / "MLmodel"))
    target = ("-t", engine.target, "-m", saved.uri, "-C", "verify=false")

    first = cli("deployments", "create", *target, "--name", "both:first")
    named = cli("deployments", "create", *target, "--name", "both:named", "-f", "sklearn")

    assert "onnx deployment both:first is created" in first.stdout
    assert "sklearn deployment both:named is created" in named.stdout
    numbers = client.predict("both:first", frame).get_predictions()["variable"]
    np.testing.assert_allclose(numbers, frame["alcohol"], rtol=1e-3)
    assert client.predict("both:named", frame).get_predictions().tolist() == saved.expected().tolist()


# -- whose answer the stored model was compared with ----------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "reference"), [(None, "mlflow.pyfunc"), ("probabilities", "Pipeline's own predict_proba")]
)
def test_get_tells_whose_answer_the_model_was_compared_with(
    outputs: str | None, reference: str, client: RedisAIClient, saved_wine: LoggedModel
) -> None:
    config = {} if outputs is None else {"outputs": outputs}
    created = client.create_deployment(f"compared:{outputs}", saved_wine.uri, config=config)

    found = client.get_deployment(f"compared:{outputs}")["verification"]

    assert (found["status"], found["rows"], found["reference"]) == ("passed", 5, reference)
    assert created["verification"] == found


def test_a_record_that_was_written_before_reads_as_saying_nothing_of_it(
    client: RedisAIClient, engine: Server, saved_wine: LoggedModel
) -> None:
    client.create_deployment("compared:before", saved_wine.uri)
    record = record_key(b"compared:before")
    written = json.loads(engine.client().hget(record, "verification"))
    del written["reference"]
    engine.client().hset(record, "verification", json.dumps(written))

    assert client.get_deployment("compared:before")["verification"] == {**written, "reference": None}


def test_an_output_that_the_model_itself_does_not_give_is_deployed_with_a_warning(
    client: RedisAIClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The graph of a linear support vector machine has probabilities, but the library has none to compare them with."""
    from sklearn.svm import LinearSVC

    _, labels = wine_frame()
    saved = save_wine(tmp_path / "wine", LinearSVC(), labels)

    created = client.create_deployment("compared:nobody", saved.uri, config={"outputs": "probabilities"})

    status = "not verified: LinearSVC itself has no method that gives 'probabilities'"
    assert (created["verification"]["status"], created["notes"]) == (status, [status])
    assert f"compared:nobody: {status}" in caplog.text
