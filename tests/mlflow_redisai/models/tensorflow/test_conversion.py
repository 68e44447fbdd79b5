"""The number of rows that a model takes at a time, found by trials."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from redisai_engine.codec.compare import compare
from support.tf_models import (
    deploy_tf,
    matrix,
    module,
    rows,
    save,
    weights,
)

if TYPE_CHECKING:
    pass

MISSING = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")]


@pytest.mark.parametrize("backend", ["ONNX", "TF", "TFLITE"])
def test_a_model_of_a_fixed_batch_takes_any_number_of_rows(backend: str, tmp_path: Path) -> None:
    """Rows are split, and the last request is padded. The model itself takes exactly four."""
    import tensorflow as tf

    def in_pairs(weights: Any, inputs: Any) -> Any:
        return tf.reshape(tf.reshape(inputs, (2, 2, 30)) @ weights, (4, 2))

    path = save(tmp_path / "m", "tensorflow", module(in_pairs, matrix(4)), rows()[:4])

    deployed = deploy_tf(path, backend=backend)

    assert deployed.mapping.batch == 4
    assert "takes exactly 4 rows at a time" in deployed.deployable.notes[0]
    deployed.assert_equals_pyfunc(rows()[:4])
    assert compare(rows()[:201] @ weights(), deployed.predict(rows()[:201]), 1e-5) is not None


@pytest.mark.parametrize("kind", ["module", "keras"])
def test_a_batch_that_is_fixed_without_need_is_opened(kind: str, tmp_path: Path) -> None:
    import keras

    models = {
        "module": lambda: module(lambda weights, inputs: inputs @ weights, matrix(4)),
        "keras": lambda: keras.Sequential([keras.Input(batch_shape=(4, 30)), keras.layers.Dense(2)]),
    }
    deployed = deploy_tf(save(tmp_path / "m", "tensorflow", models[kind](), rows()[:4]))

    assert deployed.mapping.batch is None
    assert deployed.deployable.notes == (
        "the model was logged for exactly 4 rows at a time; trials showed that it takes any number",
    )
    deployed.assert_equals_pyfunc(rows()[:4])
