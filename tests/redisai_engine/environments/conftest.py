"""Environments whose packages are small wheels in a folder, so that building one takes no network and little time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redisai_engine.environments.environments import Environments
from support.wheels import make_wheel


@pytest.fixture(scope="session")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with what every environment needs, and room for more."""
    folder = tmp_path / "wheels"
    make_wheel(folder, "mlflow", command="where-am-i")
    make_wheel(folder, "numpy")
    return folder


@pytest.fixture
def variables(wheels: Path, uv_cache: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "UV_CACHE_DIR": str(uv_cache),
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(wheels),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_HTTP_RETRIES": "0",
    }


@pytest.fixture
def make_environments(tmp_path: Path, variables: dict[str, str]) -> Iterator[Callable[..., Environments]]:
    """A function that makes `Environments` of one folder, as several engines would. They are closed at the end."""
    made: list[Environments] = []

    def make(limit: int = 0, **more_variables: str) -> Environments:
        made.append(Environments(tmp_path / "environments", limit, variables=variables | more_variables))
        return made[-1]

    yield make
    for environments in made:
        environments.close()
