"""
The table of our own converters, by skl2onnx's names of operators, and their registration for one conversion.

Invariant: outside of `own_converters`, skl2onnx is as it was installed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from mlflow_redisai.models.sklearn.converters import (
    columns,
    forests,
    functions,
    gaps,
    likelihoods,
    linear,
    transforms,
    votes,
)
from mlflow_redisai.models.sklearn.converters.kernels import processes, vectors
from mlflow_redisai.models.sklearn.converters.neighbours import nearest, radius

# Sets the types of an operator's outputs.
Shapes = Callable[[Any], None]
Converter = Callable[[Any, Any, Any], None]

_SELECTIONS = (
    "SklearnGenericUnivariateSelect",
    "SklearnRFE",
    "SklearnRFECV",
    "SklearnSelectFdr",
    "SklearnSelectFpr",
    "SklearnSelectFromModel",
    "SklearnSelectFwe",
    "SklearnSelectKBest",
    "SklearnSelectPercentile",
    "SklearnVarianceThreshold",
)
_CONVERTERS: dict[str, Converter] = {
    "SklearnAdaBoostClassifier": votes.convert_adaboost,
    "SklearnBayesianRidge": linear.convert_regressor,
    "SklearnBaggingClassifier": votes.convert_bagging,
    "SklearnBinarizer": columns.convert_binarizer,
    "SklearnDecisionTreeClassifier": forests.convert_classifier,
    "SklearnDecisionTreeRegressor": forests.convert_regressor,
    "SklearnExtraTreeClassifier": forests.convert_classifier,
    "SklearnFunctionTransformer": functions.convert_function,
    "SklearnExtraTreeRegressor": forests.convert_regressor,
    "SklearnExtraTreesClassifier": forests.convert_classifier,
    "SklearnExtraTreesRegressor": forests.convert_regressor,
    "SklearnGaussianProcessClassifier": processes.convert_classifier,
    "SklearnGradientBoostingClassifier": forests.convert_boosting_classifier,
    "SklearnGradientBoostingRegressor": forests.convert_boosting_regressor,
    "SklearnIsolationForest": forests.convert_isolation_forest,
    "SklearnKBinsDiscretizer": columns.convert_bins,
    "SklearnKNeighborsRegressor": nearest.convert_regressor,
    "SklearnKNeighborsTransformer": nearest.convert_transformer,
    "SklearnKMeans": linear.convert_clusters,
    "SklearnLinearRegressor": linear.convert_regressor,
    "SklearnLinearSVR": linear.convert_regressor,
    "SklearnMiniBatchKMeans": linear.convert_clusters,
    "SklearnNormalizer": columns.convert_normalizer,
    "SklearnOneClassSVM": vectors.convert_one_class,
    "SklearnOneHotEncoder": columns.convert_one_hot,
    "SklearnOrdinalEncoder": columns.convert_ordinal,
    "SklearnMaxAbsScaler": columns.convert_largest,
    "SklearnPowerTransformer": functions.convert_powers,
    "SklearnRadiusNeighborsClassifier": radius.convert_classifier,
    "SklearnRadiusNeighborsRegressor": radius.convert_regressor,
    "SklearnRandomForestClassifier": forests.convert_classifier,
    "SklearnRandomForestRegressor": forests.convert_regressor,
    "SklearnRandomTreesEmbedding": forests.convert_embedding,
    "SklearnSimpleImputer": gaps.convert_imputer,
    "SklearnSVR": vectors.convert_regressor,
    "SklearnTargetEncoder": columns.convert_target,
    "SklearnTfidfTransformer": columns.convert_frequencies,
    "SklearnTunedThresholdClassifierCV": votes.convert_threshold,
    **dict.fromkeys(_SELECTIONS, columns.convert_selection),
    "SklearnVotingClassifier": votes.convert_voting,
}


def _with_one_opset(original: Converter) -> Converter:
    """Return skl2onnx's converter of mixtures for float64, which takes a dict of opsets for a number."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        operator.target_opset = container.target_opset
        original(scope, operator, container)

    return convert


# By their likelihoods, of which the logarithm of a probability is made.
_LIKELIHOODS = (
    "SklearnBernoulliNB",
    "SklearnComplementNB",
    "SklearnGaussianNB",
    "SklearnMultinomialNB",
    "SklearnQuadraticDiscriminantAnalysis",
)

# Those that need skl2onnx's own converter for a part of what they write.
_WRAPPERS: dict[str, Callable[[Converter], Converter]] = {
    "SklearnBayesianGaussianMixture": _with_one_opset,
    "SklearnGaussianMixture": _with_one_opset,
    "SklearnKNeighborsClassifier": nearest.classifier_converter,
    "SklearnLinearClassifier": linear.classifier_converter,
    "SklearnLinearSVC": linear.classifier_converter,
    "SklearnSGDClassifier": linear.classifier_converter,
    "SklearnStackingClassifier": transforms.stack_converter,
    "SklearnSVC": vectors.classifier_converter,
}


