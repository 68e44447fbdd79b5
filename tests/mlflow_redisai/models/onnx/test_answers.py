"""Chosen outputs are compared with the file as it was logged, never with the graph made from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from mlflow_redisai.deploy.verification import verify
from mlflow_redisai.errors import VerificationFailed
from redisai_engine.protocol.tensor import Tensor
from support.local_runs import deploy, save_onnx
from support.onnx_models import four_rows, graph_model, tensor, unusual_types, wine, wine_model


@pytest.mark.parametrize("outputs", ["y", "z,y"])
def test_types_and_versions_are_the_files_own(outputs: str, tmp_path: Path) -> None:
    """The opset is newer than the server's, the input is float16, and the outputs are float16 and uint32."""
    proto = unusual_types(opset=18, ir_version=9)
    rows = np.array([1.5, 2], np.float16)

    deployed = deploy(save_onnx(tmp_path / "m", proto, input_example=rows), outputs=outputs)

    found = verify(deployed.run, deployed.deployable, deployed.model)
    assert (found.status, found.reference) == ("passed", "ONNX Runtime on the original file")
    assert deployed.predict(rows)["y"].tolist() == [3, 4]


def test_a_zipmap_is_done_by_the_file(tmp_path: Path) -> None:
    frame, _ = wine()
    example = frame[:3].to_numpy(np.float32)

    deployed = deploy(save_onnx(tmp_path / "m", wine_model(), input_example=example), outputs="output_probability")

    assert verify(deployed.run, deployed.deployable, deployed.model).status == "passed"
    assert list(deployed.predict(example)["output_probability"][0]) == [0, 1, 2]


def test_a_fixed_number_of_rows_is_split_for_the_file_too(tmp_path: Path) -> None:
    example = np.ones((6, 3), np.float32)
    path = save_onnx(tmp_path / "m", four_rows(), input_example=example)

    deployed = deploy(path, outputs="y")

    found = verify(deployed.run, deployed.deployable, deployed.model)
    assert (found.status, found.rows) == ("passed", 6)


def test_another_answer_than_the_files_is_found(tmp_path: Path) -> None:
    example = np.ones((4, 3), np.float32)
    path = save_onnx(tmp_path / "m", four_rows(), input_example=example)
    deployed = deploy(path, outputs="y")

    def run(tensors: list[Tensor]) -> list[Tensor]:
        return [Tensor.from_array(found.array() + 1) for found in deployed.run(tensors)]

    with pytest.raises(VerificationFailed) as caught:
        verify(run, deployed.deployable, deployed.model)
    assert caught.value.message == (
        "the stored model failed verification against ONNX Runtime on the original file with the model's input "
        "example: "
        "y: the largest difference is 0.5 relative to 2, but at most 2.64e-05 is allowed (expected 2.0, got 3.0); "
        "nothing was deployed"
    )


def test_where_the_file_itself_cannot_be_run_nothing_is_said_to_be_verified(tmp_path: Path) -> None:
    """NumPy has no bfloat16 to feed the file with. The deployed graph takes float32 instead."""
    proto = graph_model(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        [tensor("x", TensorProto.BFLOAT16, [None])],
        [tensor("y", TensorProto.FLOAT, [None])],
    )

    deployed = deploy(save_onnx(tmp_path / "m", proto, input_example=np.ones(3, np.float32)))

    found = verify(deployed.run, deployed.deployable, deployed.model)
    assert found.status.startswith("not verified: ONNX Runtime fails on the input example with the original file (")
    assert (found.rows, found.reference, found.notes) == (3, None, (found.status,))
