"""`mlflow deployments predict` end to end: a process, an engine, and a model that pandas.read_json would mislead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from mlflow.deployments import get_deploy_client
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from support.local_runs import mixed_frame, save_sklearn

if TYPE_CHECKING:
    from conftest import Cli
    from support.servers import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """
    A pipeline whose `code` has leading zeros, whose `bottled_at` looks like a date, and whose `alcohol` may be
    integral.
    """
    wine, labels = mixed_frame()
    frame = pd.DataFrame(
        {
            "code": [f"{index % 4:03}" for index in range(len(wine))],
            "bottled_at": [f"20{index % 3 + 10}-01-05" for index in range(len(wine))],
            "alcohol": wine["alcohol"].round(),
            "proline": wine["proline"],
        }
    )
    text = OneHotEncoder(handle_unknown="error")
    columns = [("text", text, ["code", "bottled_at"]), ("numbers", StandardScaler(), ["alcohol", "proline"])]
    estimator = make_pipeline(ColumnTransformer(columns), LogisticRegression()).fit(frame, labels)
    folder = tmp_path_factory.mktemp("model") / "m"
    return save_sklearn(folder, estimator, frame, pyfunc_predict_fn="predict_proba"), frame


@pytest.fixture(scope="module")
def target(model: tuple[Path, pd.DataFrame], engine: Server) -> str:
    uri = f"redisai://127.0.0.1:{engine.port}/0"
    get_deploy_client(uri).create_deployment("bent", str(model[0]))
    return uri


@pytest.mark.parametrize("form", ["records", "columns", "dataframe_split"])
def test_the_commands_answer_is_pyfuncs(
    form: str, model: tuple[Path, pd.DataFrame], target: str, cli: Cli, tmp_path: Path
) -> None:
    path, frame = model
    rows = frame.head(6)
    document: Any = {
        "records": rows.to_dict("records"),
        "columns": rows.to_dict("list"),
        "dataframe_split": {"dataframe_split": rows.to_dict("split")},
    }[form]
    source, answer = tmp_path / "rows.json", tmp_path / "answer.json"
    source.write_text(json.dumps(document))

    arguments = ["deployments", "predict", "-t", target, "--name", "bent", "-I", str(source)]
    cli(*arguments, "-O", str(answer))

    import mlflow.pyfunc

    expected = mlflow.pyfunc.load_model(str(path)).predict(rows)
    np.testing.assert_allclose(json.loads(answer.read_text())["predictions"], expected, rtol=1e-9)


def test_input_that_breaks_the_signature_is_one_sentence(target: str, cli: Cli, tmp_path: Path) -> None:
    source = tmp_path / "rows.json"
    source.write_text('[{"code": "001", "alcohol": 1.0, "proline": 3}]')

    result = cli.run("deployments", "predict", "-t", target, "--name", "bent", "-I", str(source))

    assert result.returncode == 1
    assert "Error: column 'bottled_at' is missing; the model's signature has code (string)" in result.stderr
