"""The reference of a TensorFlow or Keras model is pyfunc, or else the model as it was loaded, never its trace."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlflow_redisai.deploy.verification import PASSED, verify
from redisai_engine.codec.compare import compare
from redisai_engine.codec.mapping import Answer, Input, Mapping, Part
from redisai_engine.protocol import dtypes
from support.local_runs import Deployed
from support.tf_models import deploy_tf, save, two_headed, two_inputs, two_part_module

MISSING = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


def compared_with(deployed: Deployed) -> tuple[str, str | None]:
    found = verify(deployed.run, deployed.deployable, deployed.model)
    return found.status, found.reference


@pytest.fixture(scope="module")
def keras_model() -> Any:
    return two_headed("list")


def example() -> dict[str, np.ndarray]:
    return {name: values[:3] for name, values in two_inputs().items()}


@pytest.mark.parametrize(
    ("flavor", "outputs", "reference"),
    [
        ("tensorflow", None, "mlflow.pyfunc"),
        ("tensorflow", "malign", "Keras' own predict"),
        ("keras", None, "Keras' own predict"),
        ("keras", "kind,malign", "Keras' own predict"),
    ],
)
def test_a_keras_model(flavor: str, outputs: str | None, reference: str, keras_model: Any, tmp_path: Path) -> None:
    """In the flavor keras, pyfunc can't answer with several outputs of unlike shapes."""
    deployed = deploy_tf(save(tmp_path / "m", flavor, keras_model, example()), outputs=outputs)

    assert compared_with(deployed) == (PASSED, reference)
    kind, malign = keras_model.predict(two_inputs(), verbose=0)
    expected = {None: [kind, malign], "malign": malign, "kind,malign": {"kind": kind, "malign": malign}}[outputs]
    assert compare(expected, deployed.predict(two_inputs()), 1e-5) is not None


@pytest.mark.parametrize("outputs", [None, "size"])
def test_a_module_that_pyfunc_cannot_call(outputs: str | None, tmp_path: Path) -> None:
    deployed = deploy_tf(save(tmp_path / "m", "tensorflow", two_part_module(), example()), outputs=outputs)

    assert compared_with(deployed) == (PASSED, "the model itself, called by TensorFlow")


def test_the_trace_takes_no_part() -> None:
    """If the trace of another function takes its place, the answers are still the model's."""
    from mlflow_redisai.models.tensorflow.answers import model_reference
    from mlflow_redisai.models.tensorflow.call import CallingConvention, trace

    inputs = (Input("x", dtypes.FLOAT, (None, 2)),)
    traced = trace([CallingConvention(inputs, lambda tensors: tensors[0] * 2)], (), "the test")
    other = trace([CallingConvention(inputs, lambda tensors: tensors[0] * 3)], (), "the test")
    mapping = Mapping(inputs, traced.outputs, (0,), Answer("ndarray", (Part("output"),)))

    reference = model_reference(replace(traced, concrete=other.concrete), mapping)

    assert reference.answer(np.ones((1, 2), np.float32)).tolist() == [[2, 2]]
