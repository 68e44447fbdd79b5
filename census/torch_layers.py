"""PyTorch: layers of torch.nn with random weights, and modules whose way through the code depends on the input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Layer:
    """How a layer is made: its class in torch.nn or `torch_flow`, arguments, what stands around it, and its rows."""

    kind: str
    shape: tuple[int, ...]
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    around: str = ""
    dtype: str = "float32"


def _layer(kind: str, shape: tuple[int, ...], *arguments: Any, **options: Any) -> Layer:
    return Layer(kind, shape, arguments, options)


_BATCHED = {"batch_first": True}
_LAYERS: dict[str, Layer] = {
    **{name: Layer(name, _FLAT) for name in _ACTIVATIONS},
    "AdaptiveAvgPool2d": _layer("AdaptiveAvgPool2d", _IMAGE, (2, 2)),
    "AdaptiveMaxPool2d": _layer("AdaptiveMaxPool2d", _IMAGE, (2, 2)),
    "AvgPool2d": _layer("AvgPool2d", _IMAGE, 2),
    "AvgPool2d ceil": _layer("AvgPool2d", _IMAGE, 3, stride=2, ceil_mode=True),
    "BatchNorm1d": _layer("BatchNorm1d", _FLAT, 8),
    "BatchNorm1d without statistics": _layer("BatchNorm1d", _FLAT, 8, track_running_stats=False),
    "BatchNorm2d": _layer("BatchNorm2d", _IMAGE, 3),
    "Bilinear": Layer("Bilinear", _FLAT, (8, 8, 2), around="Twice"),
    "ChannelShuffle": _layer("ChannelShuffle", _IMAGE, 3),
    "Conv1d": _layer("Conv1d", _STEPS, 6, 4, 3),
    "Conv2d": _layer("Conv2d", _IMAGE, 3, 4, 3),
    "Conv2d circular": _layer("Conv2d", _IMAGE, 3, 4, 3, padding=1, padding_mode="circular"),
    "Conv2d grouped": _layer("Conv2d", _IMAGE, 3, 6, 3, groups=3, dilation=2),
    "Conv2d reflect": _layer("Conv2d", _IMAGE, 3, 4, 3, padding=1, padding_mode="reflect"),
    "ConvTranspose2d": _layer("ConvTranspose2d", _IMAGE, 3, 4, 3, stride=2, output_padding=1),
    "Dropout": _layer("Dropout", _FLAT, 0.5),
    "Embedding": Layer("Embedding", _WORDS, (10, 4), dtype="int64"),
    "Embedding padded": Layer("Embedding", _WORDS, (10, 4), {"padding_idx": 0}, dtype="int64"),
    "EmbeddingBag": Layer("EmbeddingBag", _WORDS, (10, 4), {"mode": "max"}, dtype="int64"),
    "Flatten": _layer("Flatten", _IMAGE),
    "Fold": _layer("Fold", (12, 9), (4, 4), 2),
    "GRU": Layer("GRU", _STEPS, (8, 5), _BATCHED, around="First"),
    "GroupNorm": _layer("GroupNorm", _IMAGE, 3, 3),
    "Identity": _layer("Identity", _FLAT),
    "InstanceNorm2d": _layer("InstanceNorm2d", _IMAGE, 3),
    "LPPool2d": _layer("LPPool2d", _IMAGE, 2, 2),
    "LSTM": Layer("LSTM", _STEPS, (8, 5), _BATCHED, around="First"),
    "LSTM both ways": Layer("LSTM", _STEPS, (8, 5, 2), {**_BATCHED, "bidirectional": True}, around="First"),
    "LayerNorm": _layer("LayerNorm", _FLAT, 8),
    "Linear": _layer("Linear", _FLAT, 8, 3),
    "LocalResponseNorm": _layer("LocalResponseNorm", _IMAGE, 2),
    "LogSoftmax": _layer("LogSoftmax", _FLAT, dim=1),
    "MaxPool2d": _layer("MaxPool2d", _IMAGE, 2),
    "MaxPool2d ceil": _layer("MaxPool2d", _IMAGE, 3, stride=2, ceil_mode=True),
    "MultiheadAttention": _layer("Attention", _STEPS),
    "PixelShuffle": _layer("PixelShuffle", (4, 4, 4), 2),
    "RMSNorm": _layer("RMSNorm", _FLAT, 8),
    "RNN": Layer("RNN", _STEPS, (8, 5), _BATCHED, around="First"),
    "ReflectionPad2d": _layer("ReflectionPad2d", _IMAGE, 2),
    "ReplicationPad2d": _layer("ReplicationPad2d", _IMAGE, 2),
    "Softmax": _layer("Softmax", _FLAT, dim=1),
    "Softmax over rows": _layer("Softmax", _FLAT, dim=0),
    "Softmin": _layer("Softmin", _FLAT, dim=1),
    "Tanh in doubles": Layer("Tanh", _FLAT, dtype="float64"),
    "Threshold": _layer("Threshold", _FLAT, 0.1, 20.0),
    "TransformerEncoderLayer": _layer("TransformerEncoderLayer", _STEPS, 8, 2, 16, batch_first=True),
    "Unfold": _layer("Unfold", _IMAGE, 2),
    "Upsample bilinear": _layer("Upsample", _IMAGE, scale_factor=2, mode="bilinear"),
    "Upsample nearest": _layer("Upsample", _IMAGE, scale_factor=2),
    "ZeroPad2d": _layer("ZeroPad2d", _IMAGE, 1),
    # Modules whose way through the code depends on the values.
    "branch on a value": Layer("BranchOnValue", (4,)),
    "branch on the number of rows": Layer("BranchOnRows", (4,)),
    "clamp and nan_to_num": Layer("Clamped", (4,)),
    "integer arithmetic": Layer("IntegerArithmetic", (4,), dtype="int64"),
    "loop over columns": Layer("LoopOnShape", (5,)),
    "loop until small": Layer("LoopOnValue", (4,)),
    "mean over rows": Layer("MeanOfRows", (4,)),
    "noise": Layer("Noise", (4,)),
    "number taken out": Layer("Item", (4,)),
    "rounding": Layer("Rounded", (4,)),
    "rows dropped": Layer("PositiveRows", (4,)),
    "sorting": Layer("SortedIndices", (6,)),
    "state between calls": Layer("Counter", (4,)),
    "top three": Layer("TopK", (6,)),
    "where": Layer("WhereOnValue", (4,)),
}


def rows() -> Iterator[Row]:
    """Yield a row for every layer in every format of MLflow's."""
    for name in _LAYERS:
        for form in ("pickle", "pt2", "scripted"):
            yield Row("pytorch", name, within=form, data="random")


def train(row: Row, seed: int) -> Trained:
    """Return the layer with random weights."""
    layer = _LAYERS[row.subject]
    random = np.random.default_rng(seed)
    rows = tensors.example(layer.shape, layer.dtype, random)
    saved, form = _in_form(_module(layer, seed), row.within)

    def save(path: Path, method: str) -> None:
        import mlflow.pytorch
        from mlflow.models import infer_signature

        mlflow.pytorch.save_model(
            saved, str(path), signature=infer_signature(rows), input_example=rows, pip_requirements=[], **form
        )

    return Trained("pytorch", save, tensors.questions(layer.shape, layer.dtype, random))


def _module(layer: Layer, seed: int) -> Any:
    import torch

    from census import torch_flow

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    kind = getattr(torch_flow, layer.kind, None) or getattr(torch.nn, layer.kind)
    made = kind(*layer.arguments, **layer.options)
    return (getattr(torch_flow, layer.around)(made) if layer.around else made).eval()


def _in_form(module: Any, form: str) -> tuple[Any, dict[str, Any]]:
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
