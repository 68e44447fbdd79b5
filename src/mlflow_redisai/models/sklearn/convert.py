"""
The flavor sklearn: skl2onnx converts the estimator to ONNX; this module chooses the precision, and tries the result.

Theory of operation. scikit-learn computes in float64, except that its trees read float32. ONNX's operators for trees
and support vectors know only float32. So there are three ways to convert: all in float64; transformers in float64 and
the last estimator in float32, which is exactly what scikit-learn does for trees; all in float32. `_candidates` orders
the ways that suit the model. They are tried until a graph loads and answers the probes as the model itself does.

Invariant: the graph's inputs have the signature's types, whichever types it computes in. A Cast follows them.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_redisai.errors import MissingConverter, NotConvertible
from mlflow_redisai.models import graph
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel, may_run_code
from mlflow_redisai.models.native import load_native
from mlflow_redisai.models.reference import NoReference, Reference
from mlflow_redisai.models.signature import matrix_dtype, schema_of, schema_without_signature, tensor_name
from mlflow_redisai.models.sklearn.answers import chosen_reference, default_reference
from mlflow_redisai.models.sklearn.boosting_steps import register_boosting
from mlflow_redisai.models.sklearn.converters.likelihoods import LOGARITHMS, is_by_likelihood
from mlflow_redisai.models.sklearn.converters.outputs import OUTPUT_OF, arrange_outputs, split_columns
from mlflow_redisai.models.sklearn.edges import edges_of
from mlflow_redisai.models.sklearn.estimators import (
    cast_before_last,
    convertible,
    counts_neighbours,
    every_estimator,
    is_boosted,
    last_of,
    reads_float32,
    takes_columns,
    trained_names,
    unfolded,
    unread_columns,
    walk,
)
from mlflow_redisai.models.sklearn.float64 import to_float64
from mlflow_redisai.models.sklearn.options import refuse_unknown_options
from mlflow_redisai.models.sklearn.refusals import at_node, unconverted
from mlflow_redisai.models.sklearn.registration.register import own_converters
from mlflow_redisai.models.sklearn.sparse_rows import note_sparse_scaling
from mlflow_redisai.models.sklearn.text_vectorizers import vectorizer_options
from mlflow_redisai.models.sklearn.trees import plain_tree_attributes, set_ways_of_gaps, with_float32_thresholds
from mlflow_redisai.models.trees.convert import NEWEST_NEEDED
from mlflow_redisai.models.trials.checks import checked, probes, with_outputs
from mlflow_redisai.models.trials.contracts import passes, without_missing_text
from mlflow_redisai.models.trials.rows import Huge
from mlflow_redisai.models.trials.splitting import answer_or_none
from redisai_engine.codec.fields import is_frame
from redisai_engine.codec.mapping import Answer, Container, Input, Mapping, Output, Part, Schema
from redisai_engine.codec.onnx_types import dtype_of, free_inputs, shape_of
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class SklearnConversion:
    """
    One conversion. `function` is the method that pyfunc calls.

    `estimator` is what is converted. It answers as `native`, the model itself, to all that this one doesn't refuse.
    """

    model: MlflowModel
    request: Request
    native: Any
    estimator: Any
    function: str
    schema: Schema

    @property
    def what(self) -> str:
        return f"the scikit-learn model {type(self.native).__name__}"

    @property
    def reference(self) -> Reference:
        return default_reference(self.model, self.native, self.function)

    @property
    def by_column(self) -> bool:
        return takes_columns(self.estimator, self.schema)


@dataclass(frozen=True)
class Precisions:
    """The types that a graph computes in: `body` for the transformers, `last` for the last estimator."""

    body: DType
    last: DType


def convert(model: MlflowModel, request: Request) -> Deployable:
    """Convert a scikit-learn estimator or pipeline. Raise NotConvertible or MissingConverter."""
    conversion = _read(model, request)
    edges = edges_of(conversion.estimator, conversion.schema)
    schema, inputs = probes(conversion.reference, conversion.schema, model.input_example, edges)
    # Chosen outputs have methods of their own, which may answer where pyfunc's doesn't.
    if model.input_example is not None and not inputs and not request.outputs and may_run_code():
        raise NotConvertible(
            f"{conversion.what} refuses its own input example and every row made up around it, so nothing shows that "
            "a deployment would answer as it does; log a model that answers its example"
        )
    conversion = replace(conversion, schema=schema)
    plain = without_missing_text(schema)
    try:
        return _converted(conversion, inputs)
    except NotConvertible as problem:
        if plain == schema:
            raise
        inputs = [each for each in inputs if passes(plain, each)]
        deployable = _converted(replace(conversion, schema=plain), inputs)
        note = f"missing text is refused, which the model itself answers: {problem.message}"
        return replace(deployable, notes=(*deployable.notes, note))


def _converted(conversion: SklearnConversion, inputs: list[Any]) -> Deployable:
    """Return the first conversion, in order of preference, that answers these inputs as the model does."""
    problems: list[NotConvertible] = []
    for function, precisions in itertools.product(_functions(conversion), _candidates(conversion)):
        try:
            deployable = _try(conversion, function, precisions, inputs)
            return replace(deployable, notes=(*deployable.notes, *_notes(conversion, precisions, problems)))
        except NotConvertible as problem:
            problems.append(problem)
    # Report the problem of the preferred way.
    raise problems[0]


def _notes(conversion: SklearnConversion, precisions: Precisions, problems: list[NotConvertible]) -> tuple[str, ...]:
    """
    Return a note if numbers are rounded to float32 before a tree reads them, because float64 failed.

    Thresholds are often numbers of the training rows, so rounding can decide which branch a row takes.
    """
    asks = any(reads_float32(each) or is_boosted(each) for each in every_estimator(conversion.estimator))
    if not problems or precisions.body is dtypes.DOUBLE or not asks:
        return ()
    note = "the pipeline runs in float32, so a row right at a tree's threshold may take the other branch"
    return (f"{note}; float64 was not possible: {problems[0].message}",)


def _read(model: MlflowModel, request: Request) -> SklearnConversion:
    try:
        import skl2onnx  # noqa: F401
    except ImportError as error:
        raise MissingConverter("sklearn", "skl2onnx", "sklearn") from error
    estimator = load_native(model, "sklearn")
    function = _function(model, estimator)
    refuse_unknown_options(walk(unfolded(estimator, function)))
    schema = schema_of(model.input_schema, unread_columns(estimator, model.input_schema))
    schema = schema or schema_without_signature(model.input_example, estimator, trained_names(estimator))
    return SklearnConversion(model, request, estimator, unfolded(estimator, function), function, schema)


def _function(model: MlflowModel, estimator: Any) -> str:
    """Return the method that pyfunc calls, or transform for an estimator without predict. Raise NotConvertible."""
    function = str(model.meta.flavors.get("python_function", {}).get("predict_fn", "predict"))
    if function == "predict" and not hasattr(estimator, "predict") and hasattr(estimator, "transform"):
        return "transform"
    if function not in OUTPUT_OF:
        others = ", ".join(each for each in OUTPUT_OF if each != "transform")
        raise NotConvertible(
            f"the scikit-learn model {type(estimator).__name__} was logged with pyfunc_predict_fn={function!r}, "
            f"which ONNX can't express; log it with one of {others}"
        )
    return function


# -- trying the ways ------------------------------------------------------------------------------


def _candidates(conversion: SklearnConversion) -> list[Precisions]:
    numbers = [item.dtype for item in conversion.schema.fields if not item.dtype.is_string]
    exact = Precisions(dtypes.DOUBLE, dtypes.DOUBLE)
    # Some steps pass integers on that float64 can't hold.
    if (
        conversion.function == "transform"
        and all(dtype is dtypes.INT64 for dtype in numbers)
        and _passes_on(conversion)
    ):
        return [Precisions(dtypes.INT64, dtypes.INT64), exact]
    mixed = Precisions(dtypes.DOUBLE, dtypes.FLOAT)
    single = Precisions(dtypes.FLOAT, dtypes.FLOAT)
    # Many estimators compute in float32 if that is what they get. Trees always read float32.
    if numbers and all(dtype is dtypes.FLOAT for dtype in numbers):
        return [single, exact]
    if reads_float32(conversion.estimator):
        return [exact, mixed]
    return [exact] if counts_neighbours(conversion.estimator) else [exact, mixed, single]


def _passes_on(conversion: SklearnConversion) -> bool:
    """Return whether the estimator chooses columns or fills gaps, and does nothing else."""
    last = conversion.estimator
    passes = hasattr(last, "get_support") or type(last).__name__ == "SimpleImputer"
    return passes and conversion.function == "transform" and not conversion.by_column


def _functions(conversion: SklearnConversion) -> list[str]:
    """Return the methods to convert for: pyfunc's, and predict_proba if the user chose the output probabilities."""
    asks = "probabilities" in conversion.request.outputs and hasattr(conversion.estimator, "predict_proba")
    return list(dict.fromkeys((conversion.function, "predict_proba"))) if asks else [conversion.function]


