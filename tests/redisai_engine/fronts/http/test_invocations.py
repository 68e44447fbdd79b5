"""
MLflow's scoring protocol: every request goes to MLflow's own scoring server and to the engine, and both must agree.

The models are of three families: a classifier with text labels, a pipeline with a text column, and ONNX with a tensor.
"""

from __future__ import annotations

import base64
import io
import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from support.http_calls import HttpReply, HttpServer
from support.mlflow_models import LoggedModel
from support.saved_models import save_multiplication, save_wine
from support.waiting import free_port, wait_until

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"


@dataclass(frozen=True)
class Sides:
    """The same model behind both servers."""

    mlflow: HttpServer
    ours: HttpServer
    name: str
    model: LoggedModel

    def ask(self, body: bytes, content_type: str) -> tuple[HttpReply, HttpReply]:
        headers = {"content_type": content_type}
        return (
            self.mlflow.ask("POST", "/invocations", body, **headers),
            self.ours.ask("POST", f"/invocations/{self.name}", body, **headers),
        )


def save_mixed(folder: Path) -> LoggedModel:
    """Save a pipeline with a column of text, one of integers and one of numbers."""
    import mlflow
    from mlflow.models import infer_signature
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "town": random.choice(["Ulm", "Köln", "001"], 90),
            "rooms": random.integers(1, 9, 90),
            "size": random.uniform(20, 200, 90),
        }
    )
    encoder = ColumnTransformer([("town", OneHotEncoder(handle_unknown="ignore"), ["town"])], remainder="passthrough")
    model = make_pipeline(encoder, Ridge())
    model.fit(frame, frame["size"] * frame["rooms"] + (frame["town"] == "Ulm") * 50)
    mlflow.sklearn.save_model(
        model,
        str(folder),
        signature=infer_signature(frame, model.predict(frame)),
        input_example=frame.head(5),
        pip_requirements=["scikit-learn"],
    )
    return LoggedModel(str(folder), frame)


def save_wine_here(folder: Path) -> LoggedModel:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from support.mlflow_models import wine_frame

    return save_wine(folder, make_pipeline(StandardScaler(), LogisticRegression()), wine_frame()[1])


MODELS: dict[str, Callable[[Path], LoggedModel]] = {
    "wine": save_wine_here,
    "mixed": save_mixed,
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


class scoring_server:  # used as a statement
    """MLflow's own application in uvicorn, in a thread."""

    def __init__(self, model: LoggedModel, http: HttpServer) -> None:
        import uvicorn
        from mlflow.pyfunc import scoring_server

        self._port = free_port()
        config = uvicorn.Config(
            scoring_server.init(model.pyfunc), port=self._port, log_config=None, loop="asyncio", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._http = http

    def __enter__(self) -> HttpServer:
        self._thread.start()
        wait_until(lambda: self._server.started, what="MLflow's server")
        return HttpServer(self._port, self._http.engine)

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)


def same(ours: Any, theirs: Any) -> bool:
    """Return whether two answers agree, apart from rounding. JSON has no NaN, so null stands for it in ours."""
    if isinstance(theirs, float):
        if math.isnan(theirs):
            return ours is None
        return isinstance(ours, int | float) and math.isclose(ours, theirs, rel_tol=1e-5, abs_tol=1e-6)
    if isinstance(theirs, list):
        return isinstance(ours, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in theirs)
    return bool(ours == theirs)


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.rename(columns=str).to_parquet(buffer)
    return buffer.getvalue()


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


FRAMES: dict[str, Callable[[pd.DataFrame], tuple[bytes, str]]] = {
    "split": lambda frame: (dumped({"dataframe_split": json.loads(frame.to_json(orient="split"))}), JSON),
    "split without index": lambda frame: (
        dumped({"dataframe_split": {"columns": list(frame.columns), "data": frame.to_numpy().tolist()}}),
        JSON,
    ),
    "records": lambda frame: (dumped({"dataframe_records": frame.to_dict(orient="records")}), JSON),
    "inputs of columns": lambda frame: (dumped({"inputs": frame.to_dict(orient="list")}), JSON),
    "instances of records": lambda frame: (dumped({"instances": frame.to_dict(orient="records")}), JSON),
    "instances of rows": lambda frame: (dumped({"instances": frame.to_numpy().tolist()}), JSON),
    "inputs of rows": lambda frame: (dumped({"inputs": frame.to_numpy().tolist()}), JSON),
    "with params": lambda frame: (
        dumped({"dataframe_records": frame.to_dict(orient="records"), "params": {"unknown": 1}}),
        JSON,
    ),
    "params of nothing": lambda frame: (dumped({"inputs": frame.to_numpy().tolist(), "params": None}), JSON),
    "with a charset": lambda frame: (
        dumped({"dataframe_split": json.loads(frame.to_json(orient="split"))}),
        "application/json; charset=utf-8",
    ),
    "more columns": lambda frame: (
        dumped({"dataframe_records": frame.assign(more=1).to_dict(orient="records")}),
        JSON,
    ),
    "other order": lambda frame: (
        dumped({"dataframe_records": frame[frame.columns[::-1]].to_dict(orient="records")}),
        JSON,
    ),
    "csv": lambda frame: (frame.to_csv(index=False).encode(), CSV),
    "parquet": lambda frame: (parquet(frame), PARQUET),
}


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


WRONG: dict[str, tuple[bytes, str]] = {
    "no json": (b"{", JSON),
    "no utf-8": (b'{"inputs": "\xff"}', JSON),
    "a list": (b"[1, 2]", JSON),
    "a number": (b"3", JSON),
    "nothing": (b"", JSON),
    "no form": (b'{"rows": [1]}', JSON),
    "two forms": (b'{"inputs": [1], "instances": [1]}', JSON),
    "records that are none": (b'{"dataframe_records": {"a": 1}}', JSON),
    "split that is none": (b'{"dataframe_split": [1]}', JSON),
    "split without data": (b'{"dataframe_split": {"columns": ["a"]}}', JSON),
    "split with more": (b'{"dataframe_split": {"data": [[1]], "more": 1}}', JSON),
    "missing columns": (b'{"dataframe_records": [{"a": 1}]}', JSON),
    "text for numbers": (b'{"instances": [["x"]]}', JSON),
    "another charset": (b"{}", "application/json; charset=latin-1"),
    "other parameters": (b"{}", "application/json; format=pandas-split"),
    "another type": (b"<a/>", "application/xml"),
    "csv that is none": (b'a,b\n"', CSV),
    "csv not in utf-8": (b"a\n\xff", CSV),
    "csv of nothing": (b"", CSV),
    "parquet that is none": (b"PAR1", PARQUET),
}


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
