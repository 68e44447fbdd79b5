"""Sources of scripts in RedisAI's form. Tests that run them are skipped if torch isn't installed."""

from __future__ import annotations

import importlib.util

import pytest

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")

_SIGNATURE = "def {name}(tensors: List[Tensor], keys: List[str], args: List[str]):"


def entry_point(name: str, *lines: str) -> str:
    """Return a function that AI.SCRIPTSTORE accepts as an entry point."""
    return "\n    ".join([_SIGNATURE.format(name=name), *lines]) + "\n"


ADD = entry_point("add", "return tensors[0] + tensors[1]")
BOTH = entry_point("both", "return tensors[0], tensors[0] * 2")
# Adds 1 as often as the first argument says: as slow as needed.
COUNT = entry_point("count", "x = tensors[0]", "for i in range(int(args[0])):", "    x = x + 1", "return x")
# Runs its arguments as a Redis command.
COMMAND = entry_point("command", "redis.execute(args[0], args[1:])")
RUN_MODEL = entry_point("run_model", "return redisAI.model_execute(keys[0], tensors, int(args[0]))")

HEAD = "def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n"

# What is repeated, by the construct that it nests: (before, repeated, middle, repeated again, after).
DEEP = {
    "parentheses": ("    return ", "(", "tensors", ")", "\n"),
    "lists": ("    return ", "[", "tensors", "]", "\n"),
    "subscripts": ("    return ", "tensors[", "0", "]", "\n"),
    "calls": ("    return ", "len(", "tensors", ")", "\n"),
    "calls of what a call gives": ("    return f", "(tensors)", "", "", "\n"),
    "signs": ("    return ", "- ", "1", "", "\n"),
    "negations": ("    return ", "not ", "True", "", "\n"),
    "sums": ("    return 1", " + 1", "", "", "\n"),
    "powers": ("    return 2", " ** 2", "", "", "\n"),
    "comparisons": ("    return 1", " < 1", "", "", "\n"),
    "conjunctions": ("    return True", " and True", "", "", "\n"),
    "conditions": ("    return 1", " if True else 1", "", "", "\n"),
    "attributes": ("    return tensors[0]", ".T", "", "", "\n"),
    "assignments": ("    ", "x = ", "1", "", "\n"),
    "lines joined by a backslash": ("    return 1", " + \\\n 1", "", "", "\n"),
    "lines joined by brackets": ("    return (1", "\n + 1", ")", "", "\n"),
    "else if": (
        "    x = 1\n    if x > 1:\n        x = 2\n",
        "    elif x > 1:\n        x = 2\n",
        "",
        "",
        "    return x\n",
    ),
    "types in a comment": ("    x = []  # type: ", "List[", "int", "]", "\n"),
    "what follows a comment with a quote": ("    # don't '''\n    return 1", " + 1", "", "", "\n"),
    "what follows a type comment's look-alike": ("    #type: '''\n    return 1", " + 1", "", "", "\n"),
}


def deep(kind: str, count: int) -> str:
    before, left, middle, right, after = DEEP[kind]
    return HEAD + before + left * count + middle + right * count + after