_SHAPES: dict[str, Shapes] = {
    "SklearnFunctionTransformer": functions.function_shapes,
    "SklearnIsolationForest": forests.isolation_forest_shapes,
    "SklearnKBinsDiscretizer": columns.bins_shapes,
    "SklearnOneHotEncoder": columns.one_hot_shapes,
    "SklearnOrdinalEncoder": columns.ordinal_shapes,
    "SklearnPowerTransformer": functions.function_shapes,
    "SklearnRandomTreesEmbedding": forests.embedding_shapes,
    "SklearnTargetEncoder": columns.target_shapes,
}

# Classifiers whose probabilities skl2onnx declares as float32, whatever they are computed from.
_WIDENED = (
    "SklearnDecisionTreeClassifier",
    "SklearnExtraTreeClassifier",
    "SklearnExtraTreesClassifier",
    "SklearnGradientBoostingClassifier",
    "SklearnRandomForestClassifier",
    "SklearnTunedThresholdClassifierCV",
)

# Transformers of numbers whose answer skl2onnx declares as float32 if the first column of the model is text.
_WIDENED_NUMBERS = (
    "SklearnBinarizer",
    "SklearnMaxAbsScaler",
    "SklearnNormalizer",
    "SklearnSimpleImputer",
    "SklearnTfidfTransformer",
    *_SELECTIONS,
)


@contextlib.contextmanager
def own_converters() -> Iterator[dict[str, Any]]:
    """
    Let skl2onnx use our converters inside the `with` block.

    Yield a dict that fills with the estimator that each node of the graph, by its name, was written for.
    """
    from skl2onnx import update_registered_converter
    from skl2onnx._parse import sklearn_parsers_map
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common import _registration as registration
    from sklearn.compose import TransformedTargetRegressor

    pools: tuple[dict[Any, Any], ...] = (
        registration._converter_pool,
        registration._shape_calculator_pool,
        sklearn_operator_name_map,
        sklearn_parsers_map,
    )
    before = [dict(pool) for pool in pools]
    wrapped = {name: wrap(registration._converter_pool[name]._fct) for name, wrap in _WRAPPERS.items()}
    for name, convert in {**_CONVERTERS, **wrapped}.items():
        options = registration._converter_pool[name].get_allowed_options()
        registration.register_converter(name, convert, overwrite=True, options=options)
    for name in _LIKELIHOODS:
        options = {**registration._converter_pool[name].get_allowed_options(), likelihoods.LOGARITHMS: [False, True]}
        registration.register_converter(name, likelihoods.convert, overwrite=True, options=options)
    for name, shapes in _SHAPES.items():
        registration.register_shape_calculator(name, shapes, overwrite=True)
    for name in _WIDENED:
        shapes = registration._shape_calculator_pool[name]
        registration.register_shape_calculator(name, _widened(shapes, 1), overwrite=True)
    for name in _WIDENED_NUMBERS:
        shapes = registration._shape_calculator_pool[name]
        registration.register_shape_calculator(name, _widened(shapes, 0), overwrite=True)
    update_registered_converter(
        TransformedTargetRegressor,
        "OwnTransformedTargetRegressor",
        functions.transformed_target_shapes,
        functions.convert_transformed_target,
        parser=functions.parse_transformed_target,
    )
    update_registered_converter(transforms.Transforming, transforms.NAME, transforms.shapes, transforms.convert)
    written: dict[str, Any] = {}
    for name, converter in list(registration._converter_pool.items()):
        noted = _noted(converter._fct, written)
        registration.register_converter(name, noted, overwrite=True, options=converter.get_allowed_options())
    try:
        yield written
    finally:
        for pool, kept in zip(pools, before, strict=True):
            pool.clear()
            pool.update(kept)


def _noted(original: Converter, written: dict[str, Any]) -> Converter:
    """Return a converter that notes the estimator of each node that it writes."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        before = len(container.nodes)
        original(scope, operator, container)
        written.update((node.name, operator.raw_operator) for node in container.nodes[before:])

    return convert


def _widened(shapes: Shapes, place: int) -> Shapes:
    """Return what sets the same shapes, but declares the output at `place` as float64 if the numbers read are."""

    def calculate(operator: Any) -> None:
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

        shapes(operator)
        output = operator.outputs[place]
        if isinstance(operator.inputs[0].type, DoubleTensorType) and isinstance(output.type, FloatTensorType):
            output.type = DoubleTensorType(output.type.shape)

    return calculate
