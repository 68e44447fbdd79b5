"""
A reader of XGBoost models, native or in scikit-learn's form, from the JSON that XGBoost saves. It writes no ONNX.

XGBoost compares float32 with float32: a number below the threshold goes left, a gap goes where the node says, and a
category goes right if the node lists it. The constant `base_score` is stored as a prediction, and is converted back to
a score here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.trees.ensemble import Added, Boosted, Link, Tree
from redisai_engine.codec.mapping import Schema

# How XGBoost turns the sum of the leaves into a prediction, by objective.
_LINKS: dict[str, Link] = {
    **dict.fromkeys(("binary:logistic", "reg:logistic"), "sigmoid"),
    **dict.fromkeys(
        ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"),
        "exp",
    ),
    **dict.fromkeys(
        (
            "reg:squarederror",
            "reg:linear",
            "reg:squaredlogerror",
            "reg:pseudohubererror",
            "reg:absoluteerror",
            "reg:quantileerror",
            "reg:expectileerror",
            "binary:logitraw",
            "rank:pairwise",
            "rank:ndcg",
            "rank:map",
        ),
        "identity",
    ),
    "binary:hinge": "step",
    "multi:softprob": "softmax",
    "multi:softmax": "argmax",
}


def read(model: Any, schema: Schema) -> Boosted:
    """Read XGBoost's Booster or scikit-learn estimator. Raise NotConvertible, naming what can't be expressed."""
    import xgboost

    wrapped = isinstance(model, xgboost.XGBModel)
    booster = model.get_booster() if wrapped else model
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = learner["objective"]["name"]
    _check_columns(learner, schema)
    if objective not in _LINKS:
        raise NotConvertible(f"XGBoost's objective {objective} is not supported; supported are {', '.join(_LINKS)}")
    missing = float(model.missing) if wrapped and model.missing is not None else math.nan
    columns = int(learner["learner_model_param"]["num_feature"])
    base = _base(learner["learner_model_param"], _LINKS[objective])
    return Boosted(
        names=tuple(learner.get("feature_names") or ()),
        columns=columns,
        link=_link(model, objective),
        reads_float32=True,
        sums_float64=False,
        gap=None if math.isnan(missing) else missing,
        **_labels(model, base),
        **_learned(booster, learner, base, _rounds(model)),
    )


def _check_columns(learner: dict[str, Any], schema: Schema) -> None:
    """Raise NotConvertible for columns of other names than in training, which XGBoost itself refuses too."""
    names = tuple(learner.get("feature_names") or ())
    if schema.kind == "columns" and schema.named and names and schema.names() != names:
        raise NotConvertible(
            f"the signature's columns ({', '.join(schema.names())}) are not those that XGBoost was trained on "
            f"({', '.join(names)}), in this order"
        )


def _link(model: Any, objective: str) -> Link:
    # A scikit-learn classifier computes labels from probabilities itself, so it needs these even for multi:softmax.
    wants_probabilities = objective == "multi:softmax" and hasattr(model, "n_classes_")
    return "softmax" if wants_probabilities else _LINKS[objective]


def _base(parameters: dict[str, str], link: Link) -> list[float]:
    """Return the constant of each score. Before XGBoost 3.1, the model stores one number for all scores."""
    scores = max(int(parameters["num_class"]), int(parameters.get("num_target", "1")), 1)
    values = [float(value) for value in parameters["base_score"].strip("[]").split(",")]
    constants = [_as_score(value, link) for value in values]
    return constants if len(constants) == scores else constants[:1] * scores


def _as_score(value: float, link: Link) -> float:
    if link == "sigmoid":
        return math.log(value / (1 - value))
    return math.log(value) if link == "exp" else value


def _labels(model: Any, base: list[float]) -> dict[str, Any]:
    import xgboost

    if not isinstance(model, xgboost.XGBClassifier):
        return {}
    if model.objective in {"binary:logitraw", "binary:hinge"}:
        raise NotConvertible(f"an XGBClassifier with the objective {model.objective} has no probabilities")
    several = len(base) > 1 and model.n_classes_ == 2
    return {"classes": np.arange(model.n_classes_), "a_label_a_target": several}


def _rounds(model: Any) -> int | None:
    """Return how many rounds to use, None for all. An estimator that stopped early uses those up to its best one."""
    try:
        return None if not hasattr(model, "get_booster") else int(model.best_iteration) + 1
    except AttributeError:
        return None


# -- what was learned -----------------------------------------------------------------------------


def _learned(booster: Any, learner: dict[str, Any], base: list[float], rounds: int | None) -> dict[str, Any]:
    data = learner["gradient_booster"]
    if data["name"] == "gblinear":
        weights = np.array(data["model"]["weights"], np.float32).reshape(-1, len(base))
        return {"trees": (), "weights": weights[:-1], "base": _scores_of_zeros(booster)}
    # DART drops trees during training, and weights those that stay.
    model = data["gbtree"]["model"] if data["name"] == "dart" else data["model"]
    count = _tree_count(model, rounds)
    scales = data.get("weight_drop") or [1.0] * count
    trees = [
        _tree(tree, target, scale, len(base))
        for tree, target, scale in list(zip(model["trees"], model["tree_info"], scales, strict=False))[:count]
    ]
    coded = _code_columns(learner, trees)
    return {"trees": trees, "base": base, "categories": _categories(learner, model), "codes": coded}


def _scores_of_zeros(booster: Any) -> list[float]:
    """
    Return the constants of a linear model: its own scores for a row of zeros.

    They can't be read from the file alone: XGBoost 3 adds the `base_score` of the first class to those of all classes.
    """
    import xgboost

    zeros = np.zeros((1, booster.num_features()), np.float32)
    rows = xgboost.DMatrix(zeros, feature_names=booster.feature_names, feature_types=booster.feature_types)
    found: list[float] = np.ravel(booster.predict(rows, output_margin=True)).tolist()
    return found


def _tree_count(model: dict[str, Any], rounds: int | None) -> int:
    total = len(model["trees"])
    if rounds is None:
        return total
    # Newer versions store where each round's trees begin. In older ones, all rounds have the same number of trees.
    indptr = model.get("iteration_indptr")
    if indptr is not None:
        return int(indptr[min(rounds, len(indptr) - 1)])
    parallel = int(model["gbtree_model_param"].get("num_parallel_tree", "1"))
    groups = len(set(model["tree_info"]))
    return min(total, rounds * parallel * groups)


def _tree(data: dict[str, Any], target: int, scale: float, scores: int) -> Tree:
    width = int(data["tree_param"].get("size_leaf_vector", "1"))
    several = width > 1
    tree = Tree(tuple(range(scores)) if several else (target,))
    sets = _category_sets(data)

    def add(node: int) -> Added:
        left, right = data["left_children"][node], data["right_children"][node]
        if left == -1:
            return [tree.leaf(_leaf(data, node, width, scale))], None
        feature, gap_left = data["split_indices"][node], bool(data["default_left"][node])
        if node in sets:
            return tree.any_of(feature, sets[node], gap_is_yes=not gap_left), (right, left)
        # JSON has the shortest decimal text of a float32, which read as a float64 is a neighbour of it.
        bound = float(np.float32(data["split_conditions"][node]))
        return [tree.branch(feature, bound, "BRANCH_LT", gap_is_yes=gap_left)], (left, right)

    return tree.grow(0, add)


def _leaf(data: dict[str, Any], node: int, width: int, scale: float) -> Sequence[float]:
    if width == 1:
        return (float(np.float32(data["split_conditions"][node]) * np.float32(scale)),)
    vectors = data.get("leaf_weights")
    if vectors is None:
        values = data["base_weights"][node * width : (node + 1) * width]
    else:
        # In a leaf, the field for the right child holds the index of the leaf's vector.
        index = data["right_children"][node]
        values = vectors[index * width : (index + 1) * width]
    return [float(np.float32(value) * np.float32(scale)) for value in values]


# -- categories -----------------------------------------------------------------------------------


def _category_sets(data: dict[str, Any]) -> dict[int, list[int]]:
    """Return the categories that go right, by node."""
    return {
        node: data["categories"][begin : begin + size]
        for node, begin, size in zip(
            data["categories_nodes"], data["categories_segments"], data["categories_sizes"], strict=True
        )
    }


def _code_columns(learner: dict[str, Any], trees: list[Tree]) -> dict[int, int]:
    columns = {index for index, kind in enumerate(learner.get("feature_types") or ()) if kind == "c"}
    largest = dict.fromkeys(columns, 1)
    for tree in trees:
        for feature, bound, mode in zip(tree.feature, tree.threshold, tree.mode, strict=True):
            if mode == "BRANCH_EQ":
                largest[feature] = max(largest.get(feature, 1), int(bound))
    return largest


def _categories(learner: dict[str, Any], model: dict[str, Any]) -> dict[int, tuple[Any, ...]]:
    """Return the values behind the codes, by column. XGBoost stores them from 3.1 on, and only codes before that."""
    kinds = learner.get("feature_types") or ()
    encoded = (model.get("cats") or {}).get("enc") or [{}] * len(kinds)
    found = {}
    for index, (kind, entry) in enumerate(zip(kinds, encoded, strict=False)):
        if kind == "c" and entry.get("values"):
            found[index] = _values(entry)
    return found


def _values(entry: dict[str, Any]) -> tuple[Any, ...]:
    if "offsets" not in entry:
        return tuple(entry["values"])
    # Text is stored as signed bytes of all values in a row, with the offsets at which the values begin.
    text = bytes(value % 256 for value in entry["values"])
    return tuple(text[begin:end].decode() for begin, end in zip(entry["offsets"], entry["offsets"][1:], strict=False))
