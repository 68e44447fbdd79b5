"""What redisai.json says of an environment, and the name that follows from it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from redisai_engine.environments.wanted import LOCK, PROJECT, read_wanted
from redisai_engine.errors import EnvironmentFailure

FILES = {LOCK: b"version = 1\n", PROJECT: b"[project]\n", "MLmodel": b""}


def name(*requirements: str, python: str | None = "3.11.4", **more: Any) -> str:
    return read_wanted({"requirements": list(requirements), "python": python, **more}, FILES).name()


def test_the_name_follows_from_what_is_wanted_and_not_from_how_it_is_written() -> None:
    assert name("mlflow==3.1", "NumPy") == name("numpy", "", "mlflow == 3.1  # pinned")
    assert name("mlflow").startswith("3.11.4-")


def test_another_wish_has_another_name() -> None:
    wishes = [
        name("mlflow"),
        name("mlflow", "numpy"),
        name("mlflow==3.1"),
        name("mlflow", python="3.11"),
        name("mlflow", lock=True),
        read_wanted({"lock": True, "python": "3.11.4"}, {**FILES, LOCK: b"version = 2\n"}).name(),
    ]

    assert len(set(wishes)) == len(wishes)


def test_without_a_version_it_is_the_engines_python() -> None:
    assert read_wanted({"requirements": []}, {}).python == f"3.{sys.version_info.minor}"


@pytest.mark.parametrize("version", ["2.7", "3.8.18", "3", "3.11.4; x", "/usr/bin/python", "3.11\n", 3.11, "pypy3.10"])
def test_a_version_that_is_none_or_too_old_is_refused(version: object) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        read_wanted({"requirements": [], "python": version}, {})

    assert caught.value.wire == (
        f"ERR no environment for the model: its Python version {str(version)!r} isn't a number from 3.9 on, as 3.11.4"
    )


@pytest.mark.parametrize("requirements", [None, "mlflow", {"mlflow": 1}, 7])
def test_requirements_must_be_a_list(requirements: object) -> None:
    with pytest.raises(EnvironmentFailure, match="its requirements aren't a list of texts"):
        read_wanted({"requirements": requirements}, {})


@pytest.mark.parametrize("missing", [LOCK, PROJECT])
def test_a_lock_needs_both_files(missing: str) -> None:
    files = {name: content for name, content in FILES.items() if name != missing}

    with pytest.raises(EnvironmentFailure, match=f"is locked, but the model lacks the file {missing}"):
        read_wanted({"lock": True}, files)


def test_a_lock_of_a_size_that_none_has_is_refused() -> None:
    with pytest.raises(EnvironmentFailure, match=r"the model's uv\.lock has more than 16777216 bytes"):
        read_wanted({"lock": True}, {**FILES, LOCK: b" " * (16 * 2**20 + 1)})
