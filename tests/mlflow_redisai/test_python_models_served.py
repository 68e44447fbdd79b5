"""
Models that no graph expresses, deployed by MLflow's own command to an engine that runs Python models: they answer as
pyfunc does, to the last bit, and what can't run as Python says why.
"""

from __future__ import annotations

import json
import os
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from mlflow.deployments.cli import commands
from sklearn.linear_model import LinearRegression

from mlflow_redisai import RedisAIClient
from mlflow_redisai.errors import (
    CallTimedOut,
    DeploymentMissing,
    DeviceRefused,
    InvalidRequest,
    ModelFailed,
    NotConvertible,
)
from mlflow_redisai.models.registry import FLAVORS, UNCONVERTED
from mlflow_redisai.server.facts import ServerFacts
from redisai_engine.codec.compare import compare
from redisai_engine.protocol.parcels import pack
from support import python_models
from support.examples import run_example
from support.obedient import saved_code
from support.servers import Server, start_engine
from support.tiny_models import onnx_counter
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
ROUNDED = {"spacy"}  # a network in float32, whose sums depend on the number of threads


@pytest.fixture(scope="module")
def python_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start_engine(tmp_path_factory.mktemp("python-engine"), "--python-models")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("python-models")


def deployments(command: str, server: Server, *arguments: str) -> Result:
    """Run `mlflow deployments COMMAND` in this process: importing MLflow again takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(commands, [command, "-t", server.target, *arguments], catch_exceptions=False)


def create(server: Server, name: str, path: Path, **options: str) -> dict[str, Any]:
    given = {"env": "local", "convert_timeout": "0", **options}  # a busy machine is not a failure
    config = [word for key, value in given.items() for word in ("-C", f"{key}={value}")]
    result = deployments("create", server, "--name", name, "-m", str(path), *config)
    assert result.exit_code == 0, result.output
    return RedisAIClient(server.target).get_deployment(name)


def deployed(server: Server) -> list[str]:
    return [each["name"] for each in RedisAIClient(server.target).list_deployments()]


def assert_as_pyfunc(server: Server, name: str, saved: python_models.Saved, **params: Any) -> None:
    client, original = RedisAIClient(server.target), mlflow.pyfunc.load_model(str(saved.path))
    for inputs in saved.held_out:
        expected = original.predict(inputs, params=params or None)
        answer = client.predict(name, inputs, params=params or None).get_predictions()
        assert type(answer) is type(expected)
        if name in ROUNDED:
            compare(expected, answer, 1e-5)
        else:
            assert pack(answer) == pack(expected), f"expected {expected!r}, got {answer!r}"


WHY = {
    "statsmodels": "runs as Python: there is no maintained converter for its results",
    "spacy": "runs as Python: there is no maintained converter for its pipelines",
    "pmdarima": "runs as Python: an ARIMA forecast continues from the end of its training data, so it isn't a function "
    "of the input",
    "prophet": "runs as Python: Prophet computes a forecast with a program of its own, which no graph can express",
    "scaling": "runs as Python: arbitrary Python can't be made a graph",
    "from_code": "runs as Python: arbitrary Python can't be made a graph",
    "chain": "runs as Python: arbitrary Python can't be made a graph",
}


HEAVY = {"spacy", "pmdarima", "prophet"}  # they import PyTorch, matplotlib or Stan, and so does each worker


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.slow) if each in HEAVY else each for each in WHY]
)
def test_a_model_without_a_converter_answers_as_pyfunc(python_engine: Server, tmp_path: Path, name: str):
    saved = python_models.save(name, tmp_path)
    if name in deployed(python_engine):  # by a test that came first
        RedisAIClient(python_engine.target).delete_deployment(name)

    shown = create(python_engine, name, saved.path)

    assert shown["backend"] == "PYFUNC"
    assert shown["notes"][0] == WHY[name]
    if name != "chain":  # which has no input example
        assert shown["verification"]["status"] == "passed"
        assert shown["verification"]["difference"] <= (1e-5 if name in ROUNDED else 0.0)
    assert_as_pyfunc(python_engine, name, saved)


@pytest.mark.filterwarnings("ignore")
def test_a_pipeline_with_a_step_of_ones_own_says_which_step_has_no_converter(python_engine: Server, folder: Path):
    saved = python_models.save("own_step", folder)

    shown = create(python_engine, "own_step", saved.path)

    assert (shown["flavor"], shown["backend"]) == ("sklearn", "PYFUNC")
    [note] = shown["notes"]
    assert note.startswith("deployed with backend PYFUNC instead of ONNX: ")
    assert "Ratio" in note
    assert_as_pyfunc(python_engine, "own_step", saved)


@pytest.mark.filterwarnings("ignore")
def test_a_model_for_a_gpu_that_isnt_there_is_refused(python_engine: Server, tmp_path: Path):
    """It would run as Python, on the CPU."""
    rows = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]})
    model = LinearRegression().fit(rows, [1.0, 2.0])
    mlflow.sklearn.save_model(model, tmp_path / "model", input_example=rows)
    config = {"device": "GPU:99", "convert_timeout": 0}

    with pytest.raises(DeviceRefused, match=r"can't load this model: .*GPU"):
        RedisAIClient(python_engine.target).create_deployment("on_gpu", str(tmp_path / "model"), config=config)

    assert "on_gpu" not in deployed(python_engine)


@pytest.mark.slow
def test_the_example_of_a_chat_ends_well(python_engine: Server, mlflow_store: str, tmp_path: Path):
    assert run_example("python_chat.py", python_engine, mlflow_store, tmp_path).splitlines()[-1] == "HELLO"


# -- flavors -----------------------------------------------------------------------------------------


def flavors_of_mlflow() -> set[str]:
    """Return the flavors of the MLflow that is installed: its modules that save models."""
    root = Path(mlflow.__file__).parent
    saves = re.compile(r"^def save_model\(", re.MULTILINE)
    files = [*root.glob("*.py"), *root.glob("*/*.py")]
    found = {file.relative_to(root).parts[0].removesuffix(".py") for file in files if saves.search(file.read_text())}
    named = {
        "pyfunc": "python_function",
        "prompt": "python_function",
    }  # others have the same name
    return {named.get(name, name) for name in found}


def test_every_flavor_of_mlflow_is_in_the_table_and_on_the_page():
    missing = flavors_of_mlflow() - set(FLAVORS) - set(UNCONVERTED)
    page = (ROOT / "docs" / "flavors.md").read_text()

    assert missing == set()
    assert [name for name in (*FLAVORS, *UNCONVERTED) if f"| `{name}` |" not in page] == []
    assert len(flavors_of_mlflow()) > 15


# -- streams -----------------------------------------------------------------------------------------

TALKER = """
    import os, time
    import mlflow
    from mlflow.pyfunc import PythonModel

    class Talker(PythonModel):
        def predict(self, context, model_input, params=None):
            return {"pid": os.getpid()}

        def predict_stream(self, context, model_input, params=None):
            try:
                for number, word in enumerate(model_input["words"]):
                    if word == "fail":
                        raise ValueError("no such word")
                    if word == "wait":
                        time.sleep(2)  # longer than the client waits, and short enough for the next test
                    yield {"delta": word, "rest": [number, None, 0.5], "params": params}
            finally:
                if "file" in model_input:
                    open(model_input["file"], "x").close()

    mlflow.models.set_model(Talker())
