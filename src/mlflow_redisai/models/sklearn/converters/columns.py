"""
Transformers that sort numbers and categories into classes: bins, thresholds, categories and norms, all in float64.

skl2onnx casts to float32 or to integers first, so a number beside an edge is sorted otherwise, and 1.5 counts as 1.

Invariant: a category that scikit-learn refuses has no place in the encoder's table, and ONNX Runtime refuses the
request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, is_text, nodes_of, numbers, put, row_max, source
from mlflow_redisai.models.sklearn.converters.gaps import as_text
from redisai_engine.codec.values import Array

# The version of ai.onnx.ml with the LabelEncoder from any type to any.
_ML_OPSET = 2

# From here on, float64 doesn't hold every integer.
_WHOLE = 2.0**53


def _finish(nodes: Nodes, answer: str, operator: Any, container: Any) -> None:
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container, _ML_OPSET)


def convert_binarizer(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "binarizer")
    threshold = nodes.constant(np.float64(operator.raw_operator.threshold))
    above = nodes.add("Greater", numbers(nodes, operator), threshold)
    _finish(nodes, nodes.cast(above, np.float64), operator, container)


def convert_normalizer(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "normalizer")
    rows = numbers(nodes, operator)
    match operator.raw_operator.norm:
        case "l1":
            norms = _sum(nodes, nodes.add("Abs", rows))
        case "l2":
            norms = nodes.add("Sqrt", _sum(nodes, nodes.add("Mul", rows, rows)))
        case _:
            norms = row_max(nodes, nodes.add("Abs", rows))
    # scikit-learn divides by a norm that is almost zero as if it were one.
    single = type(operator.inputs[0].type).__name__ == "FloatTensorType"
    least = 10 * np.finfo(np.float32 if single else np.float64).eps
    small = nodes.add("Less", norms, nodes.constant(np.float64(least)))
    divisors = nodes.add("Where", small, nodes.constant(np.float64(1)), norms)
    _finish(nodes, nodes.add("Div", rows, divisors), operator, container)


def _sum(nodes: Nodes, rows: str) -> str:
    return nodes.add("ReduceSum", rows, nodes.constant(np.array([1])), keepdims=1)


def convert_largest(scope: Any, operator: Any, container: Any) -> None:
    """Divide by the largest number of each column. skl2onnx doesn't cut what is larger."""
    nodes = nodes_of(scope, "largest")
    estimator = operator.raw_operator
    scale = np.asarray(estimator.scale_, np.float64)
    if getattr(estimator, "takes_sparse_rows", False):
        answer = nodes.add("Mul", numbers(nodes, operator), nodes.constant(1 / scale))
    else:
        answer = nodes.add("Div", numbers(nodes, operator), nodes.constant(scale))
    if getattr(estimator, "clip", False):
        for sign, comparison in ((1.0, "Greater"), (-1.0, "Less")):
            bound = nodes.constant(np.float64(sign))
            # A gap is on neither side.
            answer = nodes.add("Where", nodes.add(comparison, answer, bound), bound, answer)
    _finish(nodes, answer, operator, container)


def convert_frequencies(scope: Any, operator: Any, container: Any) -> None:
    """Weight counted words. skl2onnx damps one more than their number, which leaves no words at zero, too."""
    nodes = nodes_of(scope, "frequencies")
    estimator = operator.raw_operator
    rows = numbers(nodes, operator)
    zero, one = nodes.constant(np.float64(0)), nodes.constant(np.float64(1))
    if estimator.sublinear_tf:
        absent = nodes.add("Equal", rows, zero)
        damped = nodes.add("Add", nodes.add("Log", nodes.add("Where", absent, one, rows)), one)
        rows = nodes.add("Where", absent, zero, damped)
    if estimator.use_idf:
        rows = nodes.add("Mul", rows, nodes.constant(np.asarray(estimator.idf_, np.float64)))
    if estimator.norm is not None:
        squares = nodes.add("Mul", rows, rows) if estimator.norm == "l2" else nodes.add("Abs", rows)
        norms = _sum(nodes, squares)
        norms = nodes.add("Sqrt", norms) if estimator.norm == "l2" else norms
        divisors = nodes.add("Where", nodes.add("Equal", norms, zero), one, norms)
        rows = nodes.add("Div", rows, divisors)
    _finish(nodes, rows, operator, container)


# -- bins -----------------------------------------------------------------------------------------


