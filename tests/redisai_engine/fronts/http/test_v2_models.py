"""What V2 makes of a model goes with it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from redisai_engine.config import Settings
from redisai_engine.execution.job import RunnableModel
from redisai_engine.execution.quarantine import Quarantine
from redisai_engine.fronts.http.v2.models import v2_model
from redisai_engine.redis.address import Address
from redisai_engine.service.models import Models
from support.execution import load_onnx
from support.tiny_models import onnx_model

KEY, ID = b"wine", b"1"


def model_of(element: int) -> RunnableModel:
    """Return a model that returns its input, as it is after it was loaded."""
    node = helper.make_node("Identity", ["x"], ["y"])
    blob = onnx_model([node], {"x": (element, (1,))}, {"y": (element, (1,))})
    model = RunnableModel(load_onnx(blob), backend_name="ONNX")
    Quarantine().watch(model, "digest")
    return model


def run(model: RunnableModel, dtype: Any) -> None:
    form = v2_model(model).form or model
    form.loaded.run([np.ones(1, dtype)])


@pytest.mark.parametrize(("element", "dtype"), [(TensorProto.FLOAT, "float32"), (TensorProto.FLOAT16, "float16")])
@pytest.mark.parametrize("runs", [0, 1, 2])
def test_a_model_that_leaves_memory_is_freed_at_once(element: int, dtype: str, runs: int) -> None:
    """Whether it runs as it is or in a form of its own, which has the types that RedisAI lacks."""

    async def leave() -> None:
        models = Models(Settings(strict=True), Address(port=1), asyncio.get_running_loop())
        model = model_of(element)
        gone = weakref.ref(model.loaded)
        models.keep(0, KEY, ID, model)
        v2_model(model)
        for _ in range(runs):
            run(model, dtype)
        inner = weakref.ref(model.loaded)
        gc.disable()
        try:
            models.drop(0, KEY)
            del model

            assert (gone(), inner()) == (None, None)
        finally:
            gc.enable()

    asyncio.run(leave())


def test_the_view_of_a_model_is_made_once() -> None:
    model = model_of(TensorProto.FLOAT)

    assert v2_model(model) is v2_model(model)
