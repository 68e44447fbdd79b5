"""PyTorch models that several test files deploy, each trained once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="package")
def images() -> Any:
    """A convolutional network that recognises most digits."""
    from support import torch_models as models

    return models.train(models.Images(), *models.digits())


@pytest.fixture(scope="package")
def table() -> Any:
    """A network over the 30 columns of the cancer data."""
    from support import torch_models as models

    frame, target = models.cancer()
    return models.train(models.Scaled(frame, 2), frame.to_numpy(np.float32), target)


@pytest.fixture(scope="package")
def words() -> Any:
    """A network over two integer tensors that returns a dict."""
    from support import torch_models as models

    ids, target = models.tokens()
    return models.train(models.Words(), (ids, models.mask_of(ids)), target)
