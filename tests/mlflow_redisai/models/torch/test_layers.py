"""
Every layer of torch.nn that can be made without a model around it: equal to pyfunc, or refused in our words.

The example has two rows. One, seven and 64 rows of other numbers must be answered alike.
"""

from __future__ import annotations

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

nn = torch.nn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning:torch",  # torch deprecates TorchScript, the format of RedisAI's backend TORCH
        "ignore:`torch.jit:DeprecationWarning",
        "ignore::UserWarning:torch",  # layers warn about nested tensors, and about padding that costs a copy
        "ignore::FutureWarning",
    ),
]


class First(nn.Module):
    """The first of a layer's outputs."""

    def __init__(self, layer: Any, *, twice: int = 1) -> None:
        super().__init__()
        self.layer, self.twice = layer, twice

    def forward(self, x: Any) -> Any:
        return self.layer(*[x] * self.twice)[0]


class Both(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x, x)


TABLE, STEPS, IMAGE, VOLUME = (8,), (6, 8), (4, 8, 8), (2, 4, 4, 4)

# Layers by the shape of a row.
LAYERS: dict[tuple[int, ...], dict[str, Callable[[], Any]]] = {
    TABLE: {
        "Linear": lambda: nn.Linear(8, 3),
        "Identity": nn.Identity,
        "Bilinear": lambda: Both(nn.Bilinear(8, 8, 3)),
        "BatchNorm1d": lambda: nn.BatchNorm1d(8),
        "LayerNorm": lambda: nn.LayerNorm(8),
        "RMSNorm": lambda: nn.RMSNorm(8),
        "GroupNorm": lambda: nn.GroupNorm(2, 8),
        "Dropout": lambda: nn.Dropout(0.5),
        "AlphaDropout": lambda: nn.AlphaDropout(0.5),
        "Unflatten": lambda: nn.Unflatten(1, (2, 4)),
        "CosineSimilarity": lambda: Both(nn.CosineSimilarity()),
        "PairwiseDistance": lambda: Both(nn.PairwiseDistance()),
        "AdaptiveLogSoftmax": lambda: _predicting(nn.AdaptiveLogSoftmaxWithLoss(8, 12, [4])),
        **{
            name: getattr(nn, name)
            for name in (
                *("ELU", "Hardshrink", "Hardsigmoid", "Hardtanh", "Hardswish", "LeakyReLU", "LogSigmoid", "PReLU"),
                *("ReLU", "ReLU6", "RReLU", "SELU", "CELU", "GELU", "Sigmoid", "SiLU", "Mish", "Softplus"),
                *("Softshrink", "Softsign", "Tanh", "Tanhshrink", "Softmin", "Softmax", "LogSoftmax"),
            )
        },
        "GELU tanh": lambda: nn.GELU(approximate="tanh"),
        "Threshold": lambda: nn.Threshold(0.1, 20.0),
        "GLU": nn.GLU,
    },
    STEPS: {
        "RNN": lambda: First(nn.RNN(8, 5, batch_first=True)),
        "RNN relu": lambda: First(nn.RNN(8, 5, batch_first=True, nonlinearity="relu", bidirectional=True)),
        "LSTM": lambda: First(nn.LSTM(8, 5, batch_first=True)),
        "LSTM two": lambda: First(nn.LSTM(8, 5, num_layers=2, batch_first=True, bidirectional=True)),
        "LSTM projected": lambda: First(nn.LSTM(8, 5, batch_first=True, proj_size=3)),
        "GRU": lambda: First(nn.GRU(8, 5, batch_first=True)),
        "GRU two": lambda: First(nn.GRU(8, 5, num_layers=2, batch_first=True, bidirectional=True)),
        "MultiheadAttention": lambda: First(nn.MultiheadAttention(8, 2, batch_first=True), twice=3),
        "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        "TransformerEncoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
        "TransformerDecoderLayer": lambda: Both(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)),
        "Transformer": lambda: Both(nn.Transformer(8, 2, 1, 1, 16, batch_first=True)),
        "Conv1d": lambda: nn.Conv1d(6, 4, 3),
        "Conv1d circular": lambda: nn.Conv1d(6, 4, 3, padding=1, padding_mode="circular"),
        "ConvTranspose1d": lambda: nn.ConvTranspose1d(6, 4, 3, stride=2),
        "MaxPool1d": lambda: nn.MaxPool1d(2),
        "AvgPool1d": lambda: nn.AvgPool1d(2),
        "LPPool1d": lambda: nn.LPPool1d(2, 2),
        "AdaptiveAvgPool1d": lambda: nn.AdaptiveAvgPool1d(4),
        "AdaptiveMaxPool1d": lambda: nn.AdaptiveMaxPool1d(3),
        "InstanceNorm1d": lambda: nn.InstanceNorm1d(6, affine=True),
        "LocalResponseNorm": lambda: nn.LocalResponseNorm(2),
        "ReflectionPad1d": lambda: nn.ReflectionPad1d(2),
        "CircularPad1d": lambda: nn.CircularPad1d(2),
    },
    IMAGE: {
        "Conv2d": lambda: nn.Conv2d(4, 3, 3),
        "Conv2d same": lambda: nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=2),
        "Conv2d reflect": lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"),
        "ConvTranspose2d": lambda: nn.ConvTranspose2d(4, 3, 3, stride=2, output_padding=1, padding=1),
        "MaxPool2d": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
        "AvgPool2d": lambda: nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        "AvgPool2d ceil": lambda: nn.AvgPool2d(3, 2, ceil_mode=True),
        "LPPool2d": lambda: nn.LPPool2d(2, 2),
        "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d(1),
        "AdaptiveAvgPool2d odd": lambda: nn.AdaptiveAvgPool2d((3, 5)),
        "AdaptiveMaxPool2d": lambda: nn.AdaptiveMaxPool2d(2),
        "BatchNorm2d": lambda: nn.BatchNorm2d(4),
        "BatchNorm2d untracked": lambda: nn.BatchNorm2d(4, track_running_stats=False),
        "InstanceNorm2d": lambda: nn.InstanceNorm2d(4, affine=True),
        "GroupNorm": lambda: nn.GroupNorm(2, 4),
        "Upsample nearest": lambda: nn.Upsample(scale_factor=2),
        "Upsample bilinear": lambda: nn.Upsample(scale_factor=1.5, mode="bilinear"),
        "Upsample corners": lambda: nn.Upsample(size=(5, 11), mode="bilinear", align_corners=True),
        "Upsample bicubic": lambda: nn.Upsample(scale_factor=2, mode="bicubic"),
        "PixelShuffle": lambda: nn.PixelShuffle(2),
        "PixelUnshuffle": lambda: nn.PixelUnshuffle(2),
        "ChannelShuffle": lambda: nn.ChannelShuffle(2),
        "ZeroPad2d": lambda: nn.ZeroPad2d((1, 2, 0, 1)),
        "ConstantPad2d": lambda: nn.ConstantPad2d(1, 3.5),
        "ReflectionPad2d": lambda: nn.ReflectionPad2d(2),
        "ReplicationPad2d": lambda: nn.ReplicationPad2d(2),
        "CircularPad2d": lambda: nn.CircularPad2d(2),
        "Softmax2d": nn.Softmax2d,
        "Flatten": nn.Flatten,
        "Fold": lambda: nn.Sequential(nn.Unfold(2, stride=2), nn.Fold((8, 8), 2, stride=2)),
        "Unfold": lambda: nn.Unfold(3, padding=1),
        "Dropout2d": nn.Dropout2d,
        "FractionalMaxPool2d": lambda: nn.FractionalMaxPool2d(2, output_size=5),
    },
    VOLUME: {
        "Conv3d": lambda: nn.Conv3d(2, 3, 3),
        "ConvTranspose3d": lambda: nn.ConvTranspose3d(2, 3, 2),
        "MaxPool3d": lambda: nn.MaxPool3d(2),
        "AvgPool3d": lambda: nn.AvgPool3d(2),
        "AdaptiveAvgPool3d": lambda: nn.AdaptiveAvgPool3d(2),
        "BatchNorm3d": lambda: nn.BatchNorm3d(2),
        "InstanceNorm3d": lambda: nn.InstanceNorm3d(2),
        "Upsample trilinear": lambda: nn.Upsample(scale_factor=2, mode="trilinear"),
        "ReplicationPad3d": lambda: nn.ReplicationPad3d(1),
    },
}

