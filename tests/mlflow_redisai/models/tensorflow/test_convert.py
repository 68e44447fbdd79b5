"""TensorFlow's modules and SavedModels answer as mlflow.pyfunc does: by a call, or by their signatures."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai.errors import NotConvertible
from redisai_engine.codec.compare import compare
from support.tf_models import (
    deploy_tf,
    module,
    old_inputs,
    old_model,
    rows,
    save,
    save_old_saved_model,
    two_inputs,
    two_part_module,
    weights,
)

MISSING = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")]


def test_text_in_and_out(tmp_path: Path) -> None:
    """TensorFlow returns bytes. The answer has text."""
    import tensorflow as tf

    def hashed(_: Any, words: Any) -> Any:
        return tf.strings.to_hash_bucket_fast(words, 50), tf.strings.upper(words, encoding="utf-8")

    words = np.array(["malign", "benign", "gutartig", "größer"] * 60, object)
    path = save(tmp_path / "m", "tensorflow", module(hashed, tf.TensorSpec((None,), tf.string)), words[:4])

    buckets, upper = deploy_tf(path).predict(words)

    expected, _ = (value.numpy() for value in deploy_tf(path).expected(words))
    assert buckets.tolist() == expected.tolist()
    assert upper.tolist() == [word.upper() for word in words]


@pytest.mark.parametrize("backend", ["ONNX", "TF", "TFLITE"])
def test_signatures_serve_where_pyfunc_cant_call_the_module(backend: str, tmp_path: Path) -> None:
    example = {name: values[:3] for name, values in two_inputs().items()}
    path = save(tmp_path / "m", "tensorflow", two_part_module(), example)

    deployed = deploy_tf(path, backend=backend)

    answer = deployed.predict(two_inputs())
    assert compare(rows() @ weights(), answer["risk"], 1e-5) is not None
    assert answer["size"].tolist() == rows()[:, 0].tolist()
    assert "mlflow.pyfunc can't answer" in deployed.deployable.notes[0]


# -- the layout of MLflow 1 -----------------------------------------------------------------------


def test_an_old_saved_model_gives_a_frame_for_a_frame_and_lists_for_arrays(tmp_path: Path) -> None:
    """MLflow flattens outputs with one value per row. Others become lists, in the cells of the frame."""
    deployed = deploy_tf(save_old_saved_model(tmp_path, old_model))
    frame = pd.DataFrame({"measures": list(rows()), "age": old_inputs()["age"]})

    answers = [(deployed.expected(given), deployed.predict(given)) for given in (frame, old_inputs())]

    for expected, answer in answers:
        assert list(expected) == list(answer)
        assert [type(value) for value in dict(expected).values()] == [type(value) for value in dict(answer).values()]
        for name in ("probabilities", "months"):
            assert np.abs(np.array(list(expected[name])) - np.array(list(answer[name]))).max() < 1e-5
        assert [value.decode() for value in expected["classes"]] == list(answer["classes"])
        assert list(expected["class_ids"]) == list(answer["class_ids"])
    assert isinstance(answers[0][1], pd.DataFrame)


def test_an_old_saved_model_with_a_signature(tmp_path: Path) -> None:
    """pyfunc then converts a frame to a dict, and answers with a dict."""
    from mlflow.models import infer_signature

    deployed = deploy_tf(save_old_saved_model(tmp_path, old_model, signature=infer_signature(old_inputs())))
    answer = deployed.predict(pd.DataFrame({"measures": list(rows()), "age": old_inputs()["age"]}))

    assert isinstance(answer["probabilities"], list)
    assert np.abs(np.array(answer["months"]) - 12 * old_inputs()["age"]).max() < 1e-9


def test_the_signature_that_an_old_saved_model_is_to_be_served_with_must_be_there(tmp_path: Path) -> None:
    def misnamed(folder: Path) -> str:
        old_model(folder)
        return "serving_default"

    with pytest.raises(NotConvertible, match=r"no signature 'serving_default'; it has predict"):
        deploy_tf(save_old_saved_model(tmp_path, misnamed))