"""


@pytest.fixture(scope="module")
def talker(python_engine: Server) -> Path:
    """The folder of a model that says what it is told, which is deployed."""
    path = saved_code(TALKER)
    create(python_engine, "talker", path)
    return path


def test_a_stream_is_that_of_pyfunc(python_engine: Server, talker: Path):
    client, original = RedisAIClient(python_engine.target), mlflow.pyfunc.load_model(str(talker))
    for words, params in ((["a", "b", "c"], None), ([], None), (["a"], {"loud": True})):
        expected = list(original.predict_stream({"words": words}, params=params))
        assert list(client.predict_stream("talker", {"words": words}, params=params)) == expected
        assert len(expected) == len(words)


def test_a_generator_that_is_closed_closes_that_of_the_model(python_engine: Server, talker: Path, tmp_path: Path):
    client = RedisAIClient(python_engine.target)
    file = tmp_path / "closed"

    stream = client.predict_stream("talker", {"words": ["a", "b"], "file": str(file)})
    assert next(stream)["delta"] == "a"
    assert not file.exists()
    stream.close()

    wait_until(file.exists)
    assert "pid" in client.predict("talker", {"words": []}).get_predictions()


def test_an_error_comes_behind_the_items_of_a_stream(python_engine: Server, talker: Path):
    client = RedisAIClient(python_engine.target)
    stream = client.predict_stream("talker", {"words": ["a", "fail"]})
    assert next(stream)["delta"] == "a"
    with pytest.raises(ModelFailed, match="the model failed: ValueError: no such word"):
        next(stream)
    assert list(stream) == []


def test_a_killed_worker_is_the_error_of_its_stream(python_engine: Server, talker: Path):
    client = RedisAIClient(python_engine.target)
    pid = client.predict("talker", {"words": []}).get_predictions()["pid"]
    stream = client.predict_stream("talker", {"words": ["a", "b"]})
    assert next(stream)["delta"] == "a"
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ModelFailed, match=r"ended by signal 9 \(SIGKILL\)"):
        next(stream)
    assert [item["delta"] for item in client.predict_stream("talker", {"words": ["c"]})] == ["c"]


def test_a_stream_without_an_answer_ends_at_the_deadline(python_engine: Server, talker: Path):
    client = RedisAIClient(f"{python_engine.target}?timeout=0.5")
    stream = client.predict_stream("talker", {"words": ["wait"]})
    with pytest.raises(CallTimedOut, match="the prediction with 'talker'"):
        next(stream)


def test_what_has_no_stream_says_so(python_engine: Server, folder: Path):
    client = RedisAIClient(python_engine.target)
    if "scaling" not in deployed(python_engine):
        create(python_engine, "scaling", python_models.save("scaling", folder).path)
    with pytest.raises(ModelFailed, match="the model has no predict_stream; it gives whole answers only"):
        next(client.predict_stream("scaling", python_models.numbers(1)))
    with pytest.raises(DeploymentMissing):
        next(client.predict_stream("nowhere", "x"))

    python_engine.client().execute_command("AI.MODELSTORE", "graph", "ONNX", "CPU", "BLOB", onnx_counter())
    with pytest.raises(InvalidRequest, match="the deployment 'graph' gives whole answers only"):
        next(client.predict_stream("graph", [1.0]))


# -- where no Python may run -------------------------------------------------------------------------


def logged_as(flavors: list[str], folder: Path) -> Path:
    """Return a folder with no more than a model's MLmodel, which is all that a refusal reads."""
    document = {"flavors": {name: {} for name in flavors}, "model_uuid": "x", "utc_time_created": "2026-01-01 00:00:00"}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    return folder


