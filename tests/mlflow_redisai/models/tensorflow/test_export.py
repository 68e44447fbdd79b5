"""One function as an ONNX graph, a frozen graph and a TFLite model, and what they can't express."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai.errors import NotConvertible
from redisai_engine.codec.compare import compare
from support.tf_models import (
    deploy_tf,
    linear,
    matrix,
    module,
    rows,
    save,
)

if TYPE_CHECKING:
    pass

MISSING = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")]


@pytest.mark.parametrize("backend", ["ONNX", "TF", "TFLITE"])
def test_a_module_answers_alike_with_every_backend(backend: str, tmp_path: Path) -> None:
    deployed = deploy_tf(save(tmp_path / "m", "tensorflow", linear(), rows()[:3]), backend=backend)

    assert deployed.deployable.backend == backend
    deployed.assert_equals_pyfunc(rows())
    deployed.assert_equals_pyfunc(pd.DataFrame(rows()))
    assert deployed.deployable.tf_inputs == (("input",) if backend == "TF" else ())
    assert deployed.deployable.tf_outputs == (("output",) if backend == "TF" else ())


def test_what_onnx_has_no_operator_for_goes_to_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    scored = module(lambda weights, inputs: {"odds": tf.math.lgamma(1 + tf.abs(inputs @ weights))}, matrix())
    path = save(tmp_path / "m", "tensorflow", scored, rows()[:3])

    deployed = deploy_tf(path)

    assert deployed.deployable.backend == "TF"
    reason = f"the TensorFlow model {path} uses Lgamma, which ONNX has no operator for"
    assert deployed.deployable.notes == (f"deployed with backend TF instead of ONNX: {reason}",)
    assert isinstance(deployed.predict(rows()), dict)
    # pyfunc returns TensorFlow's own tensors.
    expected = {name: value.numpy() for name, value in deployed.expected(rows()).items()}
    assert compare(expected, deployed.predict(rows()), 1e-6) is not None
    # TensorFlow Lite's converter makes a model even so, which then fails to run.
    with pytest.raises(NotConvertible, match=r"TensorFlow Lite"):
        deploy_tf(path, backend="TFLITE")


def test_a_lookup_table_is_refused_by_name(tmp_path: Path) -> None:
    import tensorflow as tf

    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2]), 0)
    looked_up = module(lambda _, words: looked_up.table.lookup(words), tf.TensorSpec((None,), tf.string))
    looked_up.table = table
    path = save(tmp_path / "m", "tensorflow", looked_up, np.array(["a", "b"], object))

    with pytest.raises(NotConvertible, match=r"lookup table"):
        deploy_tf(path)
