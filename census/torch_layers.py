"""PyTorch: layers of torch.nn with random weights, and modules whose way through the code depends on the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from census import tensors
from census.rows import CannotTrain, Family, Row, Trained

_FLAT, _IMAGE, _STEPS, _WORDS = (8,), (3, 8, 8), (6, 8), (6,)

_ACTIVATIONS = (
    *("CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid"),
    *("Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign"),
    *("Tanh", "Tanhshrink"),
)


def _layers() -> dict[str, tuple[Callable[[], Any], tuple[int, ...], str]]:
    """Return for each name a function that makes the module, the shape of a row, and its type."""
    from torch import nn

    from census import torch_flow

    def plain(kind: str, shape: tuple[int, ...], *arguments: Any, **options: Any) -> Any:
        return (lambda: getattr(nn, kind)(*arguments, **options)), shape, "float32"

    found = {name: plain(name, _FLAT) for name in _ACTIVATIONS}
    found |= {
        "AdaptiveAvgPool2d": plain("AdaptiveAvgPool2d", _IMAGE, (2, 2)),
        "AdaptiveMaxPool2d": plain("AdaptiveMaxPool2d", _IMAGE, (2, 2)),
        "AvgPool2d": plain("AvgPool2d", _IMAGE, 2),
        "AvgPool2d ceil": plain("AvgPool2d", _IMAGE, 3, stride=2, ceil_mode=True),
        "BatchNorm1d": plain("BatchNorm1d", _FLAT, 8),
        "BatchNorm1d without statistics": plain("BatchNorm1d", _FLAT, 8, track_running_stats=False),
        "BatchNorm2d": plain("BatchNorm2d", _IMAGE, 3),
        "Bilinear": ((lambda: torch_flow.Twice(nn.Bilinear(8, 8, 2))), _FLAT, "float32"),
        "ChannelShuffle": plain("ChannelShuffle", _IMAGE, 3),
        "Conv1d": plain("Conv1d", _STEPS, 6, 4, 3),
        "Conv2d": plain("Conv2d", _IMAGE, 3, 4, 3),
        "Conv2d circular": plain("Conv2d", _IMAGE, 3, 4, 3, padding=1, padding_mode="circular"),
        "Conv2d grouped": plain("Conv2d", _IMAGE, 3, 6, 3, groups=3, dilation=2),
        "Conv2d reflect": plain("Conv2d", _IMAGE, 3, 4, 3, padding=1, padding_mode="reflect"),
        "ConvTranspose2d": plain("ConvTranspose2d", _IMAGE, 3, 4, 3, stride=2, output_padding=1),
        "Dropout": plain("Dropout", _FLAT, 0.5),
        "Embedding": ((lambda: nn.Embedding(10, 4)), _WORDS, "int64"),
        "Embedding padded": ((lambda: nn.Embedding(10, 4, padding_idx=0)), _WORDS, "int64"),
        "EmbeddingBag": ((lambda: nn.EmbeddingBag(10, 4, mode="max")), _WORDS, "int64"),
        "Flatten": plain("Flatten", _IMAGE),
        "Fold": plain("Fold", (12, 9), (4, 4), 2),
        "GRU": ((lambda: torch_flow.First(nn.GRU(8, 5, batch_first=True))), _STEPS, "float32"),
        "GroupNorm": plain("GroupNorm", _IMAGE, 3, 3),
        "Identity": plain("Identity", _FLAT),
        "InstanceNorm2d": plain("InstanceNorm2d", _IMAGE, 3),
        "LPPool2d": plain("LPPool2d", _IMAGE, 2, 2),
        "LSTM": ((lambda: torch_flow.First(nn.LSTM(8, 5, batch_first=True))), _STEPS, "float32"),
        "LSTM both ways": (
            (lambda: torch_flow.First(nn.LSTM(8, 5, 2, batch_first=True, bidirectional=True))),
            _STEPS,
            "float32",
        ),
        "LayerNorm": plain("LayerNorm", _FLAT, 8),
        "Linear": plain("Linear", _FLAT, 8, 3),
        "LocalResponseNorm": plain("LocalResponseNorm", _IMAGE, 2),
        "LogSoftmax": plain("LogSoftmax", _FLAT, dim=1),
        "MaxPool2d": plain("MaxPool2d", _IMAGE, 2),
        "MaxPool2d ceil": plain("MaxPool2d", _IMAGE, 3, stride=2, ceil_mode=True),
        "MultiheadAttention": (torch_flow.Attention, _STEPS, "float32"),
        "PixelShuffle": plain("PixelShuffle", (4, 4, 4), 2),
        "RMSNorm": plain("RMSNorm", _FLAT, 8),
        "RNN": ((lambda: torch_flow.First(nn.RNN(8, 5, batch_first=True))), _STEPS, "float32"),
        "ReflectionPad2d": plain("ReflectionPad2d", _IMAGE, 2),
        "ReplicationPad2d": plain("ReplicationPad2d", _IMAGE, 2),
        "Softmax": plain("Softmax", _FLAT, dim=1),
        "Softmax over rows": plain("Softmax", _FLAT, dim=0),
        "Softmin": plain("Softmin", _FLAT, dim=1),
        "Threshold": plain("Threshold", _FLAT, 0.1, 20.0),
        "TransformerEncoderLayer": plain("TransformerEncoderLayer", _STEPS, 8, 2, 16, batch_first=True),
        "Unfold": plain("Unfold", _IMAGE, 2),
        "Upsample bilinear": plain("Upsample", _IMAGE, scale_factor=2, mode="bilinear"),
        "Upsample nearest": plain("Upsample", _IMAGE, scale_factor=2),
        "ZeroPad2d": plain("ZeroPad2d", _IMAGE, 1),
    }
    return found | {f"flow: {name}": (kind, shape, dtype) for name, (kind, shape, dtype) in torch_flow.MODULES.items()}


def rows() -> Iterator[Row]:
    """Yield a row for every layer in every format of MLflow's."""
    for name in _layers():
        for form in ("pickle", "pt2", "scripted"):
            yield Row("pytorch", name, within=form, data="random")


def train(row: Row, seed: int) -> Trained:
    """Return the layer with random weights."""
    module, shape, dtype, random = _module(row.subject, seed)
    rows = tensors.example(shape, dtype, random)
    saved, form = _in_form(module, row.within, rows)

    def save(path: Path, method: str) -> None:
        import mlflow.pytorch
        from mlflow.models import infer_signature

        mlflow.pytorch.save_model(
            saved, str(path), signature=infer_signature(rows), input_example=rows, pip_requirements=[], **form
        )

    return Trained("pytorch", save, tensors.questions(shape, dtype, random))


@lru_cache(maxsize=1)
def _module(name: str, seed: int) -> tuple[Any, tuple[int, ...], str, np.random.Generator]:
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    make, shape, dtype = _layers()[name]
    return make().eval(), shape, dtype, np.random.default_rng(seed)


def _in_form(module: Any, form: str, rows: Any) -> tuple[Any, dict[str, Any]]:
    import torch

    if form == "pt2":
        return module, {"serialization_format": "pt2"}
    if form == "pickle":
        return module, {"serialization_format": "pickle"}
    try:
        return torch.jit.script(module), {"serialization_format": "pickle"}
    except Exception as error:
        raise CannotTrain(f"torch.jit can't script it: {type(error).__name__}") from error


FAMILY = Family("pytorch", rows, train)
