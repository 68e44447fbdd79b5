"""PyTorch modules whose way through the code, or whose answer's shape, depends on the values of their input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class First(nn.Module):
    """The first output of a layer that has several."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


class Twice(nn.Module):
    """A layer of two inputs that gets the same one twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, x, x)[0]


class BranchOnValue(nn.Module):
    """Takes another way if any number of the batch is large."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.abs().max() > 50):
            return x / x.abs().max()
        return x


class BranchOnRows(nn.Module):
    """Takes another way if there is a single row."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] == 1:
            return x * 2
        return x


class LoopOnShape(nn.Module):
    """Adds up the columns one by one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x[:, 0])
        for index in range(x.shape[1]):
            total = total * 0.5 + x[:, index]
        return total.unsqueeze(1)


class LoopOnValue(nn.Module):
    """Halves the batch until it is small."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while bool(x.abs().max() > 2.0):
            x = x / 2
        return x


class WhereOnValue(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x.sqrt(), x**2)


class MeanOfRows(nn.Module):
    """An answer for a row that depends on the other rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True)


class TopK(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.topk(x, 3, dim=1).values


class SortedIndices(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.argsort(x, dim=1, stable=True)


class Rounded(nn.Module):
    """Rounds half to even, divides towards minus infinity, and takes remainders."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x) + torch.floor_divide(x, 0.7) + torch.remainder(x, 0.3)


class PositiveRows(nn.Module):
    """Drops rows, so that the answer has fewer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x.sum(1) > 0]


class Clamped(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, -1.0, 1.0) + torch.nan_to_num(x, nan=0.5, posinf=7.0, neginf=-7.0)


class Item(nn.Module):
    """Uses a number of the first row as a Python number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float(x[0, 0].item())


class Noise(nn.Module):
    """Answers otherwise every time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


class Counter(nn.Module):
    """Remembers how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.calls


class IntegerArithmetic(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x // 3 + x % 3


MODULES: dict[str, tuple[Callable[[], Any], tuple[int, ...], str]] = {
    "branch on a value": (BranchOnValue, (4,), "float32"),
    "branch on the number of rows": (BranchOnRows, (4,), "float32"),
    "clamp and nan_to_num": (Clamped, (4,), "float32"),
    "doubles": (nn.Tanh, (4,), "float64"),
    "integer arithmetic": (IntegerArithmetic, (4,), "int64"),
    "loop over columns": (LoopOnShape, (5,), "float32"),
    "loop until small": (LoopOnValue, (4,), "float32"),
    "mean over rows": (MeanOfRows, (4,), "float32"),
    "noise": (Noise, (4,), "float32"),
    "number taken out": (Item, (4,), "float32"),
    "rounding": (Rounded, (4,), "float32"),
    "rows dropped": (PositiveRows, (4,), "float32"),
    "sorting": (SortedIndices, (6,), "float32"),
    "state between calls": (Counter, (4,), "float32"),
    "top three": (TopK, (6,), "float32"),
    "where": (WhereOnValue, (4,), "float32"),
}
