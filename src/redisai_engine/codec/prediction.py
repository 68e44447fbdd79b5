"""
The steps of one prediction, for any runner of tensors: from an input's rows to requests, and from their answers back.

A model may take any number of rows, only one fixed number, or no more than is good for it. `split` makes requests
accordingly, and `join` puts their answers together. `predict` does all of it, one request after another. A caller that
runs requests concurrently or remotely takes the same steps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any

import numpy as np

from redisai_engine.codec.answers import decode
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.errors import AnswerMismatch, InputMismatch
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.tokens import ROWS, trimmed
from redisai_engine.protocol.tensor import Tensor

Array = np.ndarray[Any, Any]

# Runs one request: takes its input tensors, returns the fetched outputs in the order of `Mapping.fetch`.
Run = Callable[[list[Tensor]], list[Tensor]]


def predict(run: Run, mapping: Mapping, inputs: Any) -> tuple[Any, int]:
    """
    Encode the input, run one request after another, and decode. Return the answer and the number of rows.

    Raise InputMismatch.
    """
    tensors = Encoder(mapping).encode(inputs)
    if mapping.parcel:
        return decode(run(tensors), mapping, inputs), len(inputs) if isinstance(inputs, Sized) else 1
    rows = row_count(tensors, mapping)
    answers = [run(request) for request in split(tensors, mapping)]
    return decode(join(answers, rows), mapping, inputs), rows


def row_count(tensors: Sequence[Tensor], mapping: Mapping) -> int:
    """Return the number of rows of an encoded input. That of a parcel isn't known, so no answer to it is ever cut."""
    if mapping.parcel:
        return sys.maxsize
    for tensor, item in zip(tensors, mapping.inputs, strict=True):
        if item.shape is None or mapping.has_rows(item):
            return tensor.shape[0] if tensor.shape else 1
    return 1


def split(tensors: list[Tensor], mapping: Mapping, max_rows: int | None = None) -> list[list[Tensor]]:
    """
    Return requests of at most `max_rows` rows each, or of exactly the model's batch size if that is fixed.

    Raise InputMismatch for rows that depend on each other and don't fit into one.
    """
    size = request_rows(tensors, mapping, max_rows)
    return list(cut(tensors, mapping, lambda: size))


def request_rows(tensors: list[Tensor], mapping: Mapping, max_rows: int | None) -> int | None:
    """
    Return how many rows a request may have, where `max_rows` is good for it: None for all, a fixed batch for itself.

    Rows that depend on each other stay in one request; raise InputMismatch if they don't fit into it.
    """
    if mapping.parcel:
        return None
    if not mapping.independent:
        _check_together(row_count(tensors, mapping), mapping, max_rows)
        return None
    size = mapping.batch or max_rows
    if mapping.text is not None:
        size = min(size or ROWS, ROWS)
    if mapping.batch is None and not all(mapping.has_rows(item) for item in mapping.inputs):
        return None
    return size


def cut(tensors: list[Tensor], mapping: Mapping, next_rows: Callable[[], int | None]) -> Iterator[list[Tensor]]:
    """
    Yield requests one by one, each of as many rows as `next_rows` returns then: a number that `request_rows` allows.

    The last request of a fixed batch is padded with copies of its last row. join() drops the answers to them.
    """
    rows, size = row_count(tensors, mapping), next_rows()
    if size is None or (rows <= size and mapping.batch in {None, rows}):
        yield tensors
        return
    arrays = [tensor.array() for tensor in tensors]  # once, because reading text takes time
    batched = [mapping.has_rows(item) for item in mapping.inputs]
    start = 0
    while start < rows:
        size = next_rows() or rows
        request = [
            _rows(array, start, size, fill=mapping.batch is not None) if has_rows else tensor
            for array, tensor, has_rows in zip(arrays, tensors, batched, strict=True)
        ]
        start += size
        yield request if mapping.text is None else trimmed(request, mapping)


def _check_together(rows: int, mapping: Mapping, max_rows: int | None) -> None:
    if mapping.batch not in {None, rows}:
        raise InputMismatch(
            f"the model takes exactly {mapping.batch} rows, whose answers depend on each other, "
            f"but the input has {rows}"
        )
    if max_rows is not None and rows > max_rows:
        raise InputMismatch(
            "the answers of this model's rows depend on each other, so they can't be sent apart, and the input's "
            f"{rows} rows don't fit into one request; at most {max_rows} do"
        )


def _rows(array: Array, start: int, size: int, *, fill: bool) -> Tensor:
    part = array[start : start + size]
    if fill and len(part) < size:
        part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
    return Tensor.from_array(part)


def join(answers: Sequence[Sequence[Tensor]], rows: int) -> list[Tensor]:
    """
    Join the answers to the requests of split(): `rows` rows in the order of the input.

    Raise AnswerMismatch for answers of different shapes.
    """
    if len(answers) == 1:
        return [_first_rows(tensor, rows) for tensor in answers[0]]
    try:
        joined = [np.concatenate([tensor.array() for tensor in parts]) for parts in zip(*answers, strict=True)]
    except ValueError as error:
        raise AnswerMismatch([tensor for parts in answers for tensor in parts], str(error)) from error
    return [_first_rows(Tensor.from_array(array), rows) for array in joined]


def _first_rows(tensor: Tensor, rows: int) -> Tensor:
    if not tensor.shape or tensor.shape[0] <= rows:
        return tensor
    return Tensor.from_array(tensor.array()[:rows])
