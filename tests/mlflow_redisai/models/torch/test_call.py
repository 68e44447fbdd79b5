"""A module as a function of arrays: the types and structures of its output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema

from mlflow_redisai.deploy.verification import verify
from mlflow_redisai.errors import NotConvertible
from redisai_engine.codec.compare import compare, tolerance_of

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "mlflow-redisai[torch]"')

from support import torch_models as models  # noqa: E402  # it imports torch
from support.torch_models import answers, deploy_torch, save_torch, spec  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch",  # torch deprecates TorchScript, the format of RedisAI's backend TORCH
    "ignore:`torch.jit:DeprecationWarning",
)


class Nested(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x, (x, x)


class Halves(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return (x / 2).half(), x / 2


def test_nested_answers(tmp_path: Path) -> None:
    rows, _ = models.digits()
    path = save_torch(tmp_path / "m", Nested(), input_example=rows[:4], serialization_format="pickle")

    with pytest.raises(NotConvertible) as caught:
        deploy_torch(path)

    reason = (
        f"the PyTorch model {path} returns a tuple with a tuple as 'output_1'; only a tensor, or a list, tuple or "
        "dict of tensors, can be served: wrap the model in a module whose forward returns that, and log the wrapper"
    )
    assert caught.value.message == reason


@pytest.mark.slow
def test_half_precision_comes_back_as_such(tmp_path: Path) -> None:
    rows = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    path = save_torch(tmp_path / "m", Halves().eval(), input_example=rows, serialization_format="pickle")

    deployed = deploy_torch(path)

    assert [value.dtype for value in deployed.predict(rows)] == [np.float16, np.float32]
    assert verify(deployed.run, deployed.deployable, deployed.model).status == "passed"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pt2", "pickle"])
def test_a_recurrent_model_gives_a_list(form: str, tmp_path: Path) -> None:
    ids, target = models.tokens()
    module = models.train(models.Recurrent(), ids, target, steps=5)
    signature = ModelSignature(Schema([spec("int64", (-1, 16))]))
    path = save_torch(tmp_path / "m", module, input_example=ids[:4], signature=signature, serialization_format=form)

    deployed = deploy_torch(path)

    answer = deployed.predict(ids[:300])
    assert isinstance(answer, list)
    assert compare(answers(module, ids[:300]), answer, tolerance_of(deployed.mapping)) is not None
