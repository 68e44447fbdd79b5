"""
A reader of LightGBM models, native or in scikit-learn's form, from the dump of the Booster. It writes no ONNX.

LightGBM compares float64 with float64: a number up to the threshold goes left, and a category goes left if the node
lists it. Each node decides what is a gap: NaN; or NaN and zero; or nothing, and then NaN is read as zero.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.trees.ensemble import Added, Boosted, Link, Tree
from redisai_engine.codec.mapping import Schema

# How LightGBM turns the sum of the leaves into a prediction, by objective. For others the sum is the prediction.
_LINKS: dict[str, Link] = {
    "binary": "sigmoid",
    "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "softplus",
    "multiclass": "softmax",
    "multiclassova": "sigmoid",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
}

# LightGBM's own bound (kZeroThreshold): it reads a number of at most this magnitude as zero.
_ZERO = float(np.float32(1e-35))

# What stands for infinity in its dump: a node that tells only gaps from numbers has it for a threshold.
_INFINITE = 1e300

# The smallest number that stands for the code 0: LightGBM rounds codes towards zero.
_FIRST_CODE = float(np.nextafter(-1.0, 0.0))

# The largest score that still gives the first of two classes, by objective, for a sigmoid of slope 1. The probability
# of the second class is above that of the first, as float64, only above this score.
_EVEN = 1.5 * 2.0**-53
_CUTS = {
    "binary": _EVEN,
    "cross_entropy": _EVEN,
    "cross_entropy_lambda": math.log(math.expm1(0.5)),
    "regression": 0.5,
}


def read(model: Any, schema: Schema) -> Boosted:
    """Read LightGBM's Booster or scikit-learn estimator. Raise NotConvertible, naming what can't be expressed."""
    import lightgbm

    booster = model.booster_ if isinstance(model, lightgbm.LGBMModel) else model
    data = booster.dump_model()
    objective, settings = _objective(data)
    trees = _trees(data)
    categories = _categories(data, schema)
    return Boosted(
        # LightGBM reads the columns of a frame by their positions, whatever their names.
        names=(),
        columns=len(data["feature_names"]),
        trees=trees,
        # Codes of categories are compared with zero as well. Rounding small numbers to zero leaves codes unchanged.
        zero=_ZERO if any(_asks_for_zero(tree) for tree in trees) else None,
        base=[0.0] * int(data["num_tree_per_iteration"]),
        link="signed square" if "sqrt" in settings else _LINKS.get(objective, "identity"),
        slope=float(settings.get("sigmoid", 1.0)),
        reads_float32=False,
        sums_float64=True,
        categories=categories,
        codes={index: code for index, code in _codes(data).items() if index not in categories},
        first_code=_FIRST_CODE,
        **(_labels(model, objective, settings) if isinstance(model, lightgbm.LGBMClassifier) else {}),
    )


def _labels(model: Any, objective: str, settings: dict[str, str]) -> dict[str, Any]:
    # With an objective function of the user's own, the classifier answers with scores.
    if callable(model.objective):
        return {}
    if model.n_classes_ > 2:
        return {"classes": np.asarray(model.classes_)}
    if objective not in _CUTS:
        raise NotConvertible(
            f"an LGBMClassifier with the objective {objective} is not supported; use LGBMRegressor, or one of "
            f"{', '.join(_CUTS)}"
        )
    cut = _CUTS[objective] / float(settings.get("sigmoid", 1.0))
    return {"classes": np.asarray(model.classes_), "cut": cut}


def _objective(data: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Split "binary sigmoid:1" into name and settings. A model with a custom objective function has no objective."""
    name, *rest = str(data.get("objective") or "custom").split()
    settings = [item.partition(":") for item in rest]
    return name, {key: value for key, _, value in settings}


def _trees(data: dict[str, Any]) -> list[Tree]:
    groups = int(data["num_tree_per_iteration"])
    infos = data["tree_info"]
    # A random forest answers with the mean of its trees.
    share = groups / len(infos) if data.get("average_output") and infos else 1.0
    return [_tree(info, index % groups, share) for index, info in enumerate(infos)]


def _tree(info: dict[str, Any], target: int, share: float) -> Tree:
    tree = Tree((target,))

    def add(node: dict[str, Any]) -> Added:
        if "split_feature" not in node:
            if "leaf_coeff" in node:
                raise NotConvertible("LightGBM's linear trees (linear_tree=True) can't be expressed in ONNX")
            return [tree.leaf((node["leaf_value"] * share,))], None
        return _split(tree, node)

    return tree.grow(info["tree_structure"], add)


def _split(tree: Tree, node: dict[str, Any]) -> Added:
    feature, left, right = node["split_feature"], node["left_child"], node["right_child"]
    if node["decision_type"] == "==":
        members = [int(member) for member in str(node["threshold"]).split("||")]
        return tree.any_of(feature, members, gap_is_yes=False), (left, right)
    bound = _bound(float(node["threshold"]))
    zero_goes_left = bound >= 0
    kind, default_left = node["missing_type"], bool(node["default_left"])
    if kind != "Zero" or default_left == zero_goes_left:
        gap_left = zero_goes_left if kind == "None" else default_left
        return [tree.branch(feature, bound, "BRANCH_LEQ", gap_is_yes=gap_left)], (left, right)
    # Zero counts as a gap here, and takes the other branch than its neighbours. So it needs a comparison of its own.
    zero = tree.branch(feature, 0.0, "BRANCH_EQ", gap_is_yes=True)
    rest = tree.branch(feature, bound, "BRANCH_LEQ" if default_left else "BRANCH_GT", gap_is_yes=True)
    tree.no[zero] = rest
    return [zero, rest], ((left, right) if default_left else (right, left))


def _bound(threshold: float) -> float:
    """
    Return the threshold that LightGBM compares with: its dump has no infinity.

    It also holds for the numbers that LightGBM reads as zero before it compares.
    """
    if abs(threshold) >= _INFINITE:
        return math.copysign(math.inf, threshold)
    if abs(threshold) > _ZERO:
        return threshold
    return _ZERO if threshold >= 0 else float(np.nextafter(-_ZERO, -np.inf))


def _asks_for_zero(tree: Tree) -> bool:
    return any(mode == "BRANCH_EQ" and bound == 0 for mode, bound in zip(tree.mode, tree.threshold, strict=True))


def _codes(data: dict[str, Any]) -> dict[int, int]:
    """Return the largest code of each column that holds codes of categories, by column."""
    largest: dict[int, int] = {}
    for index, name in enumerate(data["feature_names"]):
        listed = data["feature_infos"].get(name, {}).get("values")
        if listed:
            largest[index] = max(1, *(int(value) for value in listed))
    return largest


def _categories(data: dict[str, Any], schema: Schema) -> dict[int, tuple[Any, ...]]:
    """
    Return the values behind the codes of pandas categoricals, by column.

    LightGBM stores the values of each such column, in order, but not which column it is. The text columns of the
    signature, in order, must be these columns.
    """
    kept = [tuple(values) for values in data.get("pandas_categorical") or []]
    text = [index for index, item in enumerate(schema.fields) if item.dtype.is_string]
    for values in kept:
        if not all(isinstance(value, str) for value in values):
            raise NotConvertible(
                f"LightGBM doesn't record which column has the categories {', '.join(map(repr, values[:5]))}; "
                "use text as categories, or integers from 0 with categorical_feature=[...]"
            )
    if len(text) != len(kept):
        raise NotConvertible(
            f"the model has {len(kept)} columns of text categories, but its signature has {len(text)} text columns"
        )
    return dict(zip(text, kept, strict=True))
