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
from mlflow_redisai.models.trees.params import Asked
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


# For classifiers, the largest score that still gives the first of two classes. The probability of the second is above
# one half as a float32 only above this score.
_CUTS: dict[Link, float] = {"sigmoid": 1.5 * 2.0**-24, "identity": 0.5, "step": 0.0}

# XGBoost itself keeps the probability that it starts from away from 0 and 1 by this much (kRtEps).
_NEAR = 1e-6


_NOTHING = Asked()

# The first round of training to use, and the first after it not to use; None for all.
Rounds = tuple[int, int] | None


def read(model: Any, schema: Schema, asked: Asked = _NOTHING) -> Boosted:
    """
    Read XGBoost's Booster or scikit-learn estimator, with the answer that `asked` describes.

    Raise NotConvertible, naming what can't be expressed.
    """
    import xgboost

    wrapped = isinstance(model, xgboost.XGBModel)
    booster = model.get_booster() if wrapped else model
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = learner["objective"]["name"]
    _check_columns(learner, schema)
    if objective not in _LINKS:
        raise NotConvertible(f"XGBoost's objective {objective} is not supported; supported are {', '.join(_LINKS)}")
    link = "identity" if asked.margin else _link(model, objective)
    missing = float(model.missing) if wrapped and model.missing is not None else math.nan
    base = _base(learner["learner_model_param"], _LINKS[objective])
    columns = int(learner["learner_model_param"]["num_feature"])
    return Boosted(
        names=tuple(learner.get("feature_names") or ()),
        columns=columns,
        link=link,
        reads_float32=True,
        sums_float64=False,
        gap=None if math.isnan(missing) else missing,
        **({} if asked.margin else _labels(model, base, link)),
        **_learned(booster, learner, base, asked.rounds or _rounds(model)),
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
        inside = min(max(value, _NEAR), 1 - _NEAR)
        return math.log(inside / (1 - inside))
    if link == "exp" and value <= 0:
        raise NotConvertible(f"the model's base_score {value:g} has no logarithm; train with a base_score above 0")
    return math.log(value) if link == "exp" else value


def _labels(model: Any, base: list[float], link: Link) -> dict[str, Any]:
    import xgboost

    if not isinstance(model, xgboost.XGBClassifier):
        return {}
    several = len(base) > 1 and model.n_classes_ == 2
    # Trained on a single class, it has two probabilities all the same.
    labels = {"classes": np.arange(max(model.n_classes_, 2)), "a_label_a_target": several}
    if link == "softmax":
        return labels
    if link not in _CUTS:
        raise NotConvertible(
            f"an XGBClassifier with the objective {model.objective} is not supported; use XGBRegressor, or an "
            "objective for classes"
        )
    return {**labels, "cut": _CUTS[link]}


def _rounds(model: Any) -> Rounds:
    """Return the rounds to use, None for all. An estimator that stopped early uses those up to its best one."""
    try:
        return None if not hasattr(model, "get_booster") else (0, int(model.best_iteration) + 1)
    except AttributeError:
        return None


# -- what was learned -----------------------------------------------------------------------------


def _learned(
    booster: Any, learner: dict[str, Any], base: list[float], rounds: tuple[int, int] | None
) -> dict[str, Any]:
    data = learner["gradient_booster"]
    if data["name"] == "gblinear":
        weights = np.array(data["model"]["weights"], np.float32).reshape(-1, len(base))
        return {"trees": (), "weights": weights[:-1], "base": _scores_of_zeros(booster)}
    # DART drops trees during training, and weights those that stay.
    model = data["gbtree"]["model"] if data["name"] == "dart" else data["model"]
    begin, end = (0, len(model["trees"])) if rounds is None else (_first_tree(model, each) for each in rounds)
    scales = data.get("weight_drop") or [1.0] * len(model["trees"])
    trees = [
        _tree(tree, target, scale, len(base))
        for tree, target, scale in list(zip(model["trees"], model["tree_info"], scales, strict=False))[begin:end]
    ]
    categories = _categories(learner, model)
    coded = {index: code for index, code in _code_columns(learner, trees).items() if index not in categories}
    return {"trees": trees, "base": base, "categories": categories, "codes": coded}


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


def _first_tree(model: dict[str, Any], rounds: int) -> int:
    """Return the number of trees before a round."""
    # Newer versions store where each round's trees begin. In older ones, all rounds have the same number of trees.
    indptr = model.get("iteration_indptr")
    if indptr is not None:
        return int(indptr[min(rounds, len(indptr) - 1)])
    parallel = int(model["gbtree_model_param"].get("num_parallel_tree", "1"))
    groups = len(set(model["tree_info"]))
    return min(len(model["trees"]), rounds * parallel * groups)


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
    if not text.isascii():
        raise NotConvertible(
            "XGBoost itself keeps categories with letters beyond ASCII cut short, so it can't tell them apart for "
            "sure; rename them, or encode them before XGBoost, for instance with OrdinalEncoder"
        )
    return tuple(text[begin:end].decode() for begin, end in zip(entry["offsets"], entry["offsets"][1:], strict=False))
