"""
scikit-learn's estimators as the census builds them: the arguments that a class requires, and the data that it takes.

A row's change replaces single arguments. Numbers of trees and iterations are small, so that a model is trained in
milliseconds.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

#: What differs from the defaults of every class that has the parameter, to keep training short and repeatable.
_SHORT = {"random_state": 0, "n_estimators": 8}
_SHORT_OF: dict[str, dict[str, Any]] = {
    "BernoulliRBM": {"n_components": 4, "n_iter": 2},
    "DictionaryLearning": {"n_components": 3, "max_iter": 5},
    "GenericUnivariateSelect": {"mode": "k_best", "param": 2},
    "HashingVectorizer": {"n_features": 64},
    "FeatureHasher": {"n_features": 16},
    "HistGradientBoostingClassifier": {"max_iter": 8},
    "HistGradientBoostingRegressor": {"max_iter": 8},
    "KBinsDiscretizer": {"quantile_method": "averaged_inverted_cdf"},
    "LatentDirichletAllocation": {"n_components": 3, "max_iter": 3},
    "LogisticRegressionCV": {"Cs": 3},
    "MLPClassifier": {"hidden_layer_sizes": (8,), "max_iter": 30},
    "MLPRegressor": {"hidden_layer_sizes": (8,), "max_iter": 30},
    "MiniBatchDictionaryLearning": {"n_components": 3, "max_iter": 5},
    "MiniBatchSparsePCA": {"n_components": 2, "max_iter": 5},
    "QuantileTransformer": {"n_quantiles": 50},
    "RadiusNeighborsClassifier": {"radius": 1e4, "outlier_label": "most_frequent"},
    "RadiusNeighborsRegressor": {"radius": 1e4},
    "SelectKBest": {"k": 2},
    "SkewedChi2Sampler": {"n_components": 5},
    "SparsePCA": {"n_components": 2, "max_iter": 5},
    "TruncatedSVD": {"n_components": 2},
}

# Classes by what they learn from, where that is not a table of numbers and one target.
_TEXTS = {"CountVectorizer", "TfidfVectorizer", "HashingVectorizer"}
_LABEL_CODERS = {"LabelBinarizer", "LabelEncoder"}
_CATEGORIES = {"OneHotEncoder", "OrdinalEncoder", "TargetEncoder", "CategoricalNB"}
_SEVERAL_TARGETS = {
    *("CCA", "PLSCanonical", "PLSRegression", "PLSSVD"),
    *("MultiOutputClassifier", "ClassifierChain", "MultiOutputRegressor", "RegressorChain"),
}
_POSITIVE = {
    *("NMF", "MiniBatchNMF", "LatentDirichletAllocation", "AdditiveChi2Sampler", "ComplementNB"),
    *("MultinomialNB", "TfidfTransformer", "BernoulliRBM", "SkewedChi2Sampler"),
}


def arguments(name: str, kind: type) -> dict[str, Any]:
    """Return the arguments with which the census builds a class, other than its defaults."""
    known = inspect.signature(kind).parameters
    short = {key: value for key, value in _SHORT.items() if key in known}
    return {**short, **_SHORT_OF.get(name, {}), **_required(name)}


def _required(name: str) -> dict[str, Any]:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
    from sklearn.naive_bayes import GaussianNB
    from sklearn.preprocessing import MinMaxScaler, StandardScaler
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    logistic, ridge = LogisticRegression(), Ridge()
    classifiers = [("one", logistic), ("two", DecisionTreeClassifier(max_depth=3, random_state=0)), ("b", GaussianNB())]
    regressors = [("one", ridge), ("two", DecisionTreeRegressor(max_depth=3, random_state=0))]
    scaled = [("scaled", StandardScaler(), slice(0, 2)), ("squeezed", MinMaxScaler(), [2])]
    union = [("scaled", StandardScaler()), ("turned", PCA(2))]
    grid = {"estimator": logistic, "param_grid": {"C": [0.1, 1.0]}, "cv": 2}
    return {
        "ClassifierChain": {"estimator": logistic},
        "ColumnTransformer": {"transformers": scaled, "remainder": "passthrough"},
        "FeatureUnion": {"transformer_list": union},
        "FixedThresholdClassifier": {"estimator": logistic},
        "FrozenEstimator": {"estimator": logistic},
        "GridSearchCV": grid,
        "HalvingGridSearchCV": grid,
        "HalvingRandomSearchCV": {"estimator": logistic, "param_distributions": {"C": [0.1, 1.0]}, "cv": 2},
        "MultiOutputClassifier": {"estimator": logistic},
        "MultiOutputRegressor": {"estimator": ridge},
        "OneVsOneClassifier": {"estimator": logistic},
        "OneVsRestClassifier": {"estimator": logistic},
        "OutputCodeClassifier": {"estimator": logistic},
        "Pipeline": {"steps": [("scale", StandardScaler()), ("last", logistic)]},
        "RANSACRegressor": {"estimator": LinearRegression()},
        "RFE": {"estimator": logistic, "n_features_to_select": 2},
        "RFECV": {"estimator": logistic, "cv": 2},
        "RandomizedSearchCV": {"estimator": logistic, "param_distributions": {"C": [0.1, 1.0]}, "n_iter": 2, "cv": 2},
        "RegressorChain": {"estimator": ridge},
        "SelectFromModel": {"estimator": logistic},
        "SelfTrainingClassifier": {"estimator": logistic},
        "SequentialFeatureSelector": {"estimator": logistic, "n_features_to_select": 2, "cv": 2},
        "SparseCoder": {"dictionary": np.array([[1.0, 0.0, 0.5], [0.2, 1.0, 0.1]])},
        "StackingClassifier": {"estimators": classifiers[:2], "cv": 2},
        "StackingRegressor": {"estimators": regressors, "cv": 2},
        "TunedThresholdClassifierCV": {"estimator": logistic, "cv": 2},
        "VotingClassifier": {"estimators": classifiers},
        "VotingRegressor": {"estimators": regressors},
    }.get(name, {})


def takes(name: str) -> str:
    """
    Return what a class learns from: numbers, categories, documents, labels, or a single column.

    `several` stands for numbers with several targets, `positive` for numbers that aren't negative.
    """
    if name in _TEXTS:
        return "documents"
    if name in _LABEL_CODERS:
        return "labels"
    if name in _CATEGORIES:
        return "categories"
    if name == "IsotonicRegression":
        return "column"
    if name.startswith("MultiTask") or name in _SEVERAL_TARGETS:
        return "several"
    return "positive" if name in _POSITIVE else "numbers"


def takes_gaps(estimator: Any) -> bool:
    """Return whether an estimator takes gaps in its numbers, as imputers, encoders and some trees do."""
    from sklearn.utils import get_tags

    try:
        return bool(get_tags(estimator).input_tags.allow_nan)
    # Meta-estimators ask their inner ones, which can lack tags.
    except Exception:
        return False
