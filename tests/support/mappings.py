"""Mappings with one input matrix, as converters make them for models of columns and of arrays."""

from __future__ import annotations

from redisai_engine.codec.mapping import Answer, Field, Input, Mapping, Output, Part, Schema
from redisai_engine.protocol import dtypes

ANSWER = Answer("ndarray", (Part("y"),))


def matrix(*names: str, kind: str = "double", batch: int | None = None) -> Mapping:
    """Return one DOUBLE matrix of named columns."""
    dtype = {"double": dtypes.DOUBLE, "long": dtypes.INT64, "string": dtypes.STRING}[kind]
    fields = tuple(Field(name, kind, dtype) for name in names)
    inputs = (Input("x", dtype, (batch, len(names)), tuple(range(len(names)))),)
    return Mapping(inputs, (Output("y"),), (0,), ANSWER, Schema("columns", fields), batch)


def unnamed(width: int = 2, batch: int | None = None) -> Mapping:
    """Return a tensor signature without names, as for a model trained on an array."""
    schema = Schema("tensors", (Field(None, "float64", dtypes.DOUBLE, (batch, width)),))
    inputs = (Input("x", dtypes.DOUBLE, (batch, width), (0,)),)
    return Mapping(inputs, (Output("y"),), (0,), ANSWER, schema, batch)
