"""
Fixtures of the plugin's tests: models saved to folders, which needs no tracking store, and clients of real servers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mlflow_redisai import RedisAIClient
from support.mlflow_models import LoggedModel, wine_frame
from support.saved_models import save_wine
from support.servers import Server


@pytest.fixture(scope="session")
def saved_wine(tmp_path_factory: pytest.TempPathFactory) -> LoggedModel:
    """A classifier with text labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _, labels = wine_frame()
    return save_wine(
        tmp_path_factory.mktemp("models") / "wine", make_pipeline(StandardScaler(), LogisticRegression()), labels
    )


@pytest.fixture(scope="session")
def retrained_wine(tmp_path_factory: pytest.TempPathFactory) -> LoggedModel:
    """Another model for the same rows, whose labels are numbers instead of text."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _, labels = wine_frame()
    numbers = np.unique(labels, return_inverse=True)[1]
    return save_wine(
        tmp_path_factory.mktemp("models") / "retrained",
        make_pipeline(StandardScaler(), LogisticRegression(C=0.001)),
        numbers,
    )


@pytest.fixture
def client(engine: Server) -> RedisAIClient:
    """A client of the session's engine. Use unique names."""
    return RedisAIClient(engine.target)


@pytest.fixture
def connect(engine: Server) -> Callable[..., RedisAIClient]:
    """A function that creates further clients of the session's engine: `connect(protocol=2)`."""

    def make(**parameters: object) -> RedisAIClient:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return RedisAIClient(f"redisai://127.0.0.1:{engine.port}?{query}")

    return make


@pytest.fixture
def keys(engine: Server) -> Callable[[str], list[str]]:
    """A function that returns the keys on the session's engine that belong to a name."""

    def find(name: str) -> list[str]:
        return sorted(key.decode() for key in engine.client().scan_iter(f"*{name}*", count=1000))

    return find
