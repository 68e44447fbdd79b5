"""Models that other RedisAI clients stored: fed with their own types, and never run if that would crash RedisAI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from onnx import helper

from mlflow_redisai import RedisAIClient
from mlflow_redisai.errors import InvalidRequest
from mlflow_redisai.predict.foreign import mapping_of
from mlflow_redisai.server.commands import ModelMeta
from redisai_engine.protocol import dtypes
from support.servers import Server
from support.tiny_models import onnx_cast
from support.transcripts import recorded_model


@pytest.fixture
def store(engine: Server) -> Callable[[str, bytes], None]:
    def send(name: str, blob: bytes) -> None:
        engine.client().execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", blob)

    return send


@pytest.mark.parametrize(
    ("file", "given", "expected"),
    [
        ("int64_add.onnx", np.array([1, 2, 3], np.int32), [11, 12, 13]),
        ("identity_int32.onnx", [1, 2], [1, 2]),
        ("bool_not.onnx", [True, False], [False, True]),
        ("string_identity.onnx", [["a", "b"], ["c", "d"]], [["a", "b"], ["c", "d"]]),
    ],
)
def test_an_onnx_model_is_fed_with_its_own_types(
    client: RedisAIClient, store: Callable[[str, bytes], None], file: str, given: Any, expected: list[object]
) -> None:
    """The models would refuse numpy's default types for these values."""
    store(f"types:{file}", recorded_model(file))

    assert client.predict(f"types:{file}", np.array(given))["predictions"].tolist() == expected


def test_a_model_with_a_zipmap_is_not_run(client: RedisAIClient, store: Callable[[str, bytes], None]) -> None:
    """skl2onnx makes one by default; in a DAG it crashes RedisAI 1.2.7."""
    store("zipmap:iris", recorded_model("iris_zipmap.onnx"))

    with pytest.raises(MlflowException) as caught:
        client.predict("zipmap:iris", np.ones((1, 4)))

    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert caught.value.message == (
        "the model 'zipmap:iris' can't be used for predictions: its output 'output_probability' is not a tensor; "
        "deploy it with mlflow-redisai, or convert it without ZipMap"
    )
    assert client.get_deployment("zipmap:iris")["outputs"] == ["output_label", "output_probability"]


def test_other_backends_take_floats() -> None:
    """Their blobs declare no types and are not fetched."""

    def fetch() -> bytes:
        raise AssertionError("fetched")

    mapping = mapping_of("m", ModelMeta(backend="TORCH", device="CPU", inputs=("a",), outputs=("",)), fetch)

    assert [item.dtype for item in mapping.inputs] == [None]


def test_an_onnx_model_tells_its_types_itself() -> None:
    meta = ModelMeta(backend="ONNX", device="CPU", inputs=("x",), outputs=("y",))

    assert [item.dtype for item in mapping_of("m", meta, lambda: onnx_cast(7)).inputs] == [dtypes.FLOAT]


def test_an_output_that_is_no_tensor_is_an_mlflow_exception() -> None:
    meta = ModelMeta(backend="ONNX", device="CPU", inputs=("x",), outputs=("y",))
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    ends = [helper.make_tensor_value_info("x", 1, ["N"])], [helper.make_tensor_sequence_value_info("y", 1, None)]
    blob = helper.make_model(helper.make_graph([node], "m", *ends)).SerializeToString()

    with pytest.raises(
        InvalidRequest, match=r"^the model 'm' can't be used for predictions: its output 'y' is not a tensor;"
    ):
        mapping_of("m", meta, lambda: blob)