def bins_shapes(operator: Any) -> None:
    estimator = operator.raw_operator
    width = len(estimator.n_bins_) if estimator.encode == "ordinal" else int(sum(estimator.n_bins_))
    operator.outputs[0].type.shape = [operator.inputs[0].get_first_dimension(), width]


def convert_bins(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "bins")
    estimator = operator.raw_operator
    rows = numbers(nodes, operator)
    if estimator.dtype is not None:
        rows = nodes.cast(nodes.cast(rows, estimator.dtype), np.float64)
    parts = []
    for index, edges in enumerate(estimator.bin_edges_):
        column = _column(nodes, rows, index)
        below = nodes.add("Less", column, nodes.constant(np.asarray(edges[1:-1], np.float64)))
        # The number of the bin is the number of edges that aren't above.
        bin_number = _sum(nodes, nodes.cast(nodes.add("Not", below), np.float64)) if len(edges) > 2 else ""
        bin_number = bin_number or nodes.add("Mul", column, nodes.constant(np.float64(0)))
        if estimator.encode != "ordinal":
            bins = nodes.constant(np.arange(estimator.n_bins_[index], dtype=np.float64))
            bin_number = nodes.cast(nodes.add("Equal", bin_number, bins), np.float64)
        parts.append(bin_number)
    _finish(nodes, nodes.add("Concat", *parts, axis=1), operator, container)


# -- categories -----------------------------------------------------------------------------------


def one_hot_shapes(operator: Any) -> None:
    width = sum(_one_hot_table(operator.raw_operator, index).shape[1] for index in _columns(operator))
    operator.outputs[0].type = _of_numbers(operator)([operator.inputs[0].get_first_dimension(), width])


def ordinal_shapes(operator: Any) -> None:
    shape = [operator.inputs[0].get_first_dimension(), len(operator.raw_operator.categories_)]
    operator.outputs[0].type = _of_numbers(operator)(shape)


def _of_numbers(operator: Any) -> Any:
    """Return skl2onnx's type for what an encoder makes. Text says nothing about the type of the other numbers."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType

    if np.dtype(operator.raw_operator.dtype).kind in "iu":
        return Int64TensorType
    kinds = {type(item.type).__name__ for item in operator.inputs}
    return FloatTensorType if kinds == {"FloatTensorType"} else DoubleTensorType


def convert_one_hot(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "one_hot")
    parts = []
    for index, (column, text) in zip(_columns(operator), _each_column(nodes, operator), strict=True):
        table = _one_hot_table(operator.raw_operator, index)
        if table.shape[1]:
            position = _position(nodes, column, operator.raw_operator.categories_[index], text)
            parts.append(nodes.add("Gather", nodes.constant(table), position, axis=0))
    _finish(nodes, nodes.add("Concat", *parts, axis=1), operator, container)


def convert_ordinal(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "ordinal")
    parts = []
    for index, (column, text) in zip(_columns(operator), _each_column(nodes, operator), strict=True):
        position = _position(nodes, column, operator.raw_operator.categories_[index], text)
        found = nodes.add("Gather", nodes.constant(_ordinal_table(operator.raw_operator, index)), position, axis=0)
        parts.append(nodes.add("Reshape", found, nodes.constant(np.array([-1, 1]))))
    _finish(nodes, nodes.add("Concat", *parts, axis=1), operator, container)


def target_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType

    shape = [operator.inputs[0].get_first_dimension(), len(operator.raw_operator.encodings_)]
    operator.outputs[0].type = DoubleTensorType(shape)


def convert_target(scope: Any, operator: Any, container: Any) -> None:
    """Write the encoder by the mean of the target: several columns for several classes, and the mean for the rest."""
    nodes = nodes_of(scope, "target_encoder")
    encoder = operator.raw_operator
    width = len(encoder.encodings_) // len(encoder.categories_)
    parts = []
    for index, (column, text) in zip(_columns(operator), _each_column(nodes, operator), strict=True):
        known = np.column_stack(encoder.encodings_[index * width : (index + 1) * width])
        table = np.vstack([known, np.broadcast_to(encoder.target_mean_, (1, width))])
        position = _position(nodes, column, encoder.categories_[index], text)
        parts.append(nodes.add("Gather", nodes.constant(table.astype(np.float64)), position, axis=0))
    _finish(nodes, nodes.add("Concat", *parts, axis=1), operator, container)


def _columns(operator: Any) -> range:
    return range(len(operator.raw_operator.categories_))


def _each_column(nodes: Nodes, operator: Any) -> Iterator[tuple[str, bool]]:
    """Yield the name of each column, and whether it is text."""
    for item in operator.inputs:
        width = item.type.shape[1] or len(operator.raw_operator.categories_)
        text = is_text(item)
        whole = item.full_name if text else nodes.cast(item.full_name, np.float64)
        for index in range(width):
            yield (whole if width == 1 else _column(nodes, whole, index)), text


def _column(nodes: Nodes, rows: str, index: int) -> str:
    return nodes.add("Gather", rows, nodes.constant(np.array([index])), axis=1)


def _position(nodes: Nodes, column: str, categories: Array, text: bool) -> str:  # noqa: FBT001
    """Return the name of the categories' positions, one a row; the number of categories stands for an unknown one."""
    count = len(categories)
    if text:
        found = nodes.add(
            "LabelEncoder",
            column,
            domain="ai.onnx.ml",
            keys_strings=[as_text(one) for one in categories],
            values_int64s=list(range(count)),
            default_int64=count,
        )
        return nodes.add("Reshape", found, nodes.constant(np.array([-1])))
    known = _as_numbers(categories)
    same = nodes.add("Equal", column, nodes.constant(known))
    if np.isnan(known).any():
        is_gap = nodes.add("Not", nodes.add("Equal", column, column))
        same = nodes.add("Or", same, nodes.add("And", is_gap, nodes.constant(np.isnan(known))))
    steps = nodes.add("Mul", nodes.cast(same, np.int64), nodes.constant(np.arange(count) - count))
    sums = nodes.add("ReduceSum", steps, nodes.constant(np.array([1])), keepdims=0)
    return nodes.add("Add", sums, nodes.constant(np.int64(count)))


