"""What only the TORCH backend does: TorchScript's signatures, types and errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from redisai_engine.backends import registry  # noqa: E402
from redisai_engine.backends.base import Array, BackendSettings, LoadedModel  # noqa: E402
from redisai_engine.errors import ModelLoadError, ModelRunError  # noqa: E402
from support.tiny_models import torchscript  # noqa: E402


class Add(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class Product(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b


class AddInPlace(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a.add_(b)


class ListOut(torch.nn.Module):
    def forward(self, a: torch.Tensor) -> list[torch.Tensor]:
        return [a, a]


class ListIn(torch.nn.Module):
    def forward(self, xs: list[torch.Tensor]) -> torch.Tensor:
        return xs[0]


class Types(torch.nn.Module):
    def forward(self, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        return a.half(), a.to(torch.bfloat16), a > 1, a.sum()


class Complex(torch.nn.Module):
    def forward(self, a: torch.Tensor) -> torch.Tensor:
        return torch.complex(a, a)


class Drops(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        return self.drop(a)


class Loops(torch.nn.Module):
    def forward(self, a: torch.Tensor) -> torch.Tensor:
        total = a
        for _ in range(int(a.sum())):
            total = total + 1
        return total


def load(module: torch.nn.Module) -> LoadedModel:
    blob = torchscript(module)
    return registry.backend("TORCH").load(blob, "CPU", inputs=(), outputs=(), settings=BackendSettings())


def only(arrays: list[Array | None]) -> Array:
    (array,) = arrays
    assert array is not None
    return array


@pytest.fixture(scope="module")
def add() -> Iterator[LoadedModel]:
    return load(Add())


def test_inputs_are_forward_s_arguments_and_outputs_have_no_names(add: LoadedModel) -> None:
    assert (add.inputs, add.outputs) == (("a", "b"), ("",))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2], "i8", ([2, 4], "int64")),
        ([0.5, 0.25], "f8", ([1.0, 0.5], "float64")),
        ([250, 10], "u1", ([244, 20], "uint8")),
    ],
)
def test_elements_keep_their_type(add: LoadedModel, a: list[float], b: str, expected: tuple[list[float], str]) -> None:
    x = np.array(a, b)

    answer = only(add.run([x, x]))

    assert (answer.tolist(), answer.dtype.name) == expected


def test_mixed_types_follow_torch_s_rules(add: LoadedModel) -> None:
    answer = only(add.run([np.array([1, 2]), np.array([0.5, 0.25])]))

    assert (answer.tolist(), answer.dtype.name) == ([1.5, 2.25], "float64")


def test_types_that_redisai_lacks_are_widened() -> None:
    """RedisAI crashes on half precision."""
    outputs = load(Types()).run([np.array([1.5, 0.5], np.float32)])

    assert [array.dtype.name for array in outputs if array is not None] == ["float32", "float32", "bool", "float32"]
    assert outputs[3] is not None
    assert outputs[3].shape == ()


def test_complex_numbers_are_an_error() -> None:
    with pytest.raises(ModelRunError) as failed:
        load(Complex()).run([np.ones(2, np.float32)])

    assert failed.value.wire == "ERR output 0 has elements of type complex64, which no tensor type can hold"


def test_a_model_that_writes_into_its_input_gets_a_copy() -> None:
    """The bytes may be shared with a cache, and with other requests."""
    a = np.frombuffer(np.ones(2, np.float32).tobytes(), np.float32)

    answer = only(load(AddInPlace()).run([a, a]))

    assert (answer.tolist(), a.tolist()) == ([2.0, 2.0], [1.0, 1.0])


def test_text_gets_redisai_s_words(add: LoadedModel) -> None:
    text = np.array(["x"], object)

    with pytest.raises(ModelRunError, match=r"^Unsupported code 7$"):
        add.run([text, text])


def test_a_list_of_outputs_is_refused_in_redisai_s_words() -> None:
    with pytest.raises(ModelLoadError) as refused:
        load(ListOut())

    assert refused.value.wire == "Erorr while trying to retrive model outputs number: std::exception"


def test_a_list_of_inputs_loads_but_cannot_be_given() -> None:
    model = load(ListIn())

    with pytest.raises(ModelRunError):
        model.run([np.ones(2, np.float32)])

    assert model.inputs == ("xs",)


def test_torch_s_own_text_is_the_error(add: LoadedModel) -> None:
    with pytest.raises(ModelRunError) as failed:
        add.run([np.ones(2, np.float32), np.ones(3, np.float32)])

    assert failed.value.wire.startswith("The following operation failed in the TorchScript interpreter.")


def test_a_model_saved_while_training_serves_as_evaluated() -> None:
    ones = np.ones(100, np.float32)

    assert only(load(Drops()).run([ones])).tolist() == ones.tolist()


def test_a_model_with_a_loop_is_not_steady(add: LoadedModel) -> None:
    assert add.steady
    assert not load(Loops()).steady


class ReadsFiles(torch.nn.Module):
    def forward(self, a: torch.Tensor) -> torch.Tensor:
        return a + torch.from_file("secret", size=1)


def test_a_model_that_reaches_for_files_is_refused() -> None:
    """TorchScript has operators that read and write files. A stored model must not get at the engine's."""
    blob = torchscript(ReadsFiles())

    with pytest.raises(ModelLoadError, match=r"^ERR the model calls aten::from_file, which could access"):
        registry.backend("TORCH").load(blob, "CPU", inputs=(), outputs=(), settings=BackendSettings())


ONE_THREAD = """
import sys, threading, time
import numpy as np
from redisai_engine.backends import registry
from redisai_engine.backends.base import BackendSettings

def load():
    global model
    blob = sys.stdin.buffer.read()
    model = registry.backend("TORCH").load(blob, "CPU", inputs=(), outputs=(), settings=BackendSettings(1, 1))

loader = threading.Thread(target=load)
loader.start()
loader.join()
arrays = [np.ones((64, 784), np.float32), np.ones((784, 512), np.float32)]
model.run(arrays)
all_threads, this_thread = time.process_time(), time.thread_time()
for _ in range(200):
    model.run(arrays)
print((time.process_time() - all_threads) / (time.thread_time() - this_thread))
"""


@pytest.mark.slow
def test_a_run_in_another_thread_than_the_load_takes_one_core() -> None:
    """PyTorch keeps the number of threads per thread; MKL would use all cores here."""
    module = torchscript(Product())

    ran = subprocess.run([sys.executable, "-c", ONE_THREAD], input=module, capture_output=True, timeout=120)

    assert ran.returncode == 0, ran.stderr.decode()
    assert float(ran.stdout) < 1.2  # the process's CPU time per second of the thread's own
