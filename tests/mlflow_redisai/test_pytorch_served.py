"""PyTorch models end to end: logged with MLflow, deployed to a running engine with the CLI, queried, and compared."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai import RedisAIClient
from mlflow_redisai.errors import VerificationFailed
from support.examples import run_example
from support.servers import Server

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "mlflow-redisai[torch]"')

from support import torch_models as models  # noqa: E402  # defines torch's classes when imported
from support.torch_models import save_torch  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    # RedisAI's format is TorchScript, which torch deprecates.
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def images() -> Any:
    return models.train(models.Images(), *models.digits())


@pytest.mark.parametrize("backend", ["auto", "TORCH"])
def test_images_through_the_command_line(backend: str, cli: Any, engine: Server, images: Any, tmp_path: Path) -> None:
    """250 rows from a JSON file. The reply has every number that pyfunc returns."""
    rows = models.digits()[0][:250]
    path = save_torch(tmp_path / "m", images, input_example=rows[:4])
    (tmp_path / "rows.json").write_text(json.dumps({"inputs": rows.tolist()}))
    target = ("-t", engine.target, "--name", f"torch:{backend}")

    created = cli("deployments", "create", *target, "-m", str(path), "-C", f"backend={backend}")
    got = cli("deployments", "get", *target)
    cli("deployments", "predict", *target, "-I", "rows.json", "-O", "answer.json")

    with torch.no_grad():
        expected = images(torch.from_numpy(rows)).numpy()
    answer = json.loads((tmp_path / "answer.json").read_text())["predictions"]
    assert "pytorch deployment" in created.stdout
    assert f"backend: {'ONNX' if backend == 'auto' else 'TORCH'}" in got.stdout
    assert "'status': 'passed'" in got.stdout
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4)


def test_a_frame_comes_back_for_a_frame(client: RedisAIClient, tmp_path: Path) -> None:
    frame, target = models.cancer()
    table = models.train(models.Scaled(frame, 2), frame.to_numpy(np.float32), target)
    path = save_torch(tmp_path / "m", table, input_example=frame[:5], serialization_format="pickle")
    client.create_deployment("torch:frame", str(path))
    rows = frame[1::2]

    answer = client.predict("torch:frame", rows).get_predictions()

    with torch.no_grad():
        expected = pd.DataFrame(table(torch.from_numpy(rows.to_numpy(np.float32))).numpy(), index=rows.index)
    pd.testing.assert_frame_equal(expected, answer, rtol=1e-4, atol=1e-6)


def test_a_model_of_one_row_answers_many(client: RedisAIClient, images: Any, tmp_path: Path) -> None:
    rows = models.digits()[0][:200]
    path = save_torch(tmp_path / "m", images, input_example=rows[:1])

    created = client.create_deployment("torch:one", str(path))
    answer = client.predict("torch:one", rows).get_predictions()

    with torch.no_grad():
        expected = images(torch.from_numpy(rows)).numpy()
    note = "the model takes exactly one row at a time; predict sends each row in a request of its own"
    assert created["notes"][0] == note
    assert client.get_deployment("torch:one")["notes"] == created["notes"]
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["ONNX", "TORCH"])
@pytest.mark.parametrize("form", ["pt2", "pickle"])
def test_token_ids_and_a_mask_give_a_dict(form: str, backend: str, client: RedisAIClient, tmp_path: Path) -> None:
    """Two int64 inputs by name, in any order. Their length is open, so shorter texts are answered too."""
    from mlflow.models import infer_signature

    ids, target = models.tokens()
    mask = np.ones_like(ids)
    mask[::3, 10:] = 0
    words = models.train(models.Words(), (ids, mask), target, steps=5)
    example: Any = (ids[:4], mask[:4]) if form == "pt2" else {"ids": ids[:4], "mask": mask[:4]}
    signature = infer_signature({"ids": ids, "mask": mask})
    path = save_torch(tmp_path / "m", words, input_example=example, signature=signature, serialization_format=form)
    created = client.create_deployment(f"torch:words:{form}:{backend}", str(path), config={"backend": backend})

    answer = client.predict(created["name"], {"mask": mask[-250:], "ids": ids[-250:]}).get_predictions()

    with torch.no_grad():
        expected = words(torch.from_numpy(ids[-250:]), torch.from_numpy(mask[-250:]))
    assert created["backend"] == backend
    assert created["verification"]["status"] == "passed"
    assert list(answer) == ["logits", "label"]
    np.testing.assert_allclose(answer["logits"], expected["logits"].numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(answer["label"], expected["label"].numpy())


def test_what_onnx_lacks_is_served_by_torch(client: RedisAIClient, tmp_path: Path) -> None:
    rows, _ = models.digits()
    path = save_torch(tmp_path / "m", models.Spectrum().eval(), input_example=rows[:4])

    created = client.create_deployment("torch:spectrum", str(path))

    assert created["backend"] == "TORCH"
    assert created["verification"]["status"] == "passed"
    assert "deployed with backend TORCH instead of ONNX: " in created["notes"][0]
    assert client.predict("torch:spectrum", rows).get_predictions().shape == (len(rows), 10)


def first_on_the_path(folder: Path) -> dict[str, str]:
    """Return an environment whose Python searches `folder` first."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


