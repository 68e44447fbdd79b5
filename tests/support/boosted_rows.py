"""Rows at the edges of a boosted model: its thresholds and their neighbours, small and large numbers, gaps."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from mlflow_redisai.models.trees.convert import reader
from redisai_engine.codec.mapping import Schema

# Zeros, subnormals, numbers around LightGBM's bound for zero, and integers that floats can't tell apart.
ODD = (0.0, -0.0, 5e-324, -5e-324, 1e-46, 1e-40, 1e-36, -1e-36, 1e-35, -1e-35, 0.5, -0.5, 2.0**24 + 1, 2.0**53 + 1)

# Put into a fifth of the numbers, in rows of their own: a library may refuse such rows.
APART = {"gaps": np.nan, "infinity": np.inf, "-infinity": -np.inf, "huge": 1e300, "-huge": -1e300}


def thresholds(library: str, model: Any) -> dict[int, list[float]]:
    """Return the thresholds of a model's trees, and the codes of its categories, by column."""
    found: dict[int, set[float]] = defaultdict(set)
    for tree in reader(library)(model, Schema("columns", ())).trees:
        for node, (column, threshold) in enumerate(zip(tree.feature, tree.threshold, strict=True)):
            if node not in tree.leaves:
                found[column].add(threshold)
    return {column: sorted(values) for column, values in found.items()}


def edges(rows: np.ndarray, known: dict[int, list[float]], count: int = 300) -> dict[str, np.ndarray]:
    """Return rows drawn from `rows` with numbers around the `known` thresholds of each column, by what they contain."""
    random = np.random.default_rng(3)
    drawn = np.asarray(rows, float)[random.integers(0, len(rows), count)]
    for column in range(drawn.shape[1]):
        around = np.concatenate([_around(np.array(known.get(column) or [0.0])), ODD])
        chosen = random.random(count) < 0.6
        drawn[chosen, column] = random.choice(around, int(chosen.sum()))
    apart = {name: np.where(random.random(drawn.shape) < 0.2, value, drawn) for name, value in APART.items()}
    return {"thresholds": drawn, "a row": drawn[:1], **apart}


def _around(values: np.ndarray) -> np.ndarray:
    """Return the numbers, their neighbours as float64 and as float32, and what lies between two float32."""
    single = values.astype(np.float32)
    # CatBoost's border for gaps is the smallest float32.
    with np.errstate(over="ignore"):
        above, below = (np.nextafter(single, np.float32(end)) for end in (np.inf, -np.inf))
    wide = [values, np.nextafter(values, np.inf), np.nextafter(values, -np.inf)]
    middle = [(single.astype(float) + neighbour) / 2 for neighbour in (above, below)]
    return np.concatenate([*wide, single, above, below, *middle]).astype(float)
