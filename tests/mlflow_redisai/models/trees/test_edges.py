"""Boosted models tell their thresholds, their categories with an unknown one, and the numbers that stand for gaps."""

from __future__ import annotations

import numpy as np

from mlflow_redisai.models.trees.edges import edges_of
from mlflow_redisai.models.trees.ensemble import Boosted, Tree


def boosted(**options: object) -> Boosted:
    """Return a model of one tree: below 2.5 in column 0, in category 1 of column 1, else the last leaf."""
    tree = Tree((0,))
    root = tree.branch(0, 2.5, "BRANCH_LT", gap_is_yes=True)
    category = tree.branch(1, 1.0, "BRANCH_EQ", gap_is_yes=False)
    tree.yes[root], tree.no[root] = tree.leaf([1.0]), category
    tree.yes[category], tree.no[category] = tree.leaf([2.0]), tree.leaf([3.0])
    return Boosted(
        names=("a", "b"),
        columns=2,
        trees=(tree,),
        base=(0.0,),
        link="identity",
        reads_float32=True,
        sums_float64=False,
        **options,  # type: ignore[arg-type]
    )


def test_thresholds_are_cuts_with_a_range_around_them() -> None:
    found = edges_of(boosted())

    assert {column: cuts.tolist() for column, cuts in found.cuts.items()} == {0: [2.5]}
    low, high = found.ranges[0]
    assert low < 2.5 < high


def test_codes_reach_one_beyond_the_largest_and_values_are_the_librarys() -> None:
    assert edges_of(boosted(codes={1: 3})).categories[1].tolist() == [0, 1, 2, 3, 4]
    assert edges_of(boosted(categories={1: ("x", "y")})).categories[1].tolist() == ["x", "y"]


def test_numbers_that_stand_for_a_gap_or_for_zero_are_cuts_of_every_column() -> None:
    assert edges_of(boosted(gap=-999.0)).cuts[1].tolist() == [-999]
    assert np.allclose(edges_of(boosted(zero=1e-35)).cuts[1], [-1e-35, 1e-35], atol=0)
