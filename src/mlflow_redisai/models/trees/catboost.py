"""
A reader of CatBoost models, from the JSON that CatBoost itself saves. It writes no ONNX.

CatBoost compares float32 with float32: a number above the border goes right. Most of its trees are symmetric: all nodes
of a level ask the same question, and the answers, level by level, are the binary digits of the leaf's index. Categories
and text become numbers through hashed statistics of the training rows, which ONNX can't express.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.trees.ensemble import Added, Boosted, Link, Tree
from redisai_engine.codec.mapping import Schema

# How CatBoost's regressors turn the sum into a prediction, by loss. For other losses the sum is the prediction.
_LINKS: dict[str, Link] = {"Poisson": "exp", "Tweedie": "exp"}

# How CatBoost's classifiers turn the sums into probabilities, by loss.
_PROBABILITIES: dict[str, Link] = {
    "Logloss": "sigmoid",
    "CrossEntropy": "sigmoid",
    "Focal": "sigmoid",
    "MultiClass": "softmax",
    "MultiClassOneVsAll": "sigmoid",
    "MultiLogloss": "sigmoid",
    "MultiCrossEntropy": "sigmoid",
}
_A_LABEL_A_TARGET = {"MultiLogloss", "MultiCrossEntropy"}


def read(model: Any, schema: Schema) -> Boosted:
    """Read a model of any of CatBoost's classes. Raise NotConvertible, naming what can't be expressed."""
    import catboost

    del schema
    _check_features(model)
    data = _dump(model)
    features = data["features_info"]
    loss = _loss(data)
    scale, base = data["scale_and_bias"]
    is_classifier = isinstance(model, catboost.CatBoostClassifier)
    names = tuple(model.feature_names_)
    return Boosted(
        names=() if names == tuple(str(index) for index in range(len(names))) else names,
        columns=len(features.get("float_features", ())),
        trees=_trees(data, len(base), scale),
        base=base,
        link=_link(model, loss, classifier=is_classifier),
        reads_float32=True,
        sums_float64=True,
        classes=np.asarray(model.classes_) if is_classifier else None,
        a_label_a_target=loss in _A_LABEL_A_TARGET,
        cut=_cut(data),
    )


def _dump(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mlflow-redisai-") as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        data: dict[str, Any] = json.loads(path.read_text())
    return data


def _check_features(model: Any) -> None:
    # Not from the dump: CatBoost can't dump a model with features of text.
    for called, columns in (
        ("categories", model.get_cat_feature_indices()),
        ("text", model.get_text_feature_indices()),
        ("embeddings", model.get_embedding_feature_indices()),
    ):
        if columns:
            names = ", ".join(str(model.feature_names_[index]) for index in columns)
            raise NotConvertible(
                f"CatBoost's own encoding of {called} (column {names}) can't be expressed in ONNX; encode "
                "them before CatBoost, for instance with OneHotEncoder"
            )


def _loss(data: dict[str, Any]) -> str:
    # A sum of models has no parameters of its own, and only what they have in common.
    parameters = _parsed(data["model_info"].get("params", data["model_info"]))
    return str(_parsed(parameters.get("loss_function", {})).get("type", "of several kinds"))


def _parsed(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found


def _cut(data: dict[str, Any]) -> float:
    """Return the score above which a sample is of the second class: that of the model's probability threshold."""
    threshold = float(data["model_info"].get("binclass_probability_threshold", 0.5))
    if not 0 < threshold < 1:
        return math.copysign(math.inf, threshold - 0.5)
    return math.log(threshold / (1 - threshold))


def _link(model: Any, loss: str, *, classifier: bool) -> Link:
    import catboost

    if loss == "RMSEWithUncertainty":
        return "mean and variance" if isinstance(model, catboost.CatBoostRegressor) else "identity"
    if classifier:
        if loss not in _PROBABILITIES:
            raise NotConvertible(f"CatBoost's loss {loss} is not supported; supported are {', '.join(_PROBABILITIES)}")
        return _PROBABILITIES[loss]
    return _LINKS.get(loss, "identity") if isinstance(model, catboost.CatBoostRegressor) else "identity"


# -- trees ----------------------------------------------------------------------------------------


def _trees(data: dict[str, Any], scores: int, scale: float) -> list[Tree]:
    gap_is_above = {
        feature["feature_index"]: feature["nan_value_treatment"] == "AsTrue"
        for feature in data["features_info"].get("float_features", ())
    }
    places = {
        feature["feature_index"]: feature["flat_feature_index"]
        for feature in data["features_info"].get("float_features", ())
    }
    reader = _Reader(tuple(range(scores)), scale, gap_is_above, places)
    if "oblivious_trees" in data:
        return [reader.level_by_level(tree) for tree in data["oblivious_trees"]]
    return [reader.node_by_node(tree) for tree in data["trees"]]


class _Reader:
    """A reader of trees. It knows each feature's column, and whether a gap (NaN) counts as above all borders."""

    def __init__(
        self, targets: tuple[int, ...], scale: float, gap_is_above: dict[int, bool], places: dict[int, int]
    ) -> None:
        self.targets = targets
        self.scale = scale
        self.gap_is_above = gap_is_above
        self.places = places

    def level_by_level(self, data: dict[str, Any]) -> Tree:
        tree = Tree(self.targets)
        splits, values, width = data.get("splits") or [], data["leaf_values"], len(self.targets)

        def add(place: tuple[int, int]) -> Added:
            level, leaf = place
            if level < 0:
                return [tree.leaf(self._scaled(values[leaf * width : (leaf + 1) * width]))], None
            return [self._branch(tree, splits[level])], ((level - 1, leaf), (level - 1, leaf + (1 << level)))

        # The last split is the root, because its answer is the most significant digit of the leaf's index.
        return tree.grow((len(splits) - 1, 0), add)

    def node_by_node(self, data: dict[str, Any]) -> Tree:
        tree = Tree(self.targets)

        def add(node: dict[str, Any]) -> Added:
            if "split" not in node:
                value = node["value"]
                return [tree.leaf(self._scaled(value if isinstance(value, list) else [value]))], None
            return [self._branch(tree, node["split"])], (node["left"], node["right"])

        return tree.grow(data, add)

    def _branch(self, tree: Tree, split: dict[str, Any]) -> int:
        feature = split["float_feature_index"]
        # A border is a float32; its decimal text in the JSON, read as a float64, may be a neighbour of it.
        border = float(np.float32(split["border"]))
        return tree.branch(
            self.places[feature], border, "BRANCH_LEQ", gap_is_yes=not self.gap_is_above.get(feature, False)
        )

    def _scaled(self, values: Sequence[float]) -> list[float]:
        scaled = [value * self.scale for value in values]
        if not all(map(math.isfinite, scaled)):
            raise NotConvertible("a leaf of the CatBoost model has a value that isn't finite")
        return scaled
