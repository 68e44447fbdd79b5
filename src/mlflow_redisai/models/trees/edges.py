"""The edges of a boosted model, for trials: thresholds of its trees, categories and their codes, and its own gaps."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from mlflow_redisai.models.trees.ensemble import Boosted
from mlflow_redisai.models.trials.edges import Edges, cuts_with_ranges, merged
from redisai_engine.codec.values import Array


def edges_of(boosted: Boosted) -> Edges:
    """Return the edges of a boosted model, by the position of the column among those it was trained on."""
    return merged([cuts_with_ranges(_thresholds(boosted)), Edges(categories=_categories(boosted)), _odd(boosted)])


def _thresholds(boosted: Boosted) -> dict[int, Array]:
    """Return the thresholds of each column of numbers."""
    found: dict[int, list[float]] = defaultdict(list)
    for tree in boosted.trees:
        for node, feature in enumerate(tree.feature):
            if node not in tree.leaves and tree.mode[node] != "BRANCH_EQ":
                found[feature].append(tree.threshold[node])
    coded = {*boosted.categories, *boosted.codes}
    return {feature: np.array(values) for feature, values in found.items() if feature not in coded}


def _categories(boosted: Boosted) -> dict[int, Array]:
    # One code beyond the largest: an unknown category must take the same path as in the library.
    codes = {column: np.arange(largest + 2) for column, largest in boosted.codes.items()}
    return {**codes, **{column: np.array(values) for column, values in boosted.categories.items()}}


def _odd(boosted: Boosted) -> Edges:
    """Return the numbers that the model takes for a gap or for zero, for all columns."""
    odd = [value for value in (boosted.gap, boosted.zero, None if boosted.zero is None else -boosted.zero) if value]
    if not odd:
        return Edges()
    return Edges(cuts={column: np.array(odd, np.float64) for column in range(boosted.columns)})
