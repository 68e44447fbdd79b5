"""The recorded conversations with a real RedisAI, and the models that are sent in them, as tests use them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

from compat.transcripts import replay

# What a scenario's `needs` calls a backend, and the package that brings it.
BACKEND_PACKAGES = {"ONNX": "onnxruntime", "TORCH": "torch", "TF": "tensorflow"}


@dataclass(frozen=True)
class Scenario:
    """One recorded conversation; `name` is family/name."""

    name: str
    recorded: dict[str, Any]

    @property
    def steps(self) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = self.recorded["steps"]
        return steps

    @property
    def missing_backends(self) -> set[str]:
        needed = self.recorded.get("needs", ())
        return {need for need in needed if importlib.util.find_spec(BACKEND_PACKAGES[need]) is None}

    def __str__(self) -> str:
        return self.name


@cache
def scenarios() -> dict[str, Scenario]:
    """All scenarios by name."""
    return {
        f"{family}/{scenario['name']}": Scenario(f"{family}/{scenario['name']}", scenario)
        for family, recorded in replay.families().items()
        for scenario in recorded
    }


def recorded_model(file: str) -> bytes:
    """A model that scenarios send, `mul.onnx` for instance."""
    return (replay.FOLDER / "models" / file).read_bytes()
