"""
Whether a model reads a sparse matrix as it reads the same numbers in a dense one, asked of the model itself.

XGBoost takes the zeros that a sparse matrix doesn't store for gaps, and some models take no sparse matrices at all.
Tensors are dense, so a deployment can only answer as the model does where both are the same.

Invariant: sparse matrices count as accepted only if the model has answered some, as it answers dense ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlflow_redisai.models.trials.splitting import answer_or_none, answered
from redisai_engine.codec.compare import Difference, compare
from redisai_engine.codec.mapping import Schema
from redisai_engine.codec.values import Array

_SEED = 20260103

# How many rows the model is asked for.
_ROWS = 400

# Sums may be computed in another order.
_TOLERANCE = 1e-5


def with_sparse(schema: Schema, tried: Sequence[Any], answer: Callable[[Any], Any]) -> Schema:
    """
    Return the schema with what the model makes of sparse matrices, for a model that takes one matrix of numbers.

    `tried` are inputs that the model answers; `answer` asks it, and raises what it raises.
    """
    if schema.kind != "tensors" or schema.named or len(schema.fields[0].shape) != 2:
        return schema
    matrices = [rows for rows in tried if isinstance(rows, np.ndarray) and rows.dtype.kind in "iuf" and rows.ndim == 2]
    accepted = bool(matrices) and _reads_zeros(np.concatenate(matrices), answer)
    return replace(schema, fields=(replace(schema.fields[0], sparse=accepted),))


def _reads_zeros(rows: Array, answer: Callable[[Any], Any]) -> bool:
    """Return whether the model answers sparse matrices as it answers dense ones."""
    from scipy.sparse import csr_matrix

    kept = answered(_with_zeros(rows), lambda inputs: answer_or_none(answer, inputs) is not None)
    if kept is None:
        return False
    try:
        compare(answer_or_none(answer, kept), answer_or_none(answer, csr_matrix(kept)), _TOLERANCE)
    except Difference:
        return False
    return True


def _with_zeros(rows: Array) -> Array:
    """Return some of the rows with zeros in about half of the cells."""
    random = np.random.default_rng(_SEED)
    some = rows[np.sort(random.permutation(len(rows))[:_ROWS])]
    return np.where(random.random(some.shape) < 0.5, some.dtype.type(0), some)
