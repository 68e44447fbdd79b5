"""Sources of scripts as RedisAI takes them. Tests that run them are skipped where torch isn't installed."""

from __future__ import annotations

import importlib.util

import pytest

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")

_SIGNATURE = "def {name}(tensors: List[Tensor], keys: List[str], args: List[str]):"


def entry_point(name: str, *lines: str) -> str:
    """A function that AI.SCRIPTSTORE takes as an entry point."""
    return "\n    ".join([_SIGNATURE.format(name=name), *lines]) + "\n"


ADD = entry_point("add", "return tensors[0] + tensors[1]")
BOTH = entry_point("both", "return tensors[0], tensors[0] * 2")
# Adds 1 as often as the first argument says: as slow as one wants.
COUNT = entry_point("count", "x = tensors[0]", "for i in range(int(args[0])):", "    x = x + 1", "return x")
# Carries out the Redis command that the arguments are.
COMMAND = entry_point("command", "redis.execute(args[0], args[1:])")
RUN_MODEL = entry_point("run_model", "return redisAI.model_execute(keys[0], tensors, int(args[0]))")
