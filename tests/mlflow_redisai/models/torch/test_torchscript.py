"""Ways to TorchScript: if a trace would hold only for the example, another way is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "mlflow-redisai[torch]"')

from support import torch_models as models  # noqa: E402  # it imports torch
from support.torch_models import deploy_torch, save_torch  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch",  # torch deprecates TorchScript, the format of RedisAI's backend TORCH
    "ignore:`torch.jit:DeprecationWarning",
)


def test_a_branch_on_values_is_kept(table: Any, tmp_path: Path) -> None:
    """A trace would always take the example's branch."""
    frame, _ = models.cancer()
    module = models.Doubting(table).eval()
    path = save_torch(tmp_path / "m", module, input_example=frame[:2], serialization_format="pickle")

    deployed = deploy_torch(path)

    few, many = frame[:2], frame
    assert few.to_numpy().sum() < 30000 < many.to_numpy().sum()
    assert deployed.deployable.backend == "ONNX"
    deployed.assert_equals_pyfunc(few)
    deployed.assert_equals_pyfunc(many)
