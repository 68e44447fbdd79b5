"""A module whose Python code works on the numbers in its tensors answers as pyfunc for all of them, or is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema

from mlflow_redisai.errors import NotConvertible

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "mlflow-redisai[torch]"')

from support.torch_models import deploy_torch, save_torch, spec  # noqa: E402  # it imports torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning:torch",  # torch deprecates TorchScript, the format of RedisAI's backend TORCH
        "ignore:`torch.jit:DeprecationWarning",
        "ignore::FutureWarning",  # torch.export deprecates parts of itself
    ),
]

ROWS = (np.arange(8, dtype=np.float32).reshape(2, 4) + 1) / 8


class Module(torch.nn.Module):
    """A module without source of its own, as one from a notebook: torch can't script it."""

    def __init__(self, function: Callable[[Any], Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Any) -> Any:
        return self.function(x)


class Counting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x + 0 * self.calls


class Remembering(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = 0.0

    def forward(self, x: Any) -> Any:
        before, self.last = self.last, self.last + 1
        return x + before


def deploy(path: Path, module: Any, rows: Any = ROWS, **options: Any) -> Any:
    signature = ModelSignature(Schema([spec(str(rows.dtype), (-1, *rows.shape[1:]))]))
    return deploy_torch(
        save_torch(path / "m", module, signature=signature, input_example=rows, serialization_format="pickle"),
        **options,
    )


def loop(x: Any) -> Any:
    for number in range(int(x.abs().max())):
        x = x + number
    return x


def guarded(x: Any) -> Any:
    if bool((x > 5).any()):
        raise ValueError("too large")
    return x * 2


READING: dict[str, Callable[[Any], Any]] = {
    "a branch": lambda x: x / x.max() if x.max() > 50 else x,
    "a branch on the sign": lambda x: x if (x > 0).all() else -x,
    "a branch that changes nothing": lambda x: torch.relu(x) if (x < 0).any() else x,
    "a branch far away": lambda x: x if x.max() < 1e6 else -x,
    "a whole number": lambda x: x * int(x.max() * 10),
    "a loop": loop,
    "numpy": lambda x: x + torch.from_numpy(np.sqrt(np.abs(x.numpy()))),
    "a list": lambda x: x + torch.tensor(x.tolist()),
    "math": lambda x: x * math.sqrt(x.abs().sum()),
    "text": lambda x: x * float(f"{x.max():.2f}"),
    "membership": lambda x: x if 0.0 in x else -x,
    "a column by number": lambda x: x[:, int(x[0].argmax())],
    "equal": lambda x: x if torch.equal(x, x.abs()) else -x,
    "allclose": lambda x: x if torch.allclose(x, x.abs()) else 2 * x,
    "is_nonzero": lambda x: x if torch.is_nonzero(x.max()) else x + 1,
    "an error": guarded,
}


@pytest.mark.parametrize("kind", READING)
def test_numbers_in_python_are_refused_with_their_line(kind: str, tmp_path: Path) -> None:
    module = Module(READING[kind])
    with pytest.raises(NotConvertible) as refused:
        deploy(tmp_path, module)

    message = str(refused.value)
    assert "works on its tensors' numbers in Python (test_numbers_in_python.py, line " in message
    assert "use torch's operators there, such as torch.where, or log torch.jit.script(module)" in message


def test_what_torch_can_export_with_its_numbers_is_deployed(tmp_path: Path) -> None:
    """torch.export keeps item() as an operator, where a trace makes a constant of it."""
    deployed = deploy(tmp_path, Module(lambda x: x * x.max().item()))

    for rows in (ROWS, ROWS * 100, -ROWS, ROWS[:1]):
        deployed.assert_equals_pyfunc(rows)


class Limited(torch.nn.Module):
    """A module with source, which torch can script."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.max() > 50):
            return x / x.max()
        return x


def test_a_branch_with_source_is_scripted(tmp_path: Path) -> None:
    deployed = deploy(tmp_path, Limited())

    for rows in (ROWS, ROWS * 1000, -ROWS):
        deployed.assert_equals_pyfunc(rows)


LENGTHS: dict[str, Callable[[Any], Any]] = {
    "len": lambda x: x * len(x),
    "a loop over rows": lambda x: torch.stack([row * number for number, row in enumerate(x)]),
    "a float": lambda x: x * float(x.shape[0]),
    "many rows": lambda x: x if x.shape[0] < 1000 else -x,
}


@pytest.mark.parametrize("kind", LENGTHS)
def test_lengths_in_python_are_refused_with_their_line(kind: str, tmp_path: Path) -> None:
    with pytest.raises(
        NotConvertible, match=r"works on the lengths of its tensors in Python \(test_numbers_in|is longer"
    ):
        deploy(tmp_path, Module(LENGTHS[kind]))


RANDOM: dict[str, Callable[[Any], Any]] = {
    "dropout": lambda x: torch.nn.functional.dropout(x, 0.5, training=True),
    "noise": lambda x: x + torch.randn_like(x),
    "a permutation": lambda x: x[:, torch.randperm(4)] if x.shape[1] == 4 else x,
}


@pytest.mark.parametrize("kind", RANDOM)
def test_random_answers_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match="answers the same rows differently each time"):
        deploy(tmp_path, Module(RANDOM[kind]))


def test_state_in_a_buffer_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match="changes its own 'calls' when it is called"):
        deploy(tmp_path, Counting())


def test_state_in_an_attribute_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match="answers the same rows differently each time"):
        deploy(tmp_path, Remembering())


IDS = np.array([[1, 2], [3, 0]])


class Indexed(torch.nn.Module):
    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(0, 1, 20).reshape(5, 4))
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(self.weight, x)


INDEXES: dict[str, Any] = {
    "embedding": torch.nn.Embedding(5, 3),
    "embedding with padding": torch.nn.Embedding(5, 3, padding_idx=0),
    "bag": torch.nn.EmbeddingBag(5, 3),
    "index_select": Indexed(lambda w, x: w.index_select(0, x.reshape(-1)).reshape(x.shape[0], -1)),
    "gather": Indexed(lambda w, x: w[:1].expand(x.shape[0], -1).gather(1, x)),
    "index": Indexed(lambda w, x: w[x]),
    "one_hot": Indexed(lambda w, x: torch.nn.functional.one_hot(x, 5).float() @ w),
}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (kind, dtype)
        for kind in INDEXES
        for dtype in ("int64", "int32")
        # There torch takes only int64.
        if dtype == "int64" or kind not in {"gather", "one_hot"}
    ],
)
def test_an_index_out_of_range_is_an_error_where_it_is_one_in_torch(kind: str, dtype: str, tmp_path: Path) -> None:
    ids = IDS.astype(dtype)
    deployed = deploy(tmp_path, INDEXES[kind], ids)

    for last in (0, 4, -1, -5, 5, 100, 100_000):
        rows = ids.copy()
        rows[-1, -1] = last
        try:
            deployed.expected(rows)
        except Exception:
            with pytest.raises(Exception, match=r"accepts only numbers from|out of data bounds"):
                deployed.predict(rows)
        else:
            deployed.assert_equals_pyfunc(rows)
