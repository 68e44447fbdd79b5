"""
Do a model's rows depend on each other? Measured on the model's own answers.

A network may normalize over its rows, for instance. Then a row's answer is right only next to the rows that it came
with: they must not be sent apart, nor run with those of other requests.

Invariant: rows count as dependent only if an answer has changed beyond what rounding explains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from mlflow_redisai.models import graph
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.reference import NoReference
from mlflow_redisai.models.trials.probes import made_up
from mlflow_redisai.models.trials.splitting import answer_or_none, rows_at, rows_in
from redisai_engine.codec.compare import Difference, compare, tolerance_of
from redisai_engine.codec.fields import is_frame, is_series
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.prediction import predict
from redisai_engine.codec.values import Array

# Enough to see a dependency, few enough for large networks.
_ROWS = 6

# Libraries add up numbers in another order for another number of rows.
_SLACK = 4

NOTE = (
    "the answers of its rows depend on each other: predict sends all rows in one request, "
    "and batchsize, which would run requests together, is refused"
)

Answers = Callable[[Any], Any]


def measured(deployable: Deployable, example: Any, what: str) -> Deployable:
    """
    Return the deployable with what its model's answers to rearranged rows show, and a note if rows are dependent.

    Rows are made up around the example. A model that answers none, or takes one row at a time, isn't measured.
    """
    mapping = deployable.mapping
    # Tokenizers pad texts, and attention ignores the padding: converters have compared that.
    if mapping.batch == 1 or mapping.text is not None:
        return deployable
    answers = _answers_of(deployable, what)
    for rows in _candidates(deployable, example) if answers is not None else ():
        if answers is not None and (whole := answer_or_none(answers, rows)) is not None:
            if _independent(answers, rows, whole, mapping):
                return deployable
            return replace(deployable, mapping=replace(mapping, independent=False), notes=(*deployable.notes, NOTE))
    return deployable


def _answers_of(deployable: Deployable, what: str) -> Answers | None:
    """Return the model's own answers; without a reference, those of its graph."""
    reference, mapping = deployable.reference, deployable.mapping
    if not isinstance(reference, NoReference):
        return reference.answer
    if deployable.backend != "ONNX":
        return None
    run = graph.runner(deployable.blob, mapping.fetch, what)
    return lambda rows: predict(run, mapping, rows)[0]


def _candidates(deployable: Deployable, example: Any) -> Iterator[Any]:
    """Yield rows to measure with, at least two of them, the most telling first."""
    mapping = deployable.mapping
    made = [] if mapping.schema is None else [made_up(mapping.schema, example, {})]
    for rows in (deployable.sample, *made, example):
        if _has_rows(rows) and rows_in(rows) > 1:
            yield rows_at(rows, np.arange(min(rows_in(rows), mapping.batch or _ROWS)))


def _has_rows(rows: Any) -> bool:
    each = rows.values() if isinstance(rows, dict) else [rows]
    return bool(each) and all(is_frame(one) or isinstance(one, np.ndarray) for one in each)


def _independent(answers: Answers, rows: Any, whole: Any, mapping: Mapping) -> bool:
    """Return whether each row is answered as among all of them: in another order, next to other rows, and alone."""
    count = rows_in(rows)
    if not _row_by_row(whole, count):
        return False
    backwards = np.arange(count)[::-1]
    # Each arrangement of rows, and which of its answers are compared.
    arrangements = [(backwards, count), (np.zeros(count, int), 1), (np.r_[count - 1, np.zeros(count - 1, int)], 1)]
    if mapping.batch is None:
        arrangements += [(np.array([0]), 1), (np.array([count - 1]), 1), (np.arange((count + 1) // 2), count)]
    tolerance = _SLACK * tolerance_of(mapping)
    for places, compared in arrangements:
        found = answer_or_none(answers, rows_at(rows, places))
        # None: refused for its number of rows, which isn't measured here.
        if found is not None and not _same(whole, found, places, compared, tolerance):
            return False
    return True


def _same(whole: Any, found: Any, places: Array, compared: int, tolerance: float) -> bool:
    """Return whether the first answers among `found` are those of the rows at `places` among the whole."""
    if not _row_by_row(found, len(places)):
        return False
    shown = np.arange(min(compared, len(places)))
    try:
        compare(_at(whole, places[shown]), _at(found, shown), tolerance)
    except Difference:
        return False
    return True


def _row_by_row(answer: Any, count: int) -> bool:
    """Return whether an answer has one part for each row."""
    if isinstance(answer, dict):
        return all(_row_by_row(each, count) for each in answer.values())
    if _is_listed(answer):
        return all(_row_by_row(each, count) for each in answer)
    return hasattr(answer, "__len__") and np.ndim(answer) > 0 and len(answer) == count


def _is_listed(answer: Any) -> bool:
    """Return whether an answer is a list of arrays: one for each output, not for each row."""
    return isinstance(answer, list) and bool(answer) and isinstance(answer[0], np.ndarray)


def _at(answer: Any, rows: Array) -> Any:
    if isinstance(answer, dict):
        return {name: _at(each, rows) for name, each in answer.items()}
    if _is_listed(answer):
        return [_at(each, rows) for each in answer]
    if isinstance(answer, list):
        return [answer[row] for row in rows]
    return answer.iloc[rows].reset_index(drop=True) if is_frame(answer) or is_series(answer) else answer[rows]
