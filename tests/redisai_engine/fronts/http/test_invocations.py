"""
MLflow's scoring protocol: every request goes to MLflow's own scoring server and to the engine, and both must agree.

The models are of three families: a classifier with text labels, a pipeline with a text column, and ONNX with a tensor.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from support.http_calls import HttpReply, HttpServer
from support.mlflow_models import LoggedModel
from support.saved_models import save_multiplication, save_rent, save_wine
from support.scoring import FRAMES, JSON, WRONG, Sides, same, scoring_server
from support.waiting import wait_until


def save_wine_here(folder: Path) -> LoggedModel:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from support.mlflow_models import wine_frame

    return save_wine(folder, make_pipeline(StandardScaler(), LogisticRegression()), wine_frame()[1])


MODELS: dict[str, Callable[[Path], LoggedModel]] = {
    "wine": save_wine_here,
    "mixed": save_rent,
    "tensor": lambda folder: save_multiplication(folder, 1.1),
    "bare": lambda folder: save_multiplication(folder, 1.1, bare=True),
}


@pytest.fixture(scope="module", params=MODELS)
def sides(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, http: HttpServer
) -> Iterator[Sides]:
    import mlflow_redisai

    model = MODELS[request.param](tmp_path_factory.mktemp("scoring") / "model")
    name = f"scoring:{request.param}"
    mlflow_redisai.RedisAIClient(http.engine.target).create_deployment(name, model.uri)
    with scoring_server(model, http) as theirs:
        yield Sides(theirs, http, name, model)


@pytest.mark.parametrize("form", FRAMES)
def test_every_form_of_input_gets_mlflows_answer(sides: Sides, form: str) -> None:
    for rows in (1, 7):
        theirs, ours = sides.ask(*FRAMES[form](sides.model.frame.head(rows)))

        if theirs.status != 200:  # a form that this model doesn't take there
            assert ours.status in (200, theirs.status)
            continue
        assert ours.status == 200, ours.body
        assert ours.headers["content-type"] == theirs.headers["content-type"] == JSON
        assert same(ours.json(), theirs.json()), (ours.body, theirs.body)
        assert ours.headers["x-deployment"] == sides.name
        assert "run;dur=" in ours.headers["server-timing"]


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_refused_as_mlflow_does(sides: Sides, what: str) -> None:
    theirs, ours = sides.ask(*WRONG[what])

    assert theirs.status >= 400 or sides.name == "scoring:bare"  # without a signature, MLflow takes nearly anything
    assert ours.status >= 400
    assert b"Traceback" not in ours.body
    if 400 <= theirs.status < 500:
        assert ours.status == theirs.status, (ours.body, theirs.body)
        assert ours.headers["content-type"] == theirs.headers["content-type"]
    if ours.headers["content-type"] == JSON:
        assert ours.json().keys() == {"error_code", "message"}
        assert ours.json()["error_code"] in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")


def as_columns(frame: pd.DataFrame, content_type: str | None = None) -> dict[str, Any]:
    """Return a V2 request with one input for each column, as MLServer's clients make it of a frame."""
    inputs = []
    for name, column in frame.items():
        is_text = not pd.api.types.is_numeric_dtype(column)
        datatype = "BYTES" if is_text else "INT64" if pd.api.types.is_integer_dtype(column) else "FP64"
        item: dict[str, Any] = {"name": name, "datatype": datatype, "shape": [len(column), 1], "data": column.tolist()}
        if is_text and content_type == "base64":
            item["data"] = [base64.b64encode(text.encode()).decode() for text in column]
            item["parameters"] = {"content_type": "base64"}
        elif is_text:
            item["parameters"] = {"content_type": "str"}
        inputs.append(item)
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


@pytest.mark.parametrize("sides", ["wine", "mixed"], indirect=True)
@pytest.mark.parametrize("texts", ["str", "base64"])
def test_v2_takes_a_column_per_input(sides: Sides, texts: str) -> None:
    frame = sides.model.frame.head(4)

    reply = sides.ours.ask("POST", f"/v2/models/{sides.name}/infer", as_columns(frame, texts))

    assert reply.status == 200, reply.body
    (output,) = reply.json()["outputs"]
    assert output["name"] == "output-1"
    assert same(output["data"], sides.model.pyfunc.predict(frame).tolist())