def _try(conversion: SklearnConversion, function: str, precisions: Precisions, inputs: list[Any]) -> Deployable:
    proto, written = _to_onnx(conversion, function, precisions)
    try:
        return _finished(conversion, proto, inputs)
    except NotConvertible as problem:
        reason = at_node(problem, conversion.estimator, written)
        if reason is None:
            raise
        raise NotConvertible(f"{conversion.what} can't be converted to ONNX: {reason}") from problem.__cause__


def _finished(conversion: SklearnConversion, proto: onnx.ModelProto, inputs: list[Any]) -> Deployable:
    estimator = conversion.estimator
    names = arrange_outputs(proto, estimator, last_of(estimator), conversion.function, conversion.what)
    columns = _columns_of_frame(conversion, inputs)
    names = split_columns(proto, names[0], len(columns)) if columns else names
    blob = graph.finish(proto, conversion.request.limits, conversion.what)
    mapping = _mapping(proto, conversion, names)
    if columns:
        parts = tuple(Part(name, dtype, (-1,)) for name, dtype in columns.items())
        mapping = replace(mapping, answer=Answer("dataframe", parts))
    deployable = checked(Deployable("sklearn", "ONNX", blob, mapping, conversion.reference), inputs, conversion.what)
    chosen = conversion.request.outputs
    if not chosen:
        return deployable

    def own(outputs: Sequence[Output]) -> Reference | NoReference:
        return chosen_reference(conversion.model, conversion.native, conversion.function, names, outputs)

    return with_outputs(deployable, chosen, own, inputs, conversion.what)


