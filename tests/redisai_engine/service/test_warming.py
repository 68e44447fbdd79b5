"""A model that is stored is run before anybody asks for it: uncounted, briefly, whatever it says and does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from uuid import uuid4

import numpy as np
import pytest
from onnx import TensorProto, helper

from redisai_engine.config import Settings
from redisai_engine.execution.job import RunnableModel, form_of
from redisai_engine.redis.address import Address
from redisai_engine.service.engine import Engine
from redisai_engine.service.warming import warm_up
from support.connection import Connect, Connection
from support.execution import load_onnx
from support.gateway import Pair, model_blob, predict, run_count, store_model, store_onnx
from support.onnx_faults import crashing_run, endless_run, failing_run
from support.scraping import scrape
from support.tiny_models import onnx_model
from support.waiting import free_port, wait_until


@pytest.fixture
def key() -> str:
    return f"warm:{uuid4().hex}"


ROW = form_of([np.ones(1, np.float32)] * 2, with_text=False)


@asynccontextmanager
async def engine_of(**settings: object) -> AsyncIterator[Engine]:
    """An engine that reaches no Redis, which warming up doesn't ask."""
    engine = Engine(Settings(**settings), Address(port=1), asyncio.get_running_loop())  # type: ignore[arg-type]
    yield engine
    await engine.close()


def model_of(blob: bytes) -> RunnableModel:
    return RunnableModel(load_onnx(blob), backend_name="ONNX")


async def warmed(engine: Engine, blob: bytes) -> tuple[RunnableModel, float]:
    """Return a model, and the seconds from the beginning of its warming up to the end."""
    model = model_of(blob)
    began = monotonic()
    warm_up(engine, model)
    while engine.executor.is_running:
        engine.executor.run_turn()
        await asyncio.sleep(0)
    return model, monotonic() - began


def passing_on(element: int, shape: tuple[int | str, ...] | None) -> bytes:
    """Return a model that returns its input, of which it tells this shape."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return onnx_model([node], {"x": (element, shape)}, {"y": (element, None)})


def test_how_long_a_run_takes_is_known_afterwards() -> None:
    async def run() -> None:
        async with engine_of() as engine:
            model, _ = await warmed(engine, model_blob("Add"))

            assert model.is_short(ROW)

    asyncio.run(run())


@pytest.mark.parametrize("blob", [endless_run(), failing_run(), passing_on(TensorProto.FLOAT, (2**40,))])
def test_what_takes_long_is_stopped_and_what_fails_is_left(blob: bytes) -> None:
    """Endless, an error, and made for inputs that nobody can make."""

    async def run() -> None:
        async with engine_of() as engine:
            model, seconds = await warmed(engine, blob)

            assert seconds < 5.0
            assert model.statistics.calls == model.statistics.errors == 0
            assert not model.is_short((1,))

    asyncio.run(run())


def test_many_that_take_long_end_together() -> None:
    """Those that wait for a thread are given up in it, too."""

    async def run() -> None:
        async with engine_of() as engine:
            for _ in range(20):
                warm_up(engine, model_of(endless_run()))
            _, seconds = await warmed(engine, endless_run())

            assert seconds < 5.0

    asyncio.run(run())


def test_what_was_never_tried_out_is_not_run() -> None:
    """With trusted models nothing is tried out, and this one would end the process."""

    async def run() -> None:
        async with engine_of(trusted_models=True) as engine:
            await warmed(engine, crashing_run())

    asyncio.run(run())


def test_it_is_not_counted(wire: Connection, key: str) -> None:
    store_model(wire, key)

    assert run_count(wire, key) == 0
    assert predict(wire, key, 1, 2) == 3.0
    assert run_count(wire, key) == 1


def test_metrics_do_not_count_it(new_pair: Callable[..., Pair], connect: Connect) -> None:
    port = free_port()
    pair = new_pair("--metrics-port", str(port))
    wire = connect(pair.engine)
    store_model(wire, "warm:add")
    assert predict(wire, "warm:add", 1, 2) == 3.0

    def counted() -> float:
        return scrape(port).sum("redisai_requests_total")

    assert wait_until(counted) == 1.0


def test_a_prediction_does_not_wait_for_a_model_that_is_warmed_up(wire: Connection, key: str) -> None:
    store_model(wire, f"{key}:add")
    store_onnx(wire, f"{key}:slow", endless_run(2_000_000))
    began = monotonic()

    assert predict(wire, f"{key}:add", 1, 2) == 3.0
    assert monotonic() - began < 1.0


@pytest.mark.parametrize(
    "shape", [(2**40,), (2**62, 2**62), (0, 2**62), (0,), (0,) * 33, (1,) * 33, (1,) * 65, ("N", 2**31, 0), None, ()]
)
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.STRING, TensorProto.FLOAT16])
def test_whatever_a_model_tells_of_its_inputs_the_engine_goes_on(
    wire: Connection, key: str, element: int, shape: tuple[int | str, ...] | None
) -> None:
    store_onnx(wire, f"{key}:odd", passing_on(element, shape))
    store_model(wire, key)

    assert predict(wire, key, 1, 2) == 3.0
    assert run_count(wire, f"{key}:odd") == 0
