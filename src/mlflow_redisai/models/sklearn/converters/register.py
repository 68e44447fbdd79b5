"""
The table of our own converters, by skl2onnx's names of operators, and their registration for one conversion.

Invariant: outside of `own_converters`, skl2onnx is as it was installed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from mlflow_redisai.models.sklearn.converters import columns, forests, text_gaps

# Sets the types of an operator's outputs.
Shapes = Callable[[Any], None]
Converter = Callable[[Any, Any, Any], None]

_CONVERTERS: dict[str, Converter] = {
    "SklearnBinarizer": columns.convert_binarizer,
    "SklearnDecisionTreeClassifier": forests.convert_classifier,
    "SklearnDecisionTreeRegressor": forests.convert_regressor,
    "SklearnExtraTreeClassifier": forests.convert_classifier,
    "SklearnExtraTreeRegressor": forests.convert_regressor,
    "SklearnExtraTreesClassifier": forests.convert_classifier,
    "SklearnExtraTreesRegressor": forests.convert_regressor,
    "SklearnGradientBoostingClassifier": forests.convert_boosting_classifier,
    "SklearnGradientBoostingRegressor": forests.convert_boosting_regressor,
    "SklearnIsolationForest": forests.convert_isolation_forest,
    "SklearnKBinsDiscretizer": columns.convert_bins,
    "SklearnNormalizer": columns.convert_normalizer,
    "SklearnOneHotEncoder": columns.convert_one_hot,
    "SklearnOrdinalEncoder": columns.convert_ordinal,
    "SklearnRandomForestClassifier": forests.convert_classifier,
    "SklearnRandomForestRegressor": forests.convert_regressor,
    "SklearnSimpleImputer": text_gaps.convert_imputer,
}

_SHAPES: dict[str, Shapes] = {
    "SklearnIsolationForest": forests.isolation_forest_shapes,
    "SklearnKBinsDiscretizer": columns.bins_shapes,
    "SklearnOneHotEncoder": columns.one_hot_shapes,
    "SklearnOrdinalEncoder": columns.ordinal_shapes,
}

# Classifiers whose probabilities skl2onnx declares as float32, whatever they are computed from.
_WIDENED = (
    "SklearnDecisionTreeClassifier",
    "SklearnExtraTreeClassifier",
    "SklearnExtraTreesClassifier",
    "SklearnGradientBoostingClassifier",
    "SklearnRandomForestClassifier",
)


@contextlib.contextmanager
def own_converters() -> Iterator[None]:
    """Let skl2onnx use our converters inside the `with` block."""
    from skl2onnx.common import _registration as registration

    pools = (registration._converter_pool, registration._shape_calculator_pool)
    before = [dict(pool) for pool in pools]
    for name, convert in _CONVERTERS.items():
        options = registration._converter_pool[name].get_allowed_options()
        registration.register_converter(name, convert, overwrite=True, options=options)
    for name, shapes in _SHAPES.items():
        registration.register_shape_calculator(name, shapes, overwrite=True)
    for name in _WIDENED:
        shapes = registration._shape_calculator_pool[name]
        registration.register_shape_calculator(name, _widened(shapes), overwrite=True)
    try:
        yield
    finally:
        for pool, kept in zip(pools, before, strict=True):
            pool.clear()
            pool.update(kept)


def _widened(shapes: Shapes) -> Shapes:
    """Return what sets the same shapes, but declares the probabilities as float64 if the numbers read are."""

    def calculate(operator: Any) -> None:
        from skl2onnx.common.data_types import DoubleTensorType

        shapes(operator)
        if isinstance(operator.inputs[0].type, DoubleTensorType):
            operator.outputs[1].type = DoubleTensorType(operator.outputs[1].type.shape)

    return calculate
