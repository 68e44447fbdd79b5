"""
Which constructor parameters of scikit-learn's estimators a conversion honours: a table, and the refusal of the rest.

A converter that doesn't read a parameter drops it in silence. So each parameter is in one of three places: in FITTING,
because all it decides is in the fitted attributes; in READ, because the conversion honours each of its values; or in
ONLY, with those of its values that are honoured. Anywhere else only the default is.

Invariant: an estimator with a value that this table doesn't know is never converted.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.sklearn.converters.functions import FUNCTIONS, is_known
from mlflow_redisai.models.sklearn.converters.neighbours.distances import METRICS

# Parameters that act while fitting, or on speed, memory and messages only.
FITTING = frozenset(
    """
    accept_sparse algorithm alpha alpha_1 alpha_2 alpha_init alpha_per_target alphas average batch_size beta_1 beta_2
    bootstrap bootstrap_features C cache_size categories ccp_alpha check_inverse class_prior class_weight
    compute_inverse_components compute_labels compute_score contamination copy copy_X copy_x copy_X_train
    covariance_estimator covariance_prior criterion Cs cv degrees_of_freedom_prior dual early_stopping eigen_solver
    eps epsilon error_score estimator estimators eta0 feature_name_combiner feature_names_out final_estimator
    fit_intercept fit_inverse_transform fit_path fit_prior force_alpha gcv_mode hidden_layer_sizes
    ignore_implicit_zeros importance_getter init init_params init_size interaction_cst intercept_scaling inv_kw_args
    inverse_func is_data_valid is_model_valid iterated_power jitter k keep_empty_features l1_ratio l1_ratios
    l2_regularization lambda_1 lambda_2 lambda_init leaf_size learning_rate learning_rate_init max_bins max_categories
    max_depth max_df max_features max_fun max_iter max_iter_predict max_leaf_nodes max_n_alphas max_no_improvement
    max_samples max_skips max_subpopulation max_trials mean_precision_prior mean_prior means_init memory
    min_categories min_df min_features_to_select min_frequency min_impurity_decrease min_samples min_samples_leaf
    min_samples_split min_weight_fraction_leaf momentum monotonic_cst multi_class n_bins n_clusters n_components
    n_estimators n_features_to_select n_init n_iter n_iter_no_change n_jobs n_nonzero_coefs n_oversamples n_quantiles
    n_restarts_optimizer n_subsamples n_targets nesterovs_momentum noise_variance norm_order nu oob_score optimizer
    order param param_distributions param_grid penalty percentile positive power_iteration_normalizer power_t
    pre_dispatch precisions_init precompute prefit priors quantile quantile_method random_state reassignment_ratio
    refit reg_covar reg_param regressor remainder remove_zero_eig residual_threshold resource return_train_score
    score_func scoring selection shrinkage shrinking shuffle smooth smooth_idf solver solver_options sparse_threshold
    splitter standardize steps stop_n_inliers stop_probability stop_score store_covariance store_cv_results strategy
    subsample svd_solver target_type threshold_lambda tol transformer transformer_list transformers
    use_legacy_attributes validate validation_fraction var_smoothing verbose verbose_feature_names_out
    verbose_interval vocabulary warm_start weight_concentration_prior weight_concentration_prior_type weights_init
    """.split()  # noqa: SIM905  A list of two hundred quoted words can't be read.
)

# Parameters whose every value the conversion honours, by class.
READ: dict[str, str] = {
    "AdaBoostRegressor": "loss",
    "BayesianGaussianMixture": "covariance_type",
    "BernoulliNB": "binarize",
    "Binarizer": "threshold",
    "CalibratedClassifierCV": "ensemble",
    "ClassifierChain": "base_estimator chain_method",
    "ColumnTransformer": "transformer_weights",
    "ComplementNB": "norm",
    "CountVectorizer": "stop_words ngram_range token_pattern lowercase analyzer preprocessor tokenizer strip_accents "
    "input encoding decode_error dtype binary",
    "FeatureUnion": "transformer_weights",
    "FunctionTransformer": "func",
    "GammaRegressor": "",
    "GaussianMixture": "covariance_type",
    "GaussianProcessRegressor": "kernel normalize_y",
    "GaussianProcessClassifier": "kernel",
    "GenericUnivariateSelect": "mode",
    "GradientBoostingClassifier": "loss",
    "GradientBoostingRegressor": "loss",
    "HistGradientBoostingClassifier": "loss",
    "HistGradientBoostingRegressor": "loss",
    "IncrementalPCA": "whiten",
    "KBinsDiscretizer": "encode dtype",
    "KNeighborsClassifier": "n_neighbors p",
    "KNeighborsRegressor": "n_neighbors p",
    "KNeighborsTransformer": "n_neighbors mode p",
    "KNNImputer": "n_neighbors",
    "KernelPCA": "kernel degree gamma coef0",
    "LabelBinarizer": "neg_label pos_label",
    "LinearSVC": "loss",
    "LinearSVR": "loss",
    "LocalOutlierFactor": "n_neighbors novelty",
    "MLPClassifier": "activation",
    "MLPRegressor": "activation loss",
    "MaxAbsScaler": "clip",
    "MinMaxScaler": "feature_range clip",
    "NearestNeighbors": "n_neighbors radius",
    "Normalizer": "norm",
    "NuSVC": "break_ties degree gamma coef0 decision_function_shape probability",
    "NuSVR": "degree gamma coef0",
    "OneClassSVM": "degree gamma coef0",
    "OneHotEncoder": "drop handle_unknown sparse_output dtype",
    "OneVsRestClassifier": "",
    "OrdinalEncoder": "dtype handle_unknown unknown_value encoded_missing_value",
    "OutputCodeClassifier": "",
    "PCA": "whiten",
    "PLSRegression": "scale",
    "PassiveAggressiveClassifier": "loss",
    "PassiveAggressiveRegressor": "loss",
    "PolynomialFeatures": "degree interaction_only include_bias",
    "PowerTransformer": "method",
    "QuantileTransformer": "output_distribution",
    "RANSACRegressor": "loss",
    "RFE": "step",
    "RFECV": "step",
    "RadiusNeighborsClassifier": "radius p outlier_label",
    "RadiusNeighborsRegressor": "radius p",
    "RandomTreesEmbedding": "sparse_output",
    "RegressorChain": "base_estimator",
    "RobustScaler": "with_centering with_scaling quantile_range unit_variance",
    "SGDClassifier": "loss",
    "SGDRegressor": "loss",
    "SVC": "break_ties degree gamma coef0 decision_function_shape probability",
    "SVR": "degree gamma coef0",
    "SelectFromModel": "threshold",
    "SimpleImputer": "fill_value missing_values",
    "StackingClassifier": "stack_method passthrough",
    "StackingRegressor": "passthrough",
    "StandardScaler": "with_mean with_std",
    "TfidfTransformer": "norm use_idf sublinear_tf",
    "TfidfVectorizer": "stop_words ngram_range token_pattern lowercase analyzer preprocessor tokenizer strip_accents "
    "input encoding decode_error dtype binary norm use_idf sublinear_tf",
    "TransformedTargetRegressor": "func",
    "TunedThresholdClassifierCV": "response_method thresholds",
    "TweedieRegressor": "power link",
    "VarianceThreshold": "threshold",
    "VotingClassifier": "voting weights flatten_transform",
    "VotingRegressor": "weights",
}


def _cannot_choose(estimator: Any) -> bool:
    """Return whether a fitted selection raises an error as soon as it is asked for its columns."""
    if not hasattr(estimator, "get_support") or not hasattr(estimator, "n_features_in_"):
        return False
    try:
        _support(estimator)
    # It may raise anything, whatever its options make of it.
    except Exception:
        return True
    return False


def _support(selector: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return selector.get_support(indices=True)


def _is_collinear(estimator: Any) -> bool:
    """Return whether a discriminant analysis divides by a variance that is nothing but rounding."""
    if type(estimator).__name__ == "LinearDiscriminantAnalysis":
        sizes = np.abs(getattr(estimator, "scalings_", np.ones(1)))
        return bool(sizes.max() > sizes[sizes > 0].min() / _ROUNDING_OF_SCALES)
    if not hasattr(estimator, "rotations_"):
        return False
    return any(len(each) and each.min() < _ROUNDING * each.max() for each in map(np.asarray, estimator.scalings_))


# The least variance that isn't rounding, relative to the largest.
_ROUNDING = 1e-10

# The same for factors of columns, whose sizes may differ by much.
_ROUNDING_OF_SCALES = 1e-14

# What a fitted estimator must not be, and why.
_FITTED: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (
        _is_collinear,
        "its columns are linearly dependent, so rounding decides its answers; leave some out, or set reg_param",
    ),
    (_cannot_choose, "it raises an error itself when it is asked for its columns, so it has no answer"),
    (
        lambda one: hasattr(one, "get_support") and hasattr(one, "n_features_in_") and not len(_support(one)),
        "it chooses no column, so nothing is left for ONNX to compute; let it choose at least one",
    ),
    (
        lambda one: getattr(one, "is_categorical_", None) is not None,
        "its splits by category can't be converted to ONNX; use categorical_features=None behind a OneHotEncoder",
    ),
    (
        lambda one: type(one).__name__ == "RadiusNeighborsClassifier" and getattr(one, "outlier_label_", ()) is None,
        "it raises an error for a row without neighbours, which can't be converted to ONNX; use outlier_label",
    ),
)

# How many training rows are asked for their neighbours, and how many neighbours beyond those that count are compared.
_ASKED = 2000
_BEYOND = 24


def _has_ties(estimator: Any) -> bool:
    """Return whether the last neighbour of a training row could as well be another one, with another target."""
    rows = estimator._fit_X[:_ASKED]
    count = estimator.n_neighbors
    # It was fitted, but answers nothing.
    if count is None:
        return False
    with warnings.catch_warnings():
        # It was fitted with names of columns, and keeps none with the rows.
        warnings.simplefilter("ignore")
        distances, found = estimator.kneighbors(rows, min(count + _BEYOND, estimator.n_samples_fit_))
    last = distances[:, count - 1 : count]
    tied = np.isclose(distances, last, rtol=1e-12, atol=0)
    targets = np.asarray(estimator._y).reshape(len(estimator._y), -1)[found]
    others = (targets != targets[:, count - 1 : count]).any(axis=2)
    return bool((tied[:, count:].any(axis=1) & (tied & others).any(axis=1)).any())


# What skl2onnx's own converters of neighbours know.
_FEW_METRICS = ("minkowski", "euclidean", "manhattan", "l1", "l2", "cityblock")
_FEW = ("LocalOutlierFactor", "NearestNeighbors")
_NEIGHBOURS = (
    "KNeighborsClassifier",
    "KNeighborsRegressor",
    "KNeighborsTransformer",
    "RadiusNeighborsClassifier",
    "RadiusNeighborsRegressor",
)

# The values that are honoured besides the default, by class and parameter.
ONLY: dict[tuple[str, str], tuple[Any, ...]] = {
    ("HistGradientBoostingClassifier", "categorical_features"): (None,),
    ("HistGradientBoostingRegressor", "categorical_features"): (None,),
    ("CalibratedClassifierCV", "method"): ("sigmoid",),
    ("FunctionTransformer", "kw_args"): ({},),
    ("GradientBoostingClassifier", "init"): (None, "zero"),
    ("GradientBoostingRegressor", "init"): (None, "zero"),
    ("KNNImputer", "weights"): ("uniform",),
    **{
        (name, "kernel"): ("rbf", "linear", "poly", "sigmoid")
        for name in ("NuSVC", "NuSVR", "OneClassSVM", "SVC", "SVR")
    },
    **{(name, "metric"): _FEW_METRICS for name in _FEW},
    **{(name, "p"): (1, 2) for name in _FEW},
    **{(name, "metric"): tuple(METRICS) for name in _NEIGHBOURS},
    **{(name, "weights"): ("uniform", "distance", None) for name in _NEIGHBOURS if "Transformer" not in name},
}


def refuse_unknown_options(estimators: Iterator[tuple[str, Any]]) -> None:
    """Raise NotConvertible for the first value that no conversion honours. Estimators come with their paths."""
    from skl2onnx._supported_operators import sklearn_operator_name_map

    for path, estimator in estimators:
        kind = type(estimator)
        # An estimator without converter is refused by its name, and those of the boosting libraries elsewhere.
        if kind in sklearn_operator_name_map and kind.__module__.partition(".")[0] == "sklearn":
            _refuse(path, estimator)


def _refuse(path: str, estimator: Any) -> None:
    name = type(estimator).__name__
    where = f"step {path} ({name})" if path else name
    for fact, reason in _FITTED:
        if fact(estimator):
            raise NotConvertible(f"{where}: {reason}")
    # Of a target's transformer only the way back is needed, which its converter looks at.
    if name == "FunctionTransformer" and not path.endswith("transformer_") and not is_known(estimator.func):
        shown = _shown(estimator.func)
        raise NotConvertible(f"{where}: func={shown} can't be converted to ONNX; use one of {', '.join(FUNCTIONS)}")
    read = READ.get(name, "").split()
    for parameter, value in estimator.get_params(deep=False).items():
        if (parameter in FITTING or parameter in read) and (name, parameter) not in ONLY:
            continue
        default = _default(type(estimator), parameter)
        honoured = [default, *(one for one in ONLY.get((name, parameter), ()) if not _is_same(one, default))]
        if not any(_is_same(value, one) for one in honoured):
            where = f"step {path} ({name})" if path else name
            shown = " or ".join(f"{parameter}={one!r}" for one in honoured)
            raise NotConvertible(f"{where}: {parameter}={_shown(value)} can't be converted to ONNX; use {shown}")
    if name in ("KNeighborsClassifier", "KNeighborsRegressor") and _has_ties(estimator):
        raise NotConvertible(
            f"{where}: its training rows are at equal distances, and which of them scikit-learn counts can't be "
            "converted to ONNX; use an estimator without neighbours"
        )


def changed_options(estimator: Any) -> list[str]:
    """Return an estimator's parameters that differ from their defaults, as it would be written, without estimators."""
    return [
        f"{name}={_shown(value)}"
        for name, value in estimator.get_params(deep=False).items()
        if not hasattr(value, "get_params") and not _holds_estimators(value)
        if name != "random_state" and not _is_same(value, _default(type(estimator), name))
    ]


def _holds_estimators(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(each, (list, tuple)) for each in value)


def _default(kind: type, parameter: str) -> Any:
    found = inspect.signature(kind).parameters.get(parameter)
    return None if found is None else found.default


def _is_same(value: Any, other: Any) -> bool:
    """Return whether two values of a parameter are equal. NaN equals itself, and no number equals a boolean."""
    if value is other:
        return True
    if isinstance(value, (bool, np.bool_)) != isinstance(other, (bool, np.bool_)):
        return False
    if isinstance(value, float) and isinstance(other, float) and np.isnan(value) and np.isnan(other):
        return True
    try:
        return bool(value == other)
    # An array has no single truth value, so it isn't one of the table's values.
    except ValueError:
        return False


def _shown(value: Any) -> str:
    text = getattr(value, "__name__", None) or " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:80]} ..."
