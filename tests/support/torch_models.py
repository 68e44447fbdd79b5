"""
Small PyTorch models, trained in seconds on data sets of scikit-learn, and saved with MLflow.

Importing this module needs torch: its classes are at the top level, as those of pickled models must be.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema, TensorSpec
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from mlflow_redisai.deploy.choice import choose_flavor, convert
from mlflow_redisai.models.loading import open_model
from mlflow_redisai.models.torch.export import runner
from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.codec.mapping import Mapping
from support.local_runs import Deployed

Array = np.ndarray[Any, np.dtype[Any]]


# -- data -----------------------------------------------------------------------------------------


def digits() -> tuple[Array, Array]:
    """Return 1797 images of 8 x 8 pixels with one channel, and their digits."""
    data = load_digits()
    return (data.images[:, None] / 16).astype(np.float32), data.target


def cancer() -> tuple[Any, Array]:
    """Return 569 rows of 30 named columns, and their classes."""
    data = load_breast_cancer(as_frame=True)
    return data.data, data.target.to_numpy()


def wine() -> tuple[Any, Array]:
    data = load_wine(as_frame=True)
    return data.data, data.target.to_numpy()


def tokens() -> tuple[Array, Array]:
    """Return each image as 16 words of a vocabulary of 32, the brightness of 2 x 2 pixels, and the digits."""
    images, target = digits()
    words = images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16) * 31
    return words.astype(np.int64), target


# -- modules --------------------------------------------------------------------------------------


class Scaled(torch.nn.Module):
    """Layers for the columns of a table, after a scaler fitted to the training rows."""

    def __init__(self, rows: Any, classes: int) -> None:
        super().__init__()
        values = np.asarray(rows, np.float32)
        self.register_buffer("mean", torch.from_numpy(values.mean(0)))
        self.register_buffer("scale", torch.from_numpy(values.std(0)))
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(values.shape[1], 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.layers((x - self.mean) / self.scale), dim=1)


class Images(torch.nn.Module):
    """A convolution, a batch normalisation, and a view that uses the number of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 8, 3)
        self.normalisation = torch.nn.BatchNorm2d(8)
        self.last = torch.nn.Linear(8 * 9, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.gelu(self.normalisation(self.convolution(image)))
        x = torch.nn.functional.max_pool2d(x, 2)
        return self.last(x.view(image.shape[0], -1))


class Words(torch.nn.Module):
    """An embedding and attention with a mask. Both inputs have open lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(32, 16)
        self.attention = torch.nn.MultiheadAttention(16, 2, batch_first=True)
        self.last = torch.nn.Linear(16, 10)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.embedding(ids)
        x, _ = self.attention(x, x, x, key_padding_mask=mask == 0, need_weights=False)
        weights = mask.to(x.dtype).unsqueeze(-1)
        pooled = (x * weights).sum(1) / weights.sum(1)
        logits = self.last(pooled)
        return {"logits": logits, "label": logits.argmax(1)}


class Recurrent(torch.nn.Module):
    """An LSTM over words that returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(32, 8)
        self.lstm = torch.nn.LSTM(8, 16, batch_first=True)
        self.last = torch.nn.Linear(16, 10)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        steps, _ = self.lstm(self.embedding(ids))
        return self.last(steps[:, -1]), steps.mean(1)


class Doubting(torch.nn.Module):
    """A module that branches on the sum of its input, which a trace can't keep."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer = self.inner(x)
        if bool(x.sum() > 30000.0):
            answer = 1.0 - answer
        return answer


class AcrossRows(torch.nn.Module):
    """A module that compares each row with the mean of all rows of the call."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer = self.inner(x)
        return answer - answer.mean(0)


class Spectrum(torch.nn.Module):
    """A module with an operator that ONNX opset 15 lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(33, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(torch.fft.rfft(image.flatten(1)).abs())


def train(module: torch.nn.Module, inputs: Any, target: Array, steps: int = 60) -> torch.nn.Module:
    """Train on every other row, so that the rest is held out. Return the module."""
    torch.manual_seed(1)
    arrays = inputs if isinstance(inputs, tuple) else (inputs,)
    tensors = [torch.from_numpy(np.array(array)[::2]) for array in arrays]
    wanted = torch.from_numpy(np.array(target)[::2])
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    module.train()
    for _ in range(steps):
        optimizer.zero_grad()
        answer = module(*tensors)
        answer = answer["logits"] if isinstance(answer, dict) else answer[0] if isinstance(answer, tuple) else answer
        torch.nn.functional.cross_entropy(answer, wanted).backward()
        optimizer.step()
    return module.eval()


# -- what goes with Words --------------------------------------------------------------------------


def mask_of(ids: Any) -> Any:
    """Return a mask that leaves out the end of every third row."""
    mask = np.ones_like(ids)
    mask[::3, 10:] = 0
    return mask


def spec(kind: str, shape: tuple[int, ...], name: str | None = None) -> TensorSpec:
    return TensorSpec(np.dtype(kind), shape, name)


WORDS = ModelSignature(Schema([spec("int64", (-1, -1), "ids"), spec("int64", (-1, -1), "mask")]))


def answers(module: Any, *arrays: Any) -> Any:
    """Return the module's own answer, as arrays in a dict or list."""
    with torch.no_grad():
        given = module(*[torch.from_numpy(array) for array in arrays])
    if isinstance(given, dict):
        return {name: value.numpy() for name, value in given.items()}
    return [value.numpy() for value in given]


# -- saving and running ---------------------------------------------------------------------------


def save_torch(path: Path, module: torch.nn.Module, **options: Any) -> Path:
    import mlflow.pytorch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pytorch.save_model(module, str(path), pip_requirements=[], **options)
    return path


def deploy_torch(path: Path, flavor: str | None = None, **options: Any) -> Deployed:
    """Convert a saved model like local_runs.deploy, for any backend that results."""
    model = open_model(str(path))
    deployable = convert(model, flavor=choose_flavor(model, flavor), limits=ServerLimits(), **options)
    mapping = Mapping.from_json(deployable.mapping.to_json())
    run = runner(deployable.blob, mapping.fetch, deployable.backend, "the test's model")
    return Deployed(model, deployable, mapping, run)
