"""What every backend does: one suite, run with each of them. Parts whose framework isn't installed are skipped."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter

import numpy as np
import pytest

from redisai_engine.backends import registry
from redisai_engine.backends.base import Array, BackendSettings, LoadedModel, Outputs
from redisai_engine.errors import DeviceUnavailable, ModelLoadError, ModelRunError
from redisai_engine.protocol.dtypes import DTYPES, DType
from support.tiny_models import passing, product_and_sum

# A backend, and the packages that its tests need. Only TensorFlow can make a TFLITE model.
BACKENDS = {
    "ONNX": ("onnxruntime", "onnx"),
    "TORCH": ("torch",),
    "TF": ("tensorflow",),
    "TFLITE": ("ai_edge_litert", "tensorflow"),
}


@pytest.fixture(params=list(BACKENDS), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    for package in BACKENDS[request.param]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def load(name: str) -> Callable[..., LoadedModel]:
    """Load the tiny model, or the bytes given instead of its own."""
    tiny = product_and_sum(name)

    def load(blob: bytes | None = None, device: str = "CPU") -> LoadedModel:
        backend = registry.backend(name)
        blob = tiny.blob if blob is None else blob
        return backend.load(blob, device, inputs=tiny.inputs, outputs=tiny.outputs, settings=BackendSettings())

    return load


@pytest.fixture(scope="module")
def model(load: Callable[..., LoadedModel]) -> LoadedModel:
    return load()


def test_every_backend_is_tried() -> None:
    assert set(BACKENDS) == set(registry.BACKENDS)


def test_counts_inputs_and_outputs(model: LoadedModel) -> None:
    assert (len(model.inputs), len(model.outputs)) == (2, 2)


@pytest.mark.parametrize("rows", [1, 5, 2, 1000])
def test_takes_any_number_of_rows(model: LoadedModel, rows: int) -> None:
    a, b = _inputs(rows)

    product, total = run(model, a, b)

    np.testing.assert_array_equal(a * b, product)
    np.testing.assert_array_equal(a + b, total)


def test_leaves_inputs_as_they_are_and_takes_read_only_ones(model: LoadedModel) -> None:
    """Tensors from the store are read-only views of bytes."""
    a, b = (np.frombuffer(array.tobytes(), np.float32).reshape(array.shape) for array in _inputs(3))
    before = a.copy()

    model.run([a, b])

    np.testing.assert_array_equal(before, a)


def test_outputs_of_one_run_survive_the_next(model: LoadedModel) -> None:
    """A framework must not reuse the buffers of outputs: batches are split, and answered later."""
    a, b = _inputs(4)
    first = model.run([a, b])
    kept = [None if array is None else array.copy() for array in first]

    model.run([a + 1, b + 1])

    for expected, actual in zip(kept, first, strict=True):
        np.testing.assert_array_equal(expected, actual)


def test_runs_in_several_threads_at_once(model: LoadedModel) -> None:
    def is_right(rows: int) -> bool:
        a, b = _inputs(rows)
        product, total = run(model, a, b)
        return bool(np.array_equal(product, a * b) and np.array_equal(total, a + b))

    with ThreadPoolExecutor(4) as threads:
        right = list(threads.map(is_right, [1, 7, 30, 2] * 50))

    assert all(right)


def test_a_failed_run_is_an_error_and_harms_nothing(model: LoadedModel) -> None:
    a, b = _inputs(3)

    with pytest.raises(ModelRunError) as failed:
        model.run([a, np.ones((2, 5), np.float32)])
    product, _ = run(model, a, b)

    assert failed.value.wire
    np.testing.assert_array_equal(a * b, product)


def test_text_instead_of_numbers_is_an_error(model: LoadedModel) -> None:
    text = np.array([["x", "y", "z"]], object)

    with pytest.raises(ModelRunError):
        model.run([text, text])


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_every_type_of_redisai_goes_in_and_out(name: str, dtype: DType) -> None:
    """That includes text, of any script and of none; only PyTorch has no text."""
    given = ["a b", "größe", ""] if dtype.is_string else [1, 0, 100]
    x = np.array(given, dtype.numpy)

    if dtype.is_string and name == "TORCH":
        with pytest.raises(ModelRunError, match=r"^Unsupported code 7$"):
            passed(name, "float32", x)
        return
    answer = passed(name, dtype.numpy.name, x)

    assert (answer.dtype, answer.shape) == (dtype.numpy, (3, 1))
    assert answer.ravel().tolist() == x.tolist()


@pytest.mark.parametrize(
    ("lacking", "travels", "value"),
    [("float16", "float32", 1.5), ("uint32", "int64", 2**32 - 1), ("uint64", "int64", 2**62)],
)
def test_a_type_that_redisai_lacks_travels_in_the_next_larger_one(
    name: str, lacking: str, travels: str, value: float
) -> None:
    """The same rule holds for all, in and out. TorchScript doesn't say which type it takes, so its model casts."""
    answer = passed(name, lacking, np.array([value, 0], travels))

    assert answer.dtype == travels
    assert answer.ravel().tolist() == [value, 0]


@pytest.mark.parametrize("blob", [b"", b"not a model", b"\x00" * 100])
def test_bytes_that_are_no_model_are_refused(load: Callable[..., LoadedModel], blob: bytes) -> None:
    with pytest.raises(ModelLoadError) as refused:
        load(blob)

    assert refused.value.wire


def test_half_a_model_is_refused(load: Callable[..., LoadedModel], name: str) -> None:
    blob = product_and_sum(name).blob

    with pytest.raises(ModelLoadError):
        load(blob[: len(blob) // 2])


@pytest.mark.parametrize("device", ["GPU", "gpu:1"])
def test_a_gpu_is_refused_where_there_is_none(load: Callable[..., LoadedModel], name: str, device: str) -> None:
    if _has_gpu(name):
        pytest.skip("this machine has a GPU")

    with pytest.raises(DeviceUnavailable) as refused:
        load(device=device)

    assert "GPU" in refused.value.wire


@pytest.mark.parametrize("device", ["cpu", "CPU:1"])
def test_numbered_cpus_are_cpus(load: Callable[..., LoadedModel], device: str) -> None:
    a, b = _inputs(1)

    product, _ = run(load(device=device), a, b)

    np.testing.assert_array_equal(a * b, product)


def test_tells_its_version(model: LoadedModel, name: str) -> None:
    assert registry.loaded_versions()[name][0].isdigit()


def passed(name: str, kind: str, x: Array) -> Array:
    """Return the output of a model that returns its input of NumPy type `kind` as a column."""
    tiny = passing(name, kind)
    model = registry.backend(name).load(
        tiny.blob, "CPU", inputs=tiny.inputs, outputs=tiny.outputs, settings=BackendSettings()
    )
    (answer,) = model.run([x])
    assert answer is not None
    return answer


def run(model: LoadedModel, a: Array, b: Array) -> Outputs:
    """Run the model and return product and sum, in whichever order the converter put them."""
    outputs = zip(model.outputs, model.run([a, b]), strict=True)
    return [array for _, array in sorted(outputs, key=itemgetter(0))]


def _inputs(rows: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    return a, a[::-1] + 0.5


def _has_gpu(name: str) -> bool:
    if name == "ONNX":
        import onnxruntime

        return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if name == "TORCH":
        import torch

        return bool(torch.cuda.is_available())
    if name == "TF":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    return False