def _columns_of_frame(conversion: SklearnConversion, inputs: list[Any]) -> dict[str, str]:
    """Return the names and types of the columns if the estimator transforms rows to a frame of numbers, else none."""
    if conversion.function != "transform" or not inputs or isinstance(inputs[0], Huge):
        return {}
    answer = answer_or_none(conversion.reference.answer, inputs[0])
    numbers = is_frame(answer) and answer.columns.is_unique and all(kind.kind in "biuf" for kind in answer.dtypes)
    if not numbers:
        return {}
    return {str(name): kind.name for name, kind in answer.dtypes.items()}


def _to_onnx(
    conversion: SklearnConversion, function: str, precisions: Precisions
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the graph, and the estimator that each of its nodes was written for."""
    from skl2onnx import convert_sklearn

    estimator = convertible(conversion.estimator, function)
    if precisions.last is dtypes.FLOAT and reads_float32(estimator):
        estimator = with_float32_thresholds(estimator)
    if precisions.last is not precisions.body:
        estimator = cast_before_last(estimator)
    types = _initial_types(conversion, precisions.body)
    limits = conversion.request.limits
    register_boosting(estimator)
    note_sparse_scaling(estimator)
    try:
        with warnings.catch_warnings(), plain_tree_attributes(), own_converters() as written:
            warnings.simplefilter("ignore")
            proto: onnx.ModelProto = convert_sklearn(
                estimator,
                initial_types=types,
                # For a server of older versions, `graph.finish` lowers the trees.
                target_opset={"": limits.opset, "ai.onnx.ml": max(limits.ml_opset, NEWEST_NEEDED[1])},
                options=_options(estimator, function),
            )
    except NotConvertible as error:
        raise NotConvertible(f"{conversion.what}: {error.message}") from error
    # skl2onnx passes on anything that its converters raise, even AssertionError and KeyError.
    except Exception as error:
        raise NotConvertible(
            f"{conversion.what} can't be converted to ONNX: {unconverted(conversion.estimator, error)}"
        ) from error
    _drop_unread(proto, conversion)
    if precisions.body is dtypes.DOUBLE:
        to_float64(proto, every_estimator(conversion.estimator))
    set_ways_of_gaps(proto, conversion.estimator)
    _restore_input_types(proto, conversion)
    return proto, written


def _drop_unread(proto: onnx.ModelProto, conversion: SklearnConversion) -> None:
    """Remove, in place, the inputs of columns that the model doesn't read."""
    for item, field in zip(list(proto.graph.input), conversion.schema.fields, strict=False):
        if not field.used:
            proto.graph.input.remove(item)


def _options(estimator: Any, function: str) -> dict[int, dict[str, Any]]:
    """Return skl2onnx's options: probabilities as a matrix instead of a list of dicts, and scikit-learn's own words."""
    from sklearn.base import is_classifier
    from sklearn.ensemble import IsolationForest
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.svm import SVC

    options = vectorizer_options(estimator)
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if isinstance(last, IsolationForest):
        options[id(last)] = {"score_samples": True}
    if is_classifier(last) and not isinstance(last, (MultiOutputClassifier, ClassifierChain)):
        options[id(last)] = {"zipmap": False}
    if function == "decision_function" and is_classifier(last):
        options[id(last)] = _scores_instead(last)
    if function == "predict_log_proba" and is_by_likelihood(last):
        options[id(last)][LOGARITHMS] = True
    # scikit-learn compares the scores of the classes, not the probabilities made from them.
    scored = (SVC, LogisticRegression)
    if function == "predict" and isinstance(last, OneVsRestClassifier) and isinstance(last.estimators_[0], scored):
        options[id(last)]["raw_scores"] = True
    return options


def _scores_instead(estimator: Any) -> dict[str, Any]:
    """Return the options with which a classifier's scores stand in for its probabilities. Raise NotConvertible."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import _converter_pool

    name = sklearn_operator_name_map.get(type(estimator))
    allowed = _converter_pool[name].get_allowed_options() if name in _converter_pool else None
    if not isinstance(allowed, dict) or "raw_scores" not in allowed:
        raise NotConvertible(
            f"the decision_function of {type(estimator).__name__} can't be converted to ONNX; "
            "log the model with predict or predict_proba"
        )
    return {"raw_scores": True, **({"zipmap": False} if "zipmap" in allowed else {})}


def _initial_types(conversion: SklearnConversion, body: DType) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

    schema = conversion.schema
    number = {dtypes.DOUBLE: DoubleTensorType, dtypes.INT64: Int64TensorType}.get(body, FloatTensorType)
    if conversion.by_column:
        return [
            (tensor_name(item.name, index), (StringTensorType if item.dtype.is_string else number)([None, 1]))
            for index, item in enumerate(schema.fields)
        ]
    if schema.kind == "columns":
        kind = StringTensorType if schema.fields[0].dtype.is_string else number
        return [("input", kind([None, len(schema.fields)]))]
    item = schema.fields[0]
    kind = StringTensorType if item.dtype.is_string else number
    return [("input", kind([None, *item.shape[1:]]))]


def _restore_input_types(proto: onnx.ModelProto, conversion: SklearnConversion) -> None:
    """Change the graph, in place, to take the signature's types and cast them to those that it computes in."""
    for item, fields in zip(free_inputs(proto), _fields(proto, conversion), strict=True):
        wanted = conversion.schema.fields[fields[0]].dtype if conversion.by_column else matrix_dtype(conversion.schema)
        if dtype_of(item) is not wanted:
            graph.cast_input(proto, item, wanted)


def _fields(proto: onnx.ModelProto, conversion: SklearnConversion) -> list[tuple[int, ...]]:
    """
    Return the fields that each of the graph's inputs is filled from: one column, or all of them as a matrix.

    Inputs are matched by order, not by name: skl2onnx renames columns that aren't identifiers ("mean radius") or that
    have the name of one of its outputs ("label").
    """
    count = len(free_inputs(proto))
    if not conversion.by_column:
        return [tuple(range(len(conversion.schema.fields)))] * count
    read: list[tuple[int, ...]] = [(index,) for index, item in enumerate(conversion.schema.fields) if item.used]
    if count != len(read):
        raise NotConvertible(f"{conversion.what} reads {len(read)} columns, but its ONNX graph has {count} inputs")
    return read


# -- mapping ---------------------------------------------------------------------------------------


def _mapping(proto: onnx.ModelProto, conversion: SklearnConversion, names: list[str]) -> Mapping:
    outputs = tuple(Output(item.name, dtype_of(item), shape_of(item)) for item in proto.graph.output)
    positions = [item.name for item in outputs]
    fetch = tuple(positions.index(name) for name in names)
    container: Container = "ndarray" if len(names) == 1 else "list"
    parts = tuple(_expected_part(conversion, name) for name in names)
    return Mapping(
        _inputs(proto, conversion),
        outputs,
        fetch,
        Answer(container, parts),
        conversion.schema,
        depth=graph.depth(proto),
        precision=dtypes.FLOAT if _has_few_digits(conversion) else graph.precision(proto),
    )


def _has_few_digits(conversion: SklearnConversion) -> bool:
    """
    Return whether rounding shows in the model's own answer, even in float64.

    A small probability that is 1 minus another has few digits, and its logarithm shows that. A distance to a centre is
    the root of a difference, of which right at the centre only rounding is left.
    """
    distances = conversion.function == "transform" and any(
        hasattr(one, "cluster_centers_") for one in every_estimator(conversion.estimator)
    )
    return distances or conversion.function == "predict_log_proba"


def _inputs(proto: onnx.ModelProto, conversion: SklearnConversion) -> tuple[Input, ...]:
    return tuple(
        Input(item.name, dtype_of(item), shape_of(item), fields)
        for item, fields in zip(free_inputs(proto), _fields(proto, conversion), strict=True)
    )


def _expected_part(conversion: SklearnConversion, name: str) -> Part:
    """Return the part of the answer that pyfunc is expected to give. The model's answer to a probe overrides it."""
    if conversion.function != "predict":
        return Part(name, "float64")
    classes = getattr(conversion.estimator, "classes_", None)
    if isinstance(classes, np.ndarray):
        return Part(name, classes.dtype.str if classes.dtype.kind == "U" else classes.dtype.name, (-1,))
    return Part(name, "float64" if hasattr(conversion.estimator, "coef_") else None)
