"""
The recorded conversations with a real RedisAI, and the player that comes with them.

They lie beside the repository, not in it: where they are absent, tests that need them are skipped and say so.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parents[3] / "shared" / "redisai-transcripts"
ABSENT = f"the recorded transcripts of RedisAI are not in {FOLDER}"

# What a scenario's `needs` calls a backend, and the package that brings it.
BACKEND_PACKAGES = {"ONNX": "onnxruntime", "TORCH": "torch", "TF": "tensorflow"}


@dataclass(frozen=True)
class Scenario:
    """One recorded conversation; `name` is family/name."""

    name: str
    steps: dict[str, Any]

    @property
    def needs(self) -> set[str]:
        return set(self.steps.get("needs", []))

    @property
    def missing_backends(self) -> set[str]:
        return {need for need in self.needs if importlib.util.find_spec(BACKEND_PACKAGES[need]) is None}

    def __str__(self) -> str:
        return self.name


@cache
def player() -> ModuleType:
    """The player beside the transcripts, as a module."""
    spec = importlib.util.spec_from_file_location("redisai_transcripts_replay", FOLDER / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@cache
def scenarios() -> dict[str, Scenario]:
    """All scenarios by name; none where the transcripts are absent."""
    if not FOLDER.is_dir():
        return {}
    return {
        f"{family}/{scenario['name']}": Scenario(f"{family}/{scenario['name']}", scenario)
        for family, recorded in player().load(str(FOLDER)).items()
        for scenario in recorded
    }


def play(scenario: Scenario, host: str, port: int, *, timeout_s: float) -> list[str]:
    """Plays a scenario against a server and gives a sentence for every reply that is not the recorded one."""
    replay = player()
    runner = replay.Runner(host, port, str(FOLDER), timeout_s)
    try:
        played = runner.run(scenario.steps)
    except (replay.Closed, replay.NoReply, OSError) as error:
        return [f"cannot talk to the server: {error or 'no reply'}"]
    mismatches = []
    for where, step, reply, note, milliseconds in played:
        if mismatch := replay.judge(step, reply, note, milliseconds):
            place = ".".join(map(str, where))
            mismatches.append(f"step {place}: {replay.show_cmd(step)}\n    {mismatch}")
    return mismatches
