"""MLflow's JSON forms of the same rows, and models that take them."""

from __future__ import annotations

from typing import Any

from redisai_engine.codec.mapping import Answer, Field, Input, Mapping, Output, Part, Schema
from redisai_engine.protocol import dtypes

TYPES = {"code": "string", "made_at": "string", "amount": "double", "count": "long", "paid": "boolean"}
DTYPES = {
    "string": dtypes.STRING,
    "double": dtypes.DOUBLE,
    "long": dtypes.INT64,
    "boolean": dtypes.BOOL,
}
ROWS: list[dict[str, Any]] = [
    {"code": "001", "made_at": "2024-01-05", "amount": 1.0, "count": 3, "paid": True},
    {"code": "7", "made_at": "2023-12-31", "amount": 2.0, "count": 4, "paid": False},
]
SPLIT = {"columns": list(TYPES), "data": [list(row.values()) for row in ROWS]}
FORMS: dict[str, Any] = {
    "records": ROWS,
    "columns": {name: [row[name] for row in ROWS] for name in TYPES},
    "columns by row label": {name: {"0": ROWS[0][name], "1": ROWS[1][name]} for name in TYPES},
    "dataframe_split": {"dataframe_split": SPLIT},
    "dataframe_split with index": {"dataframe_split": {**SPLIT, "index": [7, 9]}},
    "dataframe_split with params": {"dataframe_split": SPLIT, "params": {"temperature": 1}},
    "dataframe_records": {"dataframe_records": ROWS},
    "inputs": {"inputs": {name: [row[name] for row in ROWS] for name in TYPES}},
    "inputs as records": {"inputs": ROWS},
    "instances": {"instances": ROWS},
}


def mapping() -> Mapping:
    """Return a model with one tensor for each of five columns of different types."""
    fields = tuple(Field(name, kind, DTYPES[kind]) for name, kind in TYPES.items())
    inputs = tuple(Input(item.name or "", item.dtype, (None, 1), (index,)) for index, item in enumerate(fields))
    answer = Answer("ndarray", (Part("y"),))
    return Mapping(inputs, (Output("y"),), (0,), answer, Schema("columns", fields))


def matrix_mapping(*, names: tuple[str, ...] = (), kind: str = "double") -> Mapping:
    if names:
        schema = Schema("columns", tuple(Field(name, kind, DTYPES[kind]) for name in names))
    else:
        schema = Schema("tensors", (Field(None, "float64", dtypes.DOUBLE, (None, 2)),))
    inputs = (Input("x", DTYPES[kind], (None, 2), tuple(range(len(names))) or (0,)),)
    return Mapping(inputs, (Output("y"),), (0,), Answer("ndarray", (Part("y"),)), schema)


def columns(tensors: list[Any]) -> dict[str, list[Any]]:
    return {name: tensor.array().ravel().tolist() for name, tensor in zip(TYPES, tensors, strict=True)}


EXPECTED = {name: [row[name] for row in ROWS] for name in TYPES}
