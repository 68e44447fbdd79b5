"""
MLflow's scoring protocol for models of other families than those of test_invocations: boosted trees, networks of two
frameworks, which take frames or tensors, text models, and Python models, which run as they are. MLflow's server gets
each request.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from support.http_calls import HttpServer, http_engine
from support.mlflow_models import LoggedModel
from support.scoring import FRAMES, JSON, WRONG, Sides, dumped, same, scoring_server

pytestmark = pytest.mark.slow  # each imports a framework


def boosted(flavor: str, classifier: str, **options: Any) -> Callable[[Path], LoggedModel]:
    def saved(folder: Path) -> LoggedModel:
        from support.boosted_models import cancer, save_boosted

        frame, labels = cancer()
        model = getattr(importlib.import_module(flavor), classifier)(**options)
        model.fit(frame[::2], (labels == "benign")[::2].astype(int))
        return LoggedModel(str(save_boosted(folder, flavor, model, frame)), frame[1::2])

    return saved


def torch_on_frames(folder: Path) -> LoggedModel:
    import torch
    from mlflow.models import infer_signature

    from support.torch_models import cancer, save_torch, train

    rows, labels = cancer()
    frame = pd.DataFrame(np.asarray(rows, np.float32)).rename(columns=lambda number: f"c{number}")
    module = torch.nn.Sequential(torch.nn.Linear(frame.shape[1], 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    train(module, frame.to_numpy(), labels, steps=5)
    save_torch(folder, module, signature=infer_signature(frame), serialization_format="pickle", input_example=frame[:3])
    return LoggedModel(str(folder), frame[1::2])


def torch_on_tensors(folder: Path) -> LoggedModel:
    import torch
    from mlflow.models import infer_signature

    from support.torch_models import save_torch

    rows = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(-1)).eval()
    save_torch(folder, module, signature=infer_signature(rows), input_example=rows[:3])
    return LoggedModel(str(folder), pd.DataFrame(rows))


def keras(folder: Path) -> LoggedModel:
    from support.tf_models import cancer, save, sequential

    rows = cancer()[0][:9]
    return LoggedModel(str(save(folder, "keras", sequential(), rows)), pd.DataFrame(rows))


def tensorflow(folder: Path) -> LoggedModel:
    """A tf.Module, which MLflow saves as a SavedModel and calls."""
    from support.tf_models import linear, rows, save

    few = rows()[:9]
    return LoggedModel(str(save(folder, "tensorflow", linear(), few)), pd.DataFrame(few))


def saved_model(folder: Path) -> LoggedModel:
    """A SavedModel that MLflow runs by its signature, with a tensor for each column."""
    from mlflow.models import infer_signature

    from support.tf_models import columns_model, save_old_saved_model

    frame = pd.DataFrame({"age": [1.0, 2.5, -3.0, 40.0], "size": [0.5, 0.0, 7.0, 1e6]})
    path = save_old_saved_model(folder, columns_model, signature=infer_signature(frame))
    return LoggedModel(str(path), frame)


def texts_to_labels(folder: Path) -> LoggedModel:
    import mlflow

    from support.text_models import classifier, sentences

    frame = pd.DataFrame({"text": sentences()[0][1:20:2]})
    mlflow.transformers.save_model(
        classifier(), str(folder), input_example=frame["text"].tolist()[:2], pip_requirements=[]
    )
    return LoggedModel(str(folder), frame)


def texts_to_vectors(folder: Path) -> LoggedModel:
    import mlflow
    from sentence_transformers import SentenceTransformer

    from support.text_models import minilm, sentences

    frame = pd.DataFrame({"text": sentences()[0][1:20:2]})
    model = SentenceTransformer(minilm(), device="cpu")
    mlflow.sentence_transformers.save_model(
        model, str(folder), input_example=frame["text"].tolist()[:2], pip_requirements=[]
    )
    return LoggedModel(str(folder), frame)


def python(name: str) -> Callable[[Path], LoggedModel]:
    def saved(folder: Path) -> LoggedModel:
        from support import python_models

        model = python_models.save(name, folder.parent)
        return LoggedModel(str(model.path), pd.concat([model.held_out[0]] * 3, ignore_index=True))

    return saved


MODELS: dict[str, Callable[[Path], LoggedModel]] = {
    "xgboost": boosted("xgboost", "XGBClassifier", n_estimators=20),
    "lightgbm": boosted("lightgbm", "LGBMClassifier", n_estimators=20, verbose=-1),
    "catboost": boosted("catboost", "CatBoostClassifier", iterations=20, verbose=False, allow_writing_files=False),
    "pytorch": torch_on_frames,
    "pytorch-tensors": torch_on_tensors,
    "keras": keras,
    "tensorflow": tensorflow,
    "saved_model": saved_model,
    "transformers": texts_to_labels,
    "sentence_transformers": texts_to_vectors,
    "scaling": python("scaling"),
    "from_code": python("from_code"),
    "days": python("days"),
}


@pytest.fixture(scope="module")
def python_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_engine(tmp_path_factory.mktemp("families"), "--python-models") as server:
        yield server


@pytest.fixture(scope="module", params=MODELS)
def sides(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, python_http: HttpServer
) -> Iterator[Sides]:
    import mlflow_redisai

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MODELS[request.param](tmp_path_factory.mktemp("family") / "model")
        client = mlflow_redisai.RedisAIClient(python_http.engine.target)
        client.create_deployment(request.param, model.uri, config={"env": "local", "convert_timeout": "0"})
        with scoring_server(model, python_http) as theirs:
            yield Sides(theirs, python_http, request.param, model)


def compare(sides: Sides, body: bytes, content_type: str) -> None:
    """Both answer the same, or the engine takes what MLflow's server refuses, or both refuse."""
    theirs, ours = sides.ask(body, content_type)
    assert b"Traceback" not in ours.body
    if theirs.status == 200:
        assert ours.status == 200, (ours.body, theirs.body)
        assert same(ours.json(), theirs.json()), (ours.body, theirs.body)
        assert ours.headers["content-type"] == theirs.headers["content-type"]
    elif theirs.status < 500:
        assert ours.status in (200, theirs.status), (ours.body, theirs.body)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FRAMES)