def _as_numbers(categories: Array) -> Array:
    try:
        found = np.asarray(categories, np.float64)
    except (TypeError, ValueError):
        raise NotConvertible("categories of numbers and of text together can't be converted to ONNX") from None
    if categories.dtype.kind in "iuO" and (np.abs(found) >= _WHOLE).any():
        raise NotConvertible("categories beyond 2**53 can't be told apart in float64; make them text")
    return found


def _one_hot_table(encoder: Any, index: int) -> Array:
    """Return what each category becomes, one a row. The last row is that of unknown ones, if they are allowed."""
    columns = _groups(encoder, index)
    width = max(columns) + 1
    table = np.zeros((len(columns) + (encoder.handle_unknown != "error"), width))
    table[np.arange(len(columns)), columns] = 1
    if encoder.handle_unknown in ("infrequent_if_exist", "warn") and _has_groups(encoder, index):
        # The infrequent categories are the last column.
        table[-1, width - 1] = 1
    dropped = _dropped(encoder, index)
    return table if dropped is None else np.delete(table, dropped, axis=1)


def _ordinal_table(encoder: Any, index: int) -> Array:
    columns = np.asarray(_groups(encoder, index), np.float64)
    categories = encoder.categories_[index]
    if len(categories) and categories[-1] is not None and categories[-1] != categories[-1]:
        columns[-1] = encoder.encoded_missing_value
    return columns if encoder.handle_unknown == "error" else np.append(columns, float(encoder.unknown_value))


def _has_groups(encoder: Any, index: int) -> bool:
    """Return whether rare categories of this column are taken together."""
    mappings = getattr(encoder, "_default_to_infrequent_mappings", None)
    return mappings is not None and mappings[index] is not None


def _groups(encoder: Any, index: int) -> list[int]:
    if _has_groups(encoder, index):
        return [int(each) for each in encoder._default_to_infrequent_mappings[index]]
    return list(range(len(encoder.categories_[index])))


def _dropped(encoder: Any, index: int) -> int | None:
    found = getattr(encoder, "_drop_idx_after_grouping", None)
    return None if found is None or found[index] is None else int(found[index])


# -- selection ------------------------------------------------------------------------------------


def convert_selection(scope: Any, operator: Any, container: Any) -> None:
    """Pick columns. skl2onnx writes an operator that ONNX Runtime refuses if few are chosen."""
    nodes = nodes_of(scope, "selection")
    places = np.asarray(operator.raw_operator.get_support(indices=True), np.int64)
    chosen = nodes.add("Gather", source(nodes, operator), nodes.constant(places), axis=1)
    give(nodes, chosen, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)
