"""Models and scripts on a real GPU: the answers of the CPU, from processes that may do little besides computing."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from redisai_engine.protocol.frames import ReplyError
from support.servers import Server, start_engine
from support.tiny_models import onnx_model
from support.torch_scripts import entry_point
from support.wire import Wire

DOUBLE = entry_point("double", "return tensors[0] * 2")
PERCEPTRON = """
import io, sys, warnings
import torch
warnings.simplefilter("ignore")
torch.manual_seed(1)
layers = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
torch.jit.save(torch.jit.script(layers.eval()), sys.stdout.buffer)
"""


def _has_gpu() -> bool:
    listing = shutil.which("nvidia-smi")
    return listing is not None and subprocess.run([listing, "-L"], capture_output=True, check=False).returncode == 0


def _provides_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _torch_has_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    from torch.version import cuda

    return cuda is not None


CAN = {"ONNX": _provides_cuda, "TORCH": _torch_has_cuda}

pytestmark = pytest.mark.skipif(not _has_gpu(), reason="this machine has no GPU")


def _onnx_perceptron() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    weights = {"v": random.normal(size=(64, 512)), "w": random.normal(size=(512, 10))}
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    return onnx_model(
        nodes,
        {"x": (TensorProto.FLOAT, ("N", 64))},
        {"y": (TensorProto.FLOAT, ("N", 10))},
        initializers=[numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )


def _torch_perceptron() -> bytes:
    # In a process of its own: this one need not import the framework.
    return subprocess.run([sys.executable, "-c", PERCEPTRON], capture_output=True, check=True).stdout


BLOBS = {"ONNX": _onnx_perceptron, "TORCH": _torch_perceptron}


@pytest.fixture(scope="module", params=["as by default", "in the engine's process"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    there = ("--trusted-models", "--in-process", "TORCH") if request.param == "in the engine's process" else ()
    server = start_engine(tmp_path_factory.mktemp("gpu"), "--workers", "1", *there)
    yield server
    server.stop()


def predicted(wire: Wire, model: str, rows: np.ndarray) -> np.ndarray:
    wire.ask("AI.TENSORSET", "x", "FLOAT", *rows.shape, "BLOB", rows.tobytes())
    assert wire.ask("AI.MODELEXECUTE", model, "INPUTS", 1, "x", "OUTPUTS", 1, "y") == b"OK"
    blob = wire.ask("AI.TENSORGET", "y", "BLOB")
    assert isinstance(blob, bytes)
    return np.frombuffer(blob, np.float32).reshape(len(rows), -1)


@pytest.mark.parametrize("backend", BLOBS)
def test_a_gpu_answers_as_the_cpu_does(engine: Server, backend: str) -> None:
    if not CAN[backend]():
        pytest.skip(f"the installed build for {backend} doesn't support CUDA")
    blob = BLOBS[backend]()
    random = np.random.default_rng(2)
    with Wire(engine.port, timeout_s=120) as wire:
        for device in ("CPU", "GPU", "GPU:0"):
            assert wire.ask("AI.MODELSTORE", device, backend, device, "BLOB", blob) == b"OK"
        for count in (1, 7, 5000):
            rows = random.normal(size=(count, 64)).astype(np.float32)
            expected = predicted(wire, "CPU", rows)
            largest = float(np.abs(expected).max())
            for device in ("GPU", "GPU:0"):
                assert np.abs(predicted(wire, device, rows) - expected).max() < 1e-5 * largest  # TF32: 1e-3


@pytest.mark.parametrize("backend", BLOBS)
def test_a_gpu_that_is_not_there_is_named(engine: Server, backend: str) -> None:
    if not CAN[backend]():
        pytest.skip(f"the installed build for {backend} doesn't support CUDA")
    with Wire(engine.port, timeout_s=120) as wire:
        refused = wire.ask("AI.MODELSTORE", "m", backend, "GPU:99", "BLOB", BLOBS[backend]())

        assert isinstance(refused, ReplyError)
        assert "can't use device GPU:99" in refused.text
        assert wire.ask("EXISTS", "m") == 0


def test_a_script_runs_on_a_gpu(engine: Server) -> None:
    if not CAN["TORCH"]():
        pytest.skip("the installed build for TORCH doesn't support CUDA")
    with Wire(engine.port, timeout_s=120) as wire:
        assert wire.ask("AI.SCRIPTSTORE", "s", "GPU", "ENTRY_POINTS", 1, "double", "SOURCE", DOUBLE) == b"OK"
        wire.ask("AI.TENSORSET", "in", "FLOAT", 2, "VALUES", 1, 2)

        assert wire.ask("AI.SCRIPTEXECUTE", "s", "double", "INPUTS", 1, "in", "OUTPUTS", 1, "out") == b"OK"
        assert wire.ask("AI.TENSORGET", "out", "VALUES") == [b"2", b"4"]