NOT_ALLOWED = "the engine was started without --python-models; its operator may allow them, as their code runs there"


def test_an_engine_that_allows_no_python_refuses_as_ever_and_says_how_to_allow_it(engine: Server, tmp_path: Path):
    model = logged_as(["prophet", "python_function"], tmp_path)

    with pytest.raises(NotConvertible) as error:
        RedisAIClient(engine.target).create_deployment("forecast", str(model))

    assert error.value.message == (
        f"the model {model} has no flavor that can be deployed (prophet: {UNCONVERTED['prophet']}); deployable flavors "
        f"are {', '.join(FLAVORS)}; it can't run as Python either: {NOT_ALLOWED}"
    )


def test_an_engine_that_allows_no_python_refuses_it_when_it_is_named(engine: Server, tmp_path: Path):
    model = logged_as(["sklearn", "python_function"], tmp_path)

    with pytest.raises(NotConvertible) as error:
        RedisAIClient(engine.target).create_deployment("own", str(model), config={"backend": "PYFUNC"})

    assert error.value.message == f"backend PYFUNC isn't to be had: {NOT_ALLOWED}"


def test_python_models_are_deployed_only_under_names_that_the_engine_runs_them_under(
    new_engine: Callable[..., Server], tmp_path: Path
):
    """The key under which a model is verified has the rights of the name that it is to get."""
    server = new_engine("--python-models", "py:*,*:chain")
    saved = python_models.save("from_code", tmp_path)
    create(server, "py:lengths", saved.path)
    create(server, "my:chain", saved.path)
    assert_as_pyfunc(server, "py:lengths", saved)

    with pytest.raises(NotConvertible) as error:
        RedisAIClient(server.target).create_deployment("lengths", str(saved.path), config={"env": "local"})

    assert error.value.message.endswith(
        "the engine runs Python models only under names that match py:*,*:chain (python-models); give it such a name"
    )


def test_a_server_counts_as_one_that_runs_no_python_until_it_says_otherwise():
    """RedisAI isn't asked, because the question can crash it."""
    assert ServerFacts().python_models == (
        "RedisAI has no backend for that; deploy to mlflow-redisai's engine, started with --python-models"
    )


def test_params_and_messages_in_json_reach_the_model(python_engine: Server, folder: Path, tmp_path: Path):
    """By the command line. Both models are deployed by the tests above, or here if those didn't run."""
    for name in ("scaling", "chain"):
        if name not in deployed(python_engine):
            create(python_engine, name, python_models.save(name, folder).path)
    asked = {
        # MLflow's command reads the file by pandas first, which takes no list of objects beside an object.
        "scaling": {"dataframe_split": {"columns": ["x", "z"], "data": [[2, 0.5]]}, "params": {"factor": 3.0}},
        "chain": {"messages": [{"role": "user", "content": "hi"}]},
    }
    answers = {}
    for name, document in asked.items():
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(document))
        result = deployments("predict", python_engine, "--name", name, "-I", str(file))
        answers[name] = json.loads(result.output[result.output.index("{") :])["predictions"]

    assert answers["scaling"] == {"scaled": [6.0], "text": "by 3.0"}
    assert answers["chain"]["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
