"""Real models and real event loops for the tests of execution."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from onnx import TensorProto, helper

from redisai_engine.backends.base import LoadedModel
from redisai_engine.execution.job import RunnableModel
from support.execution import load_onnx
from support.tiny_models import onnx_counter, onnx_model

MakeModel = Callable[..., RunnableModel]
RunLoop = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture(scope="session")
def doubling() -> LoadedModel:
    """y = x + x, any shape of rank 2."""
    shape = (TensorProto.FLOAT, ("N", "M"))
    return load_onnx(onnx_model([helper.make_node("Add", ["x", "x"], ["y"])], {"x": shape}, {"y": shape}))


@pytest.fixture(scope="session")
def summing() -> LoadedModel:
    """y = the sum of all rows: a model whose requests can't be batched."""
    node = helper.make_node("ReduceMax", ["x"], ["y"], axes=[0], keepdims=1)
    shape = (TensorProto.FLOAT, ("N", "M"))
    return load_onnx(onnx_model([node], {"x": shape}, {"y": (TensorProto.FLOAT, (1, "M"))}))


@pytest.fixture(scope="session")
def picking() -> LoadedModel:
    """y = row x of a table with five rows; a larger x is an error."""
    node = [
        helper.make_node(
            "Constant", [], ["t"], value=helper.make_tensor("t", TensorProto.FLOAT, [5], [0, 10, 20, 30, 40])
        ),
        helper.make_node("Gather", ["t", "x"], ["y"]),
    ]
    return load_onnx(onnx_model(node, {"x": (TensorProto.INT64, ("N",))}, {"y": (TensorProto.FLOAT, ("N",))}))


@pytest.fixture(scope="session")
def counting() -> LoadedModel:
    """A model that is as slow as needed: see `count`."""
    return load_onnx(onnx_counter())


@pytest.fixture
def model(doubling: LoadedModel) -> MakeModel:
    """Return a function that makes a runnable model: `model(batch_size=4)`, of `doubling` by default."""

    def make(loaded: LoadedModel = doubling, **options: Any) -> RunnableModel:
        return RunnableModel(loaded, backend_name="ONNX", **options)

    return make


@pytest.fixture(scope="session")
def model_of(doubling: LoadedModel) -> MakeModel:
    """As `model`, for tests whose examples are generated."""
    return lambda **options: RunnableModel(doubling, backend_name="ONNX", **options)


@pytest.fixture(params=["asyncio", "uvloop"])
def run_loop(request: pytest.FixtureRequest) -> Iterator[RunLoop]:
    """Return a function that runs a coroutine function to its end, on asyncio's event loop and on uvloop's."""
    loop = asyncio.new_event_loop() if request.param == "asyncio" else uvloop.new_event_loop()
    problems: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    yield lambda test: loop.run_until_complete(asyncio.wait_for(test(), 60))
    loop.close()
    assert problems == []
