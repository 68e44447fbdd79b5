"""A conversion is used only if it answers as the module does, for any number of rows or for the module's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema

from mlflow_redisai.errors import NotConvertible
from redisai_engine.codec.compare import compare, tolerance_of

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "mlflow-redisai[torch]"')

from support import torch_models as models  # noqa: E402  # it imports torch
from support.torch_models import deploy_torch, save_torch, spec  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch",  # torch deprecates TorchScript, the format of RedisAI's backend TORCH
    "ignore:`torch.jit:DeprecationWarning",
)


@pytest.mark.slow
class TestFixedBatch:
    """For an example of one row, MLflow by default exports a program that takes exactly one."""

    @pytest.mark.parametrize("backend", ["ONNX", "TORCH"])
    def test_any_number_of_rows_is_answered_row_by_row(self, backend: str, images: Any, tmp_path: Path) -> None:
        rows, _ = models.digits()
        path = save_torch(tmp_path / "m", images, input_example=rows[:1])

        deployed = deploy_torch(path, backend=backend)

        expected = np.concatenate([deployed.expected(rows[index : index + 1]) for index in range(250)])
        assert deployed.mapping.batch == 1
        assert compare(expected, deployed.predict(rows[:250]), tolerance_of(deployed.mapping)) is not None

    def test_the_reply_says_so(self, images: Any, tmp_path: Path) -> None:
        rows, _ = models.digits()

        deployed = deploy_torch(save_torch(tmp_path / "m", images, input_example=rows[:1]))

        assert deployed.deployable.notes[0] == (
            "the model takes exactly one row at a time; predict sends each row in a request of its own"
        )

    def test_pyfunc_itself_takes_one_row_only(self, images: Any, tmp_path: Path) -> None:
        """This is why rows are split. Only the plugin takes more than one row."""
        rows, _ = models.digits()
        deployed = deploy_torch(save_torch(tmp_path / "m", images, input_example=rows[:1]))

        with pytest.raises(Exception, match=r"[Gg]uard|shape"):
            deployed.expected(rows[:3])

    def test_a_program_that_does_not_depend_on_it_takes_many(self, table: Any, tmp_path: Path) -> None:
        frame, _ = models.cancer()
        rows = frame.to_numpy(np.float32)
        path = save_torch(tmp_path / "m", table, input_example=rows[:1])

        deployed = deploy_torch(path)

        expected = np.concatenate([deployed.expected(rows[index : index + 1]) for index in range(250)])
        assert deployed.mapping.batch is None
        assert compare(expected, deployed.predict(rows[:250]), tolerance_of(deployed.mapping)) is not None
        assert deployed.deployable.notes == (
            "the model was logged for exactly one row at a time; trials showed that it takes any number",
        )

    def test_rows_that_depend_on_each_other_stay_alone(self, table: Any, tmp_path: Path) -> None:
        """The program accepts many rows, but answers them differently."""
        frame, _ = models.cancer()
        rows = frame.to_numpy(np.float32)
        path = save_torch(tmp_path / "m", models.AcrossRows(table), input_example=rows[:1])

        deployed = deploy_torch(path)

        assert deployed.mapping.batch == 1
        np.testing.assert_array_equal(deployed.predict(rows[:20]), np.zeros((20, 2), np.float32))

    def test_a_larger_fixed_batch_is_filled_up(self, images: Any, tmp_path: Path) -> None:
        """207 rows for a program of four: 52 requests, the last with a copy of the last row."""
        rows, _ = models.digits()
        signature = ModelSignature(Schema([spec("float32", (4, 1, 8, 8))]))
        path = save_torch(tmp_path / "m", images, input_example=rows[:4], signature=signature)

        deployed = deploy_torch(path)

        with torch.no_grad():
            expected = images(torch.from_numpy(rows[:207])).numpy()
        assert deployed.mapping.batch == 4
        assert compare(expected, deployed.predict(rows[:207]), tolerance_of(deployed.mapping)) is not None
        assert deployed.deployable.notes[0].startswith("the model takes exactly 4 rows at a time; predict splits")


def test_what_onnx_lacks_is_deployed_as_torchscript(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A note says why. Nothing is printed, as standard output belongs to the command."""
    rows, target = models.digits()
    module = models.train(models.Spectrum(), rows, target, steps=5)
    path = save_torch(tmp_path / "m", module, input_example=rows[:4])
    capfd.readouterr()

    deployed = deploy_torch(path)

    printed = capfd.readouterr().out
    assert deployed.deployable.backend == "TORCH"
    reason = (
        f"the PyTorch model {path} can't be exported to ONNX; ONNX has nothing for torch's operator fft_rfft in the "
        "opset of the server; replace it"
    )
    assert deployed.deployable.notes == (f"deployed with backend TORCH instead of ONNX: {reason}",)
    deployed.assert_equals_pyfunc(rows)
    assert printed == ""


def test_a_backend_that_was_asked_for_is_not_replaced(tmp_path: Path) -> None:
    rows, _ = models.digits()
    path = save_torch(tmp_path / "m", models.Spectrum().eval(), input_example=rows[:4])

    with pytest.raises(NotConvertible, match="operator fft_rfft"):
        deploy_torch(path, backend="ONNX")
