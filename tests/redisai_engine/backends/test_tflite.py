"""What only the TFLITE backend does: changing shapes, and interpreters for several threads."""

from __future__ import annotations

import importlib.util
from functools import cache

import numpy as np
import pytest

from redisai_engine.backends import registry
from redisai_engine.backends.base import BackendSettings, LoadedModel
from redisai_engine.errors import ModelRunError
from support.tiny_models import product_and_sum

# Only TensorFlow's converter can make a model.
MISSING = [name for name in ("ai_edge_litert", "tensorflow") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@cache
def model() -> LoadedModel:
    blob = product_and_sum("TFLITE").blob
    return registry.backend("TFLITE").load(blob, "CPU", inputs=(), outputs=(), settings=BackendSettings())


def test_names_are_those_of_the_graph_s_tensors() -> None:
    assert sorted(model().inputs) == ["serving_default_a:0", "serving_default_b:0"]


def test_another_rank_is_an_error() -> None:
    x = np.ones(3, np.float32)

    with pytest.raises(ModelRunError) as failed:
        model().run([x, x])

    assert failed.value.wire == f"ERR input {model().inputs[0]} has 1 dimensions; the model takes 2"


def test_the_runtime_s_own_text_is_the_error_of_a_wrong_type() -> None:
    x = np.ones((1, 3), np.int64)

    with pytest.raises(ModelRunError) as failed:
        model().run([x, x])

    assert "Got value of type INT64 but expected type FLOAT32" in failed.value.wire