@pytest.mark.parametrize("sides", ["mixed"], indirect=True)
def test_v2_names_the_column_that_is_missing(sides: Sides) -> None:
    document = as_columns(sides.model.frame.head(2))
    del document["inputs"][1]

    reply = sides.ours.ask("POST", f"/v2/models/{sides.name}/infer", document)

    assert reply.status == 400
    assert "'rooms'" in reply.json()["error"]


@pytest.mark.parametrize("sides", ["mixed"], indirect=True)
@pytest.mark.parametrize(("kind", "value"), [("base64", "!"), ("datetime", "noon"), ("jpeg", "x")])
def test_a_content_type_must_fit(sides: Sides, kind: str, value: str) -> None:
    item = {"name": "z", "datatype": "BYTES", "shape": [1], "data": [value], "parameters": {"content_type": kind}}

    assert sides.ours.ask("POST", f"/v2/models/{sides.name}/infer", {"inputs": [item]}).status == 400


def test_version_and_ping_are_mlflows(sides: Sides) -> None:
    for path in ("/version", "/ping", "/health"):
        theirs, ours = sides.mlflow.ask("GET", path), sides.ours.ask("GET", path)

        assert (ours.status, ours.body) == (theirs.status, theirs.body)
        assert ours.headers["content-type"] == theirs.headers["content-type"]


def test_a_deployment_that_is_not_there(http: HttpServer) -> None:
    reply = http.ask("POST", "/invocations/nobody", {"inputs": [1]})

    assert reply.status == 404
    assert reply.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"


def test_a_model_that_another_client_stored_takes_arrays(http: HttpServer) -> None:
    reply = http.ask("POST", "/invocations/http:tiny", {"inputs": {"a": [[1, 2]], "b": [[3, 4]]}})

    assert reply.json() == {"predictions": {"product": [[3.0, 8.0]], "sum": [[4.0, 6.0]]}}


def test_the_path_without_a_name_is_the_only_deployment(new_http: Callable[..., HttpServer]) -> None:
    from support.tiny_models import product_and_sum

    server = new_http()
    client = server.engine.client()
    body = {"inputs": {"a": [[1, 2]], "b": [[3, 4]]}}
    assert server.ask("POST", "/invocations", body).status == 404

    client.execute_command("AI.MODELSTORE", "one", "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    assert server.ask("POST", "/invocations", body).headers["x-deployment"] == "one"

    client.execute_command("AI.MODELSTORE", "two", "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    refusal = wait_until(lambda: refused(server, body), what="two deployments to be noticed")
    assert "there are 2 deployments" in refusal.json()["message"]


def refused(server: HttpServer, body: Any) -> HttpReply | None:
    reply = server.ask("POST", "/invocations", body)
    return reply if reply.status == 404 else None


def test_a_setting_names_the_default(new_http: Callable[..., HttpServer]) -> None:
    from support.tiny_models import product_and_sum

    server = new_http("--default-deployment", "two")
    client = server.engine.client()
    for name in ("one", "two"):
        client.execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)

    reply = server.ask("POST", "/invocations", {"inputs": {"a": [[1, 2]], "b": [[3, 4]]}})

    assert reply.headers["x-deployment"] == "two"


def test_waiting_is_bounded_and_so_is_a_run(new_http: Callable[..., HttpServer]) -> None:
    from support.tiny_models import onnx_counter, product_and_sum

    server = new_http("--queue-limit", "1", "--model-execution-timeout", "500")
    client = server.engine.client()
    client.execute_command("AI.MODELSTORE", "slow", "ONNX", "CPU", "BLOB", onnx_counter())
    batching = ("BATCHSIZE", 8, "MINBATCHSIZE", 8, "MINBATCHTIMEOUT", 60_000)
    client.execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", *batching, "BLOB", product_and_sum("ONNX").blob)
    late = server.ask("POST", "/invocations/slow", {"inputs": {"n": [2**40], "start": [0.0]}})
    assert (late.status, late.json()["error_code"]) == (504, "TEMPORARILY_UNAVAILABLE")

    body = {"inputs": {"a": [[1, 2]], "b": [[3, 4]]}}
    waiting = server.connection()
    waiting.request("POST", "/invocations/m", json.dumps(body), {"content-type": "application/json"})
    wait_until(lambda: re.search(r"redisai_waiting\{.* 1", server.ask("GET", "/metrics").body.decode()), what="one")
    refused_now = server.ask("POST", "/invocations/m", body)
    waiting.close()

    assert refused_now.status == 503
    assert refused_now.headers["retry-after"] == "1"
