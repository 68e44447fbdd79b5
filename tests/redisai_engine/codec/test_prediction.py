"""Rows become requests and come back in order, however many of them the model takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from redisai_engine.codec.answers import decode
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Answer, Input, Mapping, Output, Part
from redisai_engine.codec.prediction import join, predict, row_count, split
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.parcels import unpack
from redisai_engine.protocol.tensor import Tensor
from support.mappings import matrix, unnamed


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 8, 9])
@pytest.mark.parametrize("mapping", [unnamed(), unnamed(batch=4)], ids=["any number", "four at a time"])
def test_every_row_comes_back_once_and_in_order(rows: int, mapping: Mapping) -> None:
    array = np.arange(rows * 2, dtype=float).reshape(rows, 2)
    tensors = Encoder(mapping).encode(array)

    requests = split(tensors, mapping, max_rows=4)
    joined = join(requests, row_count(tensors, mapping))

    assert joined[0].array().tolist() == array.tolist()
    assert all(request[0].shape[0] <= 4 for request in requests)
    assert mapping.batch is None or {request[0].shape[0] for request in requests} == {4}


def test_without_a_limit_there_is_one_request() -> None:
    tensors = Encoder(unnamed()).encode(np.ones((1000, 2)))

    assert split(tensors, unnamed()) == [tensors]


def test_a_parcel_is_never_cut() -> None:
    """Neither the question, nor an answer that is longer than that."""
    ends = Input("input", dtypes.UINT8, (None,)), Output("output", dtypes.UINT8)
    mapping = Mapping(ends[:1], ends[1:], (0,), Answer("like input", (Part("output"),)), parcel=True)
    long = list(range(1000))
    tensors = Encoder(mapping).encode({"x": [1]}, params={"k": 2})
    answer = Encoder(mapping).encode(long)

    assert split(tensors, mapping, max_rows=1) == [tensors]
    assert unpack(tensors[0].blob) == ({"x": [1]}, {"k": 2})
    assert decode(join([answer], row_count(tensors, mapping)), mapping) == long
    assert predict(lambda _: answer, mapping, [1, 2]) == (long, 2)


def test_text_is_split_too() -> None:
    mapping = matrix("a", kind="string")
    tensors = Encoder(mapping).encode({"a": ["x", "yy", "", "z"]})

    requests = split(tensors, mapping, max_rows=3)

    assert [request[0].array().ravel().tolist() for request in requests] == [["x", "yy", ""], ["z"]]


def test_a_whole_prediction_runs_request_by_request_and_counts_the_rows() -> None:
    """A model that takes two rows at a time gets three requests for five rows, the last one padded."""
    seen = []

    def double(request: list[Tensor]) -> list[Tensor]:
        seen.append(request[0].shape)
        return [Tensor.from_array(request[0].array() * 2)]

    answer, rows = predict(double, unnamed(batch=2), np.arange(10.0).reshape(5, 2))

    assert seen == [(2, 2)] * 3
    assert (answer.tolist(), rows) == ((np.arange(10.0).reshape(5, 2) * 2).tolist(), 5)


class TestRowsThatDependOnEachOther:
    def test_they_stay_in_one_request(self) -> None:
        mapping = replace(unnamed(), independent=False)
        tensors = Encoder(mapping).encode(np.ones((7, 2)))

        assert split(tensors, mapping, max_rows=7) == [tensors]

    def test_more_than_fit_into_one_request_are_refused(self) -> None:
        mapping = replace(unnamed(), independent=False)

        with pytest.raises(InputMismatch, match=r"can't be sent apart, and the input's 7 rows .*; at most 6 do"):
            split(Encoder(mapping).encode(np.ones((7, 2))), mapping, max_rows=6)

    @pytest.mark.parametrize("rows", [3, 5, 8])
    def test_they_are_not_padded_to_a_fixed_batch(self, rows: int) -> None:
        """A copied row would change the answers of the others."""
        mapping = replace(unnamed(batch=4), independent=False)

        with pytest.raises(InputMismatch, match=f"takes exactly 4 rows, .* but the input has {rows}"):
            split(Encoder(mapping).encode(np.ones((rows, 2))), mapping)
