"""Keras models of both flavors, trained on real data, must answer as mlflow.pyfunc does on held-out rows."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai.errors import NotConvertible
from redisai_engine.codec.compare import compare
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.protocol import dtypes
from support.tf_models import (
    classifier,
    deploy_tf,
    digits,
    heads,
    pictures,
    rows,
    save,
    sequential,
    tokens,
    transformer,
    two_inputs,
)

if TYPE_CHECKING:
    pass

MISSING = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")]


FLAVORS = ["keras", "tensorflow"]


# The rows of 569 that no model here was trained on.
HELD_OUT = slice(300, None)


KINDS: dict[str, tuple[Callable[[], Any], Callable[[], np.ndarray]]] = {
    "gelu": (lambda: sequential("gelu"), rows),
    "convolution": (lambda: pictures("convolution"), lambda: digits()[0]),
    "lstm": (lambda: pictures("lstm"), lambda: digits()[0]),
    "transformer": (transformer, lambda: tokens()[0]),
}


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_sequential_model_answers_arrays_and_frames_alike(flavor: str, tmp_path: Path) -> None:
    """For a signature of one tensor, pyfunc answers both with an array."""
    deployed = deploy_tf(save(tmp_path / "m", flavor, classifier(), rows()[:3]))

    held_out = rows()[HELD_OUT]
    assert deployed.deployable.backend == "ONNX"
    assert not [note for note in deployed.deployable.notes if "are refused" not in note]
    deployed.assert_equals_pyfunc(held_out, within=1e-6)
    deployed.assert_equals_pyfunc(pd.DataFrame(held_out))
    assert deployed.predict(held_out).dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_many_kinds_become_onnx(kind: str, tmp_path: Path) -> None:
    """tf2onnx writes GELU with an operator that ONNX lacks. Loops of recurrent layers run, too."""
    make, inputs = KINDS[kind]

    deployed = deploy_tf(save(tmp_path / "m", "keras", make(), inputs()[:3]))

    assert deployed.deployable.backend == "ONNX"
    deployed.assert_equals_pyfunc(inputs()[-250:], within=2e-6)


@pytest.mark.parametrize("outputs", ["list", "alike", "dict"])
def test_several_inputs_and_outputs_of_the_flavor_tensorflow(outputs: str, tmp_path: Path) -> None:
    example = {name: values[:3] for name, values in two_inputs().items()}
    deployed = deploy_tf(save(tmp_path / "m", "tensorflow", heads(outputs), example))

    deployed.assert_equals_pyfunc(two_inputs())
    assert isinstance(deployed.predict(two_inputs()), dict if outputs == "dict" else list)
    cells = pd.DataFrame({name: list(values) for name, values in two_inputs().items()})
    deployed.assert_equals_pyfunc(cells)


def test_several_outputs_of_one_shape_come_stacked_from_the_flavor_keras(tmp_path: Path) -> None:
    """pyfunc stacks Keras' list in the same way."""
    example = {name: values[:3] for name, values in two_inputs().items()}
    deployed = deploy_tf(save(tmp_path / "m", "keras", heads("alike"), example))

    deployed.assert_equals_pyfunc(two_inputs())
    assert deployed.predict(two_inputs()).shape == (2, 569, 1)


@pytest.mark.parametrize("outputs", ["list", "dict"])
def test_where_the_flavor_keras_has_no_array_the_answer_is_keras_own(outputs: str, tmp_path: Path) -> None:
    example = {name: values[:3] for name, values in two_inputs().items()}
    deployed = deploy_tf(save(tmp_path / "m", "keras", heads(outputs), example))

    expected = heads(outputs).predict(two_inputs(), verbose=0)
    assert compare(expected, deployed.predict(two_inputs()), 1e-6) is not None
    assert deployed.deployable.notes[0].startswith("mlflow.pyfunc can't answer")


