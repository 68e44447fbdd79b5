"""Parts of a program from torch.export: its example, and guards on the example's strides, which no request has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlflow_redisai.deploy.verification import verify
from mlflow_redisai.models.loading import open_model
from redisai_engine.codec.compare import compare, tolerance_of

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "mlflow-redisai[torch]"')

from support import torch_models as models  # noqa: E402  # it imports torch
from support.torch_models import WORDS, deploy_torch, mask_of, save_torch  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch",  # torch deprecates TorchScript, the format of RedisAI's backend TORCH
    "ignore:`torch.jit:DeprecationWarning",
)


def test_an_example_that_was_part_of_a_larger_array(table: Any, tmp_path: Path) -> None:
    """torch.export makes guards of its example's strides, for which pyfunc then refuses every other array."""
    frame, _ = models.cancer()
    held_out = frame.astype(np.float32)[1::2].to_numpy()
    path = save_torch(tmp_path / "m", table, input_example=held_out[:4])

    deployed = deploy_torch(path)

    with torch.no_grad():
        expected = table(torch.from_numpy(held_out)).numpy()
    assert compare(expected, deployed.predict(held_out), tolerance_of(deployed.mapping)) is not None
    found = verify(deployed.run, deployed.deployable, deployed.model)
    kind = "the PyTorch module itself, without the guards that torch.export gave it"
    assert (found.status, found.reference) == ("passed", kind)
    with pytest.raises(AssertionError, match="stride"):
        deployed.expected(np.ascontiguousarray(held_out))


@pytest.mark.slow
def test_a_pt2_model_of_several_inputs_is_verified_with_its_own_example(words: Any, tmp_path: Path) -> None:
    """MLflow stores no example for such a model, but the program holds the one that it was exported with."""
    ids, _ = models.tokens()
    path = save_torch(tmp_path / "m", words, input_example=(ids[:4], mask_of(ids)[:4]), signature=WORDS)

    with open_model(str(path)) as model:
        assert model.input_example is None
    deployed = deploy_torch(path)

    found = verify(deployed.run, deployed.deployable, deployed.model)
    assert (found.status, found.rows, found.reference) == ("passed", 4, "the PyTorch module itself")
