"""What the plugin asks a server, and how it interprets the replies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from mlflow.exceptions import MlflowException
from onnx import TensorProto, helper

from mlflow_redisai import RedisAIClient
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.server.facts import ask, with_runtime
from mlflow_redisai.server.limits import ServerLimits, limits_of
from mlflow_redisai.target import Target
from support.local_runs import save_onnx
from support.servers import Server
from support.tiny_models import onnx_model


def test_the_first_model_of_a_new_server_may_have_its_newest_operators(
    new_engine: Callable[..., Server], tmp_path: Path
) -> None:
    """Gelu needs opset 20. The server reports its ONNX Runtime only after its first ONNX model."""
    engine = new_engine()
    x = np.array([[-1.0, 0.0, 2.0]], np.float32)
    shape = (TensorProto.FLOAT, ("N", 3))
    graph = onnx_model([helper.make_node("Gelu", ["x"], ["y"])], {"x": shape}, {"y": shape}, opset=20)
    path = save_onnx(tmp_path / "m", onnx.load_from_string(graph), input_example=x)
    connection = Connection(Target.parse(engine.target))
    before = with_runtime(ask(connection, b"gelu"), connection, b"gelu")

    created = RedisAIClient(engine.target).create_deployment("gelu", str(path))

    after = with_runtime(before, connection, b"gelu")
    stored = onnx.load_from_string(engine.client().execute_command("AI.MODELGET", "gelu", "BLOB"))
    assert created["verification"]["status"] == "passed"
    assert [imported.version for imported in stored.opset_import] == [20]
    assert (before.onnxruntime, before.limits) == (None, ServerLimits(15, 2, 8))
    assert (after.onnxruntime, after.limits) == (onnxruntime.__version__, limits_of(onnxruntime.__version__))
    assert len(engine.client().keys("*")) == 2


def test_a_redis_without_redisai_is_told_as_such(redis_server) -> None:
    """Before anything is converted or stored."""
    with pytest.raises(MlflowException) as caught:
        ask(Connection(Target.parse(redis_server.target)), b"iris")

    assert caught.value.message == (
        f"Redis at 127.0.0.1:{redis_server.port} has no AI commands: unknown command 'AI.CONFIG', with args beginning "
        "with: 'GET' 'MODEL_CHUNK_SIZE'; load the RedisAI module there, or start redisai-engine in front of it and "
        "set the engine's address as the target"
    )
    assert caught.value.error_code == "NOT_IMPLEMENTED"
