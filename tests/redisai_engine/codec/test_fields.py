"""Any container becomes one array for each field, with the field's type, by name if there are names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.fields import (
    SMALL_FRAME_ROWS,
    check_shape,
    is_frame,
    is_series,
    take_columns,
    take_tensors,
    to_array,
    without_schema,
)
from redisai_engine.codec.mapping import Field, Input, Schema, Shape
from redisai_engine.codec.values import MARKS
from redisai_engine.protocol import dtypes

COLUMNS = Schema("columns", (Field("age", "long", dtypes.INT64), Field("city", "string", dtypes.STRING)))
UNNAMED = Schema("columns", (Field(None, "double", dtypes.DOUBLE), Field(None, "double", dtypes.DOUBLE)))
TENSORS = Schema(
    "tensors",
    (Field("a", "float32", dtypes.FLOAT, (None, 2)), Field("b", "int64", dtypes.INT64, (None,))),
)
MATRIX = Schema("tensors", (Field(None, "float64", dtypes.DOUBLE, (None, 2)),))
IMAGE = Schema("tensors", (Field(None, "float64", dtypes.DOUBLE, (None, 2, 2)),))


def listed(arrays: list[Any]) -> list[Any]:
    return [array.tolist() for array in arrays]


@pytest.mark.parametrize(
    ("value", "frame", "series"),
    [(pd.DataFrame(), True, False), (pd.Series([1]), False, True), (np.ones(1), False, False), ({}, False, False)],
    ids=["frame", "series", "array", "dict"],
)
def test_pandas_is_known_by_name(value: Any, frame: bool, series: bool) -> None:  # noqa: FBT001
    assert (is_frame(value), is_series(value)) == (frame, series)


class TestToArray:
    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ([1, 2], "i"),
            ([1.0, 2.0], "i"),  # JSON doesn't distinguish 1.0 from 1
            ([1.5, 2.0], "f"),
            ([2.0**53], "f"),
            (["a", "b"], "O"),
            ([1, None], "O"),
            ([[True], [False]], "b"),
        ],
        ids=str,
    )
    def test_a_lists_values_decide_the_type(self, value: Any, kind: str) -> None:
        assert to_array(value, "x").dtype.kind == kind

    def test_an_array_stays_the_same_object(self) -> None:
        array = np.array([1.0])

        assert to_array(array, "x") is array

    def test_rows_of_unlike_length_are_refused(self) -> None:
        with pytest.raises(InputMismatch) as caught:
            to_array([[1, 2], [3]], "tensor 'x'")

        assert str(caught.value) == "tensor 'x' must have rows of equal length, but some are longer than others"


class TestColumns:
    @pytest.mark.parametrize("rows", [2, SMALL_FRAME_ROWS + 1], ids=["small", "large"])
    def test_columns_of_a_frame_come_in_the_schemas_order_and_types(self, rows: int) -> None:
        """Small frames are taken out of pandas as a whole, others column by column."""
        frame = pd.DataFrame({"city": ["x"] * rows, "age": np.arange(rows, dtype=np.int8)})

        age, city = take_columns(frame, COLUMNS)

        assert (age.dtype, age.tolist()) == (np.int64, list(range(rows)))
        assert city.tolist() == ["x"] * rows

    def test_a_missing_value_in_a_record_is_missing_in_its_column(self) -> None:
        schema = Schema("columns", (Field("a", "double", dtypes.DOUBLE), Field("b", "double", dtypes.DOUBLE)))

        a, b = take_columns([{"a": 1.5}, {"b": 2, "a": 3}], schema)

        assert a.tolist() == [1.5, 3]
        np.testing.assert_array_equal(b, [np.nan, 2])

    def test_columns_without_names_go_by_position(self) -> None:
        assert listed(take_columns(np.array([[1, 2, 9], [3, 4, 9]]), UNNAMED)) == [[1, 3], [2, 4]]

    def test_too_few_columns_for_a_signature_without_names(self) -> None:
        with pytest.raises(InputMismatch) as caught:
            take_columns(np.ones((2, 1)), UNNAMED)

        assert str(caught.value) == "the model's signature has 2 columns, but the input has 1"

    def test_long_signatures_are_listed_in_part(self) -> None:
        fields = tuple(Field(f"c{index}", "double", dtypes.DOUBLE) for index in range(40))

        with pytest.raises(InputMismatch, match=r"c29 \(double\) and 10 more$"):
            take_columns(pd.DataFrame(), Schema("columns", fields))


class TestTensors:
    @pytest.mark.parametrize(
        "inputs",
        [
            {"b": np.array([7, 8]), "a": np.array([[1, 2], [3, 4.5]])},
            pd.DataFrame({"a": [[1, 2], [3, 4.5]], "b": [7, 8]}),
            [{"a": [1, 2], "b": 7}, {"a": [3, 4.5], "b": 8}],
        ],
        ids=["dict", "frame of cells", "records"],
    )
    def test_named_tensors_come_in_the_schemas_order_types_and_shapes(self, inputs: Any) -> None:
        a, b = take_tensors(inputs, TENSORS)

        assert (a.dtype, a.tolist()) == (np.float32, [[1, 2], [3, 4.5]])
        assert (b.dtype, b.tolist()) == (np.int64, [7, 8])

    @given(
        st.lists(
            st.dictionaries(st.sampled_from("ab"), st.floats(-9, 9), min_size=1).flatmap(
                lambda row: st.permutations(list(row.items())).map(dict)
            ),
            min_size=1,
        )
    )
    def test_records_make_the_matrix_that_pandas_makes_of_them(self, records: list[dict[str, float]]) -> None:
        """Each record may list its keys in an order of its own, and lack some."""
        frame = pd.DataFrame(records)

        if len(frame.columns) == 2:
            (matrix,) = take_tensors(records, MATRIX)
            np.testing.assert_array_equal(matrix, frame.to_numpy())
        else:
            with pytest.raises(InputMismatch, match=r"the input must have the shape \(any, 2\)"):
                take_tensors(records, MATRIX)

    def test_cells_are_laid_out_in_the_tensors_own_shape(self) -> None:
        (image,) = take_tensors(pd.Series([[1, 2, 3, 4.5], [5, 6, 7, 8]]), IMAGE)

        assert image.tolist() == [[[1, 2], [3, 4.5]], [[5, 6], [7, 8]]]

    def test_a_cell_that_is_too_short_takes_nothing_from_the_next(self) -> None:
        schema = Schema("tensors", (Field(None, "float64", dtypes.DOUBLE, (None, 2)),))

        with pytest.raises(InputMismatch) as caught:
            take_tensors(pd.Series([[1.5], [2.5], [3.5], [4.5]]), schema)

        assert str(caught.value) == "the input must have the shape (-1, 2), got (4, 1)"

    def test_arrays_for_several_tensors_need_names(self) -> None:
        with pytest.raises(InputMismatch) as caught:
            take_tensors(np.ones(2), TENSORS)

        assert str(caught.value) == "the model takes 2 tensors (a (float32), b (int64)); pass a dict of arrays"

    @pytest.mark.parametrize(
        ("shape", "expected", "fits"),
        [((2, 3), (None, 3), True), ((2, 4), (None, 3), False), ((2,), (None, 3), False), ((), (), True)],
    )
    def test_shapes(self, shape: tuple[int, ...], expected: Shape, fits: bool) -> None:  # noqa: FBT001
        if fits:
            check_shape(shape, expected, "x")
            return
        with pytest.raises(InputMismatch, match=r"^x must have the shape \(any, 3\), got "):
            check_shape(shape, expected, "x")


class TestWithoutSchema:
    TWO = (Input("a", None), Input("b", None))

    @pytest.mark.parametrize(
        "inputs",
        [
            {"b": [3], "a": [1.5]},
            pd.DataFrame({"b": [3], "a": [1.5]}),
            [{"a": 1.5, "b": 3}],
            [[1.5], [3]],
            (np.array([1.5]), np.array([3])),
        ],
        ids=["dict", "frame", "records", "list", "tuple"],
    )
    def test_names_decide_where_there_are_names_and_positions_elsewhere(self, inputs: Any) -> None:
        assert listed(without_schema(inputs, self.TWO)) == [[1.5], [3]]

    def test_columns_make_one_matrix_for_a_model_of_one_input(self) -> None:
        assert listed(without_schema({"p": [1, 2], "q": [3, 4]}, (Input("x", None),))) == [[[1, 3], [2, 4]]]

    def test_a_tensor_that_is_missing_is_named_with_those_that_came(self) -> None:
        with pytest.raises(InputMismatch) as caught:
            without_schema({"a": [1], "c": [2]}, self.TWO)

        assert str(caught.value) == "tensor 'b' is missing; the model takes a, b, but the input has 'a', 'c'"

    def test_one_array_for_several_inputs_is_refused(self) -> None:
        with pytest.raises(InputMismatch) as caught:
            without_schema(np.ones(3), self.TWO)

        assert str(caught.value) == "the model takes 2 tensors (a, b); pass a dict of arrays"


NAN, INFINITE = float("nan"), float("inf")


class TestContracts:
    """A row that the model itself refuses is refused, with the column, the row and the value."""

    @pytest.mark.parametrize(
        ("item", "values", "said"),
        [
            (Field("a", "double", dtypes.DOUBLE, gaps=False), [1.5, NAN], r"in row 1 that is missing \(NaN\), which"),
            (Field("a", "double", dtypes.DOUBLE, infinite=False), [1.5, -INFINITE], "in row 1 that is infinite, which"),
            (
                Field("a", "double", dtypes.DOUBLE, largest=3e38),
                [1.5, -1e39],
                r"the value -1e\+39 in row 1, but this model accepts only numbers from -3e\+38 to 3e\+38",
            ),
            (
                Field("a", "long", dtypes.INT64, largest=2.0**53),
                [2**53, 2**53 + 1],
                r"the value 9\.0072e\+15 in row 1, but this model accepts only numbers from -9\.0072e\+15 to",
            ),
            (Field("a", "long", dtypes.INT64, largest=2.0), [2, -3], "the value -3 in row 1, but this model"),
            (
                Field("a", "long", dtypes.INT64, least=0.0),
                [0, -1],
                r"the value -1 in row 1, but this model accepts only numbers from 0\.0",
            ),
            (
                Field("a", "string", dtypes.STRING, known=("s", "m")),
                ["s", "xl"],
                "the value 'xl' in row 1, which this model doesn't know; allowed are 's', 'm'$",
            ),
            (
                Field("a", "long", dtypes.INT64, known=tuple(range(12))),
                [3, 12],
                "the value 12 in row 1, which this model doesn't know; allowed are 0, 1, .*, 9 and 2 more$",
            ),
            (Field("a", "string", dtypes.STRING, missing=("None",)), ["s", NAN], "the value in row 1 is missing"),
            (
                Field("a", "string", dtypes.STRING, missing=("None",)),
                ["s", MARKS["None"]],
                "which is reserved for missing text; use another",
            ),
        ],
        ids=str,
    )
    def test_what_the_model_refuses_is_refused(self, item: Field, values: list[Any], said: str) -> None:
        with pytest.raises(InputMismatch, match=rf"column 'a' .*{said}"):
            take_columns({"a": values}, Schema("columns", (item,)))

    @pytest.mark.parametrize(
        ("item", "values"),
        [
            (Field("a", "double", dtypes.DOUBLE, gaps=False), [1.5, INFINITE]),
            (Field("a", "double", dtypes.DOUBLE, infinite=False, largest=2.0), [-2.0, NAN]),
            (Field("a", "double", dtypes.DOUBLE, largest=2.0), [1.5, INFINITE]),
            (Field("a", "long", dtypes.INT64, largest=2.0**53), [2**53, -(2**53)]),
            (Field("a", "long", dtypes.INT64, largest=1e300), [2**63 - 1, -(2**63)]),
            (Field("a", "double", dtypes.DOUBLE, known=(1.0, 2.0)), [2.0, NAN]),
            (Field("a", "boolean", dtypes.BOOL, known=(True,)), [True]),
        ],
        ids=str,
    )
    def test_what_the_model_accepts_is_passed_on(self, item: Field, values: list[Any]) -> None:
        [found] = take_columns({"a": values}, Schema("columns", (item,)))

        np.testing.assert_array_equal(found, values)

    def test_missing_text_becomes_a_reserved_text_where_the_model_accepts_it(self) -> None:
        item = Field("a", "string", dtypes.STRING, missing=("None", "NaN"), known=("x",))
        given = np.array(["x", None, NAN], object)

        [found] = take_columns({"a": given}, Schema("columns", (item,)))

        assert found.tolist() == ["x", MARKS["None"], MARKS["NaN"]]
        assert given[1] is None

    def test_a_column_that_the_model_does_not_read_may_hold_anything(self) -> None:
        schema = Schema(
            "columns", (Field("at", "datetime", dtypes.STRING, used=False), Field("v", "double", dtypes.DOUBLE))
        )

        _, found = take_columns(pd.DataFrame({"at": [pd.Timestamp("2024-01-01"), pd.NaT], "v": [1.5, 2.5]}), schema)

        assert found.tolist() == [1.5, 2.5]
        with pytest.raises(InputMismatch, match="column 'at' is missing"):
            take_columns({"v": [1.5]}, schema)


class TestColumnsNamedByNumbers:
    SCHEMA = Schema("columns", tuple(Field(str(number), "double", dtypes.DOUBLE, numbered=True) for number in (0, 5)))

    @pytest.mark.parametrize(
        "inputs",
        [pd.DataFrame({5: [2.5], 0: [1.5]}), {5: [2.5], 0: [1.5]}, [{"0": 1.5, "5": 2.5}], {"5": [2.5], "0": [1.5]}],
        ids=["frame", "dict", "records of JSON", "columns of JSON"],
    )
    def test_they_are_found_by_their_numbers(self, inputs: Any) -> None:
        assert listed(take_columns(inputs, self.SCHEMA)) == [[1.5], [2.5]]

    def test_a_frame_whose_names_are_the_digits_lacks_them_as_in_mlflow(self) -> None:
        with pytest.raises(InputMismatch, match=r"columns 0, 5 are missing; .* the input has '0', '5', which"):
            take_columns(pd.DataFrame({"0": [1.5], "5": [2.5]}), self.SCHEMA)