# What is refused, with a part of the reason. All others must be deployed.
REFUSED: dict[str, str] = {
    "FractionalMaxPool2d": "answers the same rows differently each time",
}


class _Predicting(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer.log_prob(x)


def _predicting(layer: Any) -> Any:
    return _Predicting(layer)


def _learned(layer: Any) -> Any:
    """Give batch normalisations the moments of some rows, and return the layer in eval mode."""
    for part in layer.modules():
        if getattr(part, "running_mean", None) is not None:
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.5, 2)
    return layer.eval()


@pytest.mark.parametrize(("shape", "name"), [(shape, name) for shape, layers in LAYERS.items() for name in layers])
def test_a_layer_answers_as_pyfunc_or_is_refused(shape: tuple[int, ...], name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    random = np.random.default_rng(1)
    example = random.normal(size=(2, *shape)).astype(np.float32)
    path = save_torch(
        tmp_path / "m",
        _learned(LAYERS[shape][name]()),
        signature=ModelSignature(Schema([spec("float32", (-1, *shape))])),
        input_example=example,
        serialization_format="pickle",
    )

    if name in REFUSED:
        with pytest.raises(NotConvertible, match=REFUSED[name]):
            deploy_torch(path)
        return
    deployed = deploy_torch(path)

    for rows in (1, 7, 64):
        for size in (0.1, 1.0, 10.0):
            deployed.assert_equals_pyfunc((random.normal(size=(rows, *shape)) * size).astype(np.float32))
