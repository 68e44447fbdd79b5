"""What only the TF backend does: named operations, text, types."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from redisai_engine.backends import registry
from redisai_engine.backends.base import BackendSettings, LoadedModel
from redisai_engine.errors import ModelLoadError, ModelRunError
from support.tiny_models import product_and_sum

pytestmark = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed")


def load(blob: bytes, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> LoadedModel:
    return registry.backend("TF").load(blob, "CPU", inputs=inputs, outputs=outputs, settings=BackendSettings())


def casting(to: str) -> LoadedModel:
    """Build a model that casts `x`, FLOAT, to another type."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.cast(tf.compat.v1.placeholder(tf.float32, None, "x"), to, "y")
    return load(graph.as_graph_def().SerializeToString(), ("x",), ("y",))


def passing(element: Any) -> LoadedModel:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.identity(tf.compat.v1.placeholder(element, None, "x"), "y")
    return load(graph.as_graph_def().SerializeToString(), ("x",), ("y",))


@pytest.mark.parametrize(
    ("inputs", "outputs", "text"),
    [
        (("a", "nope"), ("sum",), 'ERR Input node named "nope" not found in TF graph.'),
        (("a", "b"), ("nope",), 'ERR Output node named "nope" not found in TF graph'),
        (("a", ""), ("sum",), 'ERR Input node named "" not found in TF graph.'),
    ],
)
def test_names_that_are_not_in_the_graph(inputs: tuple[str, ...], outputs: tuple[str, ...], text: str) -> None:
    with pytest.raises(ModelLoadError) as refused:
        load(product_and_sum("TF").blob, inputs, outputs)

    assert refused.value.wire == text


def test_names_are_those_given() -> None:
    tiny = product_and_sum("TF")

    model = load(tiny.blob, ("b", "a"), ("sum",))

    assert (model.inputs, model.outputs) == (("b", "a"), ("sum",))


def test_a_wrong_type_is_an_error() -> None:
    """TensorFlow's session would cast it silently."""
    tiny = product_and_sum("TF")
    a = np.ones((1, 2), np.int32)

    with pytest.raises(ModelRunError) as failed:
        load(tiny.blob, tiny.inputs, tiny.outputs).run([a, a])

    assert failed.value.wire == "Expects arg[0] to be float but int32 is provided"


def test_text_goes_in_and_out() -> None:
    """That includes text that isn't UTF-8: TensorFlow takes any bytes."""
    x = np.array([["hello", "wörld"], [b"\xff".decode("utf-8", "surrogateescape"), ""]], object)

    (y,) = passing("string").run([x])

    assert y is not None
    assert y.tolist() == x.tolist()


@pytest.mark.parametrize(
    ("to", "came"), [("half", "float32"), ("uint32", "int64"), ("uint64", "int64"), ("bool", "bool"), ("int8", "int8")]
)
def test_types_that_redisai_lacks_are_widened(to: str, came: str) -> None:
    (y,) = casting(to).run([np.array([1.0], np.float32)])

    assert y is not None
    assert (y.dtype.name, y.tolist()) == (came, [1])


def test_a_type_that_nothing_stands_for_is_an_error() -> None:
    with pytest.raises(ModelRunError) as failed:
        casting("complex64").run([np.array([1.0], np.float32)])

    assert failed.value.wire == "ERR output y has elements of type complex64, which no tensor type can hold"


def test_a_scalar_output_is_an_array() -> None:
    (y,) = passing("float32").run([np.array(2.5, np.float32)])

    assert y is not None
    assert (y.shape, y.item()) == ((), 2.5)