def test_every_form_of_input_gets_mlflows_answer(sides: Sides, form: str) -> None:
    for rows in (1, 3):
        compare(sides, *FRAMES[form](sides.model.frame.head(rows)))


@pytest.mark.filterwarnings("ignore")
def test_tensors_are_taken_by_name_and_without(sides: Sides) -> None:
    rows = sides.model.frame.head(2).to_numpy().tolist()
    for key in ("inputs", "instances"):
        for tensor in (rows, rows[0], [], [[]]):
            compare(sides, dumped({key: tensor}), JSON)


PARAMS: list[Any] = [{}, {"factor": 3.5}, {"factor": 2}, {"factor": "x"}, {"factor": None}, {"other": 1}, [], 3, None]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_params_are_mlflows(sides: Sides, params: Any) -> None:
    """One of the models has a factor, the others have none and say nothing of it."""
    records = json.loads(sides.model.frame.head(2).to_json(orient="records"))

    compare(sides, dumped({"dataframe_records": records, "params": params}), JSON)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_refused_as_mlflow_does(sides: Sides, what: str) -> None:
    compare(sides, *WRONG[what])


@pytest.mark.parametrize("sides", ["scaling"], indirect=True)
def test_a_param_reaches_the_model(sides: Sides) -> None:
    frame = sides.model.frame.head(2)
    document = {"dataframe_split": json.loads(frame.to_json(orient="split")), "params": {"factor": 3.0}}

    answer = sides.ours.ask("POST", "/invocations/scaling", document).json()

    assert answer["predictions"] == {"scaled": pytest.approx((frame["x"] * 3).tolist()), "text": "by 3.0"}


@pytest.mark.parametrize("sides", ["days"], indirect=True)
def test_v2_takes_dates_as_mlservers_clients_send_them(sides: Sides) -> None:
    frame = sides.model.frame.head(2)
    texts = {"datatype": "BYTES", "parameters": {"content_type": "datetime"}, "data": frame["when"].tolist()}
    inputs = [
        {"name": "when", "shape": [2, 1], **texts},
        {"name": "factor", "shape": [2, 1], "datatype": "FP64", "data": frame["factor"].tolist()},
    ]
    document = {"parameters": {"content_type": "pd"}, "inputs": inputs}

    reply = sides.ours.ask("POST", "/v2/models/days/infer", document)
    expected = sides.model.pyfunc.predict(frame.assign(when=pd.to_datetime(frame["when"])))

    assert reply.status == 200, reply.body
    assert {output["name"]: output["data"] for output in reply.json()["outputs"]} == expected.to_dict(orient="list")
    for wrong in ("noon", "2026-13-01"):
        texts["data"] = [wrong, wrong]
        inputs[0] = {"name": "when", "shape": [2, 1], **texts}
        reply = sides.ours.ask("POST", "/v2/models/days/infer", document)
        assert (reply.status, "isn't a date and time" in reply.json()["error"]) == (400, True)