def test_an_output_may_be_chosen_by_its_name(tmp_path: Path) -> None:
    example = {name: values[:3] for name, values in two_inputs().items()}
    path = save(tmp_path / "m", "tensorflow", heads("list"), example)

    chosen = deploy_tf(path, outputs="malign").predict(two_inputs())

    expected = heads("list").predict(two_inputs(), verbose=0)[1]
    assert compare(expected, chosen, 1e-6) is not None
    with pytest.raises(NotConvertible, match=r"no output 'price'; it has kind, malign"):
        deploy_tf(path, outputs="price")


def test_without_signature_the_answer_follows_the_input(tmp_path: Path) -> None:
    """A frame is answered with a frame that has its index."""
    deployed = deploy_tf(save(tmp_path / "m", "keras", classifier(), None, signature=None))
    frame = pd.DataFrame(rows(), index=range(1000, 1569))

    deployed.assert_equals_pyfunc(rows())
    deployed.assert_equals_pyfunc(frame)
    assert deployed.predict(frame).index.tolist() == frame.index.tolist()


@pytest.mark.parametrize(
    ("numpy_dtype", "tensor"), [(np.float64, dtypes.DOUBLE), (np.int64, dtypes.INT64)], ids=["float64", "int64"]
)
def test_inputs_keep_the_signatures_type(numpy_dtype: Any, tensor: dtypes.DType, tmp_path: Path) -> None:
    """The graph rounds them to float32, as Keras' own predict does."""
    inputs = (rows() * 10).astype(numpy_dtype)
    deployed = deploy_tf(save(tmp_path / "m", "keras", classifier(), inputs[:3]))

    assert [item.dtype for item in deployed.mapping.inputs] == [tensor]
    deployed.assert_equals_pyfunc(inputs)
    with pytest.raises(InputMismatch):
        deployed.predict(inputs.astype(str))


def test_an_exported_model_is_deployed_with_its_endpoint(tmp_path: Path) -> None:
    path = save(tmp_path / "m", "keras", classifier(), rows()[:3], save_exported_model=True)

    deploy_tf(path).assert_equals_pyfunc(rows())


def test_lengths_that_the_signature_leaves_open_stay_open(tmp_path: Path) -> None:
    import keras
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    given = keras.Input((None,), dtype="int64")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(17, 4)(given))
    signature = ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.int64), (-1, -1))]))
    ids, _ = tokens()
    deployed = deploy_tf(save(tmp_path / "m", "keras", keras.Model(given, pooled), ids[:3], signature=signature))

    assert deployed.mapping.inputs[0].shape == (None, None)
    deployed.assert_equals_pyfunc(ids[:250])
    deployed.assert_equals_pyfunc(ids[:250, :7])


def test_half_precision_falls_back_to_tensorflow_which_rounds_alike(tmp_path: Path) -> None:
    import keras

    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        deployed = deploy_tf(save(tmp_path / "m", "keras", sequential(), rows()[:3]))
    finally:
        keras.mixed_precision.set_global_policy("float32")

    assert deployed.deployable.backend == "TF"
    assert deployed.predict(rows()).dtype == np.float16
    deployed.assert_equals_pyfunc(rows())
    assert "answers differently after conversion" in deployed.deployable.notes[0]


def test_a_layer_that_keras_cant_load_is_named(tmp_path: Path) -> None:
    import keras

    class Doubled(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return 2 * inputs

    model = keras.Sequential([keras.Input((30,)), Doubled()])
    path = save(tmp_path / "m", "keras", model, rows()[:3])

    with pytest.raises(NotConvertible, match=r"it needs class 'Doubled', which Keras doesn't know") as raised:
        deploy_tf(path)
    assert "with backend" not in raised.value.message


def test_a_model_that_keeps_state_is_refused(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input(batch_shape=(4, 5, 6)), keras.layers.LSTM(3, stateful=True)])
    path = save(tmp_path / "m", "keras", model, rows()[:4].reshape(4, 5, 6))

    with pytest.raises(NotConvertible, match=r"changes its own variables when it is called"):
        deploy_tf(path)