def test_a_server_that_takes_no_onnx_is_given_torchscript(
    new_engine: Callable[..., Server], images: Any, tmp_path: Path
) -> None:
    """
    The engine's process finds an ONNX Runtime that can't be imported.

    This process has a working one, to convert with.
    """
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "onnxruntime.py").write_text("raise ImportError('no ONNX Runtime here')")
    rows = models.digits()[0]
    path = save_torch(tmp_path / "m", images, input_example=rows[:4])
    client = RedisAIClient(new_engine(environment=first_on_the_path(lacking)).target)

    created = client.create_deployment("digits", str(path))
    answer = client.predict("digits", rows).get_predictions()

    with torch.no_grad():
        expected = images(torch.from_numpy(rows)).numpy()
    assert created["backend"] == "TORCH"
    assert created["verification"]["status"] == "passed"
    assert "deployed with backend TORCH instead of ONNX: " in created["notes"][0]
    assert "pip install 'mlflow-redisai[engine]'" in created["notes"][0]
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4)


WRONG_RUNTIME = """
import onnxruntime


class Session(onnxruntime.InferenceSession):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._sess = Wrong(self._sess)


class Wrong:
    def __init__(self, session):
        self._session = session

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run(self, *arguments):
        return [answer + 1 for answer in self._session.run(*arguments)]


onnxruntime.InferenceSession = Session
"""


def test_a_server_whose_onnx_answers_differently_is_given_torchscript(
    new_engine: Callable[..., Server], images: Any, tmp_path: Path
) -> None:
    """Only verification can find this: the conversion is correct, but the engine's process computes something else."""
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "sitecustomize.py").write_text(WRONG_RUNTIME)
    rows = models.digits()[0]
    path = save_torch(tmp_path / "m", images, input_example=rows[:4])
    client = RedisAIClient(new_engine(environment=first_on_the_path(wrong)).target)

    created = client.create_deployment("digits", str(path))

    reason = "deployed with backend TORCH instead of ONNX: the stored model failed verification against mlflow.pyfunc"
    assert created["backend"] == "TORCH"
    assert created["verification"]["status"] == "passed"
    assert created["notes"][0].startswith(f"{reason} with the model's input example: the largest difference is ")
    assert "nothing was deployed" not in created["notes"][0]
    assert client.get_deployment("digits") == created
    with pytest.raises(VerificationFailed, match="; nothing was deployed"):
        client.create_deployment("onnx", str(path), config={"backend": "ONNX"})
    assert [row["name"] for row in client.list_deployments()] == ["digits"]


def test_the_example_runs(engine: Server, mlflow_store: str, tmp_path: Path) -> None:
    shown = run_example("pytorch_digits.py", engine, mlflow_store, tmp_path)

    assert "deployed with backend ONNX, verification passed" in shown
    assert "digits recognized correctly" in shown
