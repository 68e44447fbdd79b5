"""The mapping passes through JSON unchanged, because it is read back from the record in Redis."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from redisai_engine.codec.answers import decode
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.mapping import FORMAT, Answer, Field, Input, Mapping, Output, Part, Schema, UnreadableMapping
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.tensor import Tensor


def full_mapping() -> Mapping:
    fields = (Field("a", "double", dtypes.DOUBLE), Field("b", "string", dtypes.STRING, required=False))
    return Mapping(
        inputs=(Input("a", dtypes.DOUBLE, (None, 1), (0,)), Input("b", dtypes.STRING, (None, 1), (1,))),
        outputs=(Output("label", dtypes.STRING, (None,)), Output("probabilities", dtypes.FLOAT, (None, 2))),
        fetch=(1, 0),
        answer=Answer("dict", (Part("p", "float64", (-1, 2), ("x", "y")), Part("l", "<U5", (-1,), (1, 2)))),
        schema=Schema("columns", fields),
        batch=4,
        depth=7,
        precision=dtypes.DOUBLE,
    )


@pytest.mark.parametrize("mapping", [full_mapping(), Mapping.generic(["x"], ["y", ""])], ids=["full", "generic"])
def test_json_gives_the_same_mapping_back(mapping: Mapping) -> None:
    text = json.dumps(mapping.to_json(), allow_nan=False)

    assert Mapping.from_json(json.loads(text)) == mapping


def test_a_newer_format_is_refused() -> None:
    data = {**full_mapping().to_json(), "format": FORMAT + 1}

    with pytest.raises(
        UnreadableMapping, match=f"has format {FORMAT + 1}, but this version reads formats up to {FORMAT}; upgrade"
    ):
        Mapping.from_json(data)


def test_an_input_has_rows_where_its_first_axis_is_as_free_or_as_fixed_as_the_models_batch() -> None:
    free, fixed = Input("x", dtypes.FLOAT, (None, 3)), Input("x", dtypes.FLOAT, (4, 3))
    scalar, unknown = Input("x", dtypes.FLOAT, ()), Input("x", None)

    any_batch = Mapping.generic(["x"], ["y"])
    assert [any_batch.has_rows(item) for item in (free, fixed, scalar, unknown)] == [True, False, False, False]
    assert [full_mapping().has_rows(item) for item in (free, fixed, scalar, unknown)] == [False, True, False, False]


class TestGeneric:
    """A model that another client stored has no record: arrays by position, floating point as FLOAT."""

    def test_floats_go_as_float(self) -> None:
        tensors = Encoder(Mapping.generic(["x"], ["y"])).encode(np.ones((2, 3)))

        assert [(tensor.dtype, tensor.shape) for tensor in tensors] == [(dtypes.FLOAT, (2, 3))]

    @pytest.mark.parametrize(
        ("array", "dtype"),
        [
            (np.ones(2, np.int32), dtypes.INT32),
            (np.ones(2, bool), dtypes.BOOL),
            (np.array(["a", "b"], object), dtypes.STRING),
            (np.array([1, 2.5], object), dtypes.FLOAT),
        ],
    )
    def test_other_types_go_as_they_are(self, array: np.ndarray, dtype: dtypes.DType) -> None:
        assert Encoder(Mapping.generic(["x"], ["y"])).encode(array)[0].dtype is dtype

    def test_several_inputs_go_by_position_or_name(self) -> None:
        mapping = Mapping.generic(["a", "b"], ["y"])
        first, second = np.ones((1, 2)), np.zeros((1, 3))

        by_position = Encoder(mapping).encode([first, second])
        by_name = Encoder(mapping).encode({"b": second, "a": first})

        assert [tensor.shape for tensor in by_position] == [tensor.shape for tensor in by_name] == [(1, 2), (1, 3)]

    def test_one_output_is_an_array_and_several_are_a_dict(self) -> None:
        tensor = Tensor.from_array(np.ones((2, 1), np.float32))

        assert decode([tensor], Mapping.generic(["x"], ["y"])).shape == (2, 1)
        assert list(decode([tensor, tensor], Mapping.generic(["x"], ["", "z"]))) == ["output_0", "z"]


CONTRACTS = (
    Field("a", "double", dtypes.DOUBLE, gaps=False, largest=3.4e38),
    Field("a", "float64", dtypes.DOUBLE, (None, 2), sparse=False),
    Field("b", "string", dtypes.STRING, missing=("None", "NaN"), known=("x", "y")),
    Field("c", "datetime", dtypes.STRING, used=False),
    Field("4", "long", dtypes.INT64, numbered=True),
)


def test_contracts_pass_through_json() -> None:
    mapping = replace(full_mapping(), schema=Schema("columns", CONTRACTS), independent=False, params=(("top", 3),))

    assert Mapping.from_json(json.loads(json.dumps(mapping.to_json(), allow_nan=False))) == mapping


@pytest.mark.parametrize(
    "changed",
    [
        *[{"schema": Schema("columns", (item,))} for item in CONTRACTS],
        {"independent": False},
        {"params": (("top", 3),)},
    ],
    ids=str,
)
def test_what_an_older_reader_would_overlook_is_written_in_the_newer_format(changed: dict[str, Any]) -> None:
    assert full_mapping().to_json()["format"] == 1
    assert replace(full_mapping(), **changed).to_json()["format"] == 2
    assert replace(full_mapping(), **changed, parcel=True).to_json()["format"] == FORMAT


def test_an_older_mapping_has_one_word_for_nan_and_infinity() -> None:
    fields = tuple(
        Field(name, "double", dtypes.DOUBLE, gaps=gaps, infinite=gaps)
        for name, gaps in zip("ab", (True, False), strict=True)
    )
    data = replace(full_mapping(), schema=Schema("columns", fields)).to_json()

    assert data["format"] == 1
    assert not {"contracts", "independent", "params"} & set(data)
    assert Mapping.from_json(data).schema == Schema("columns", fields)
