"""MLflow's signature becomes the mapping's schema, or is refused with the name of a field that no tensor can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from mlflow.types.schema import ColSpec, Schema, TensorSpec
from sklearn.linear_model import LinearRegression

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.signature import matrix_dtype, schema_of, schema_without_signature, tensor_name
from redisai_engine.codec import mapping
from redisai_engine.protocol import dtypes


def test_no_signature_is_no_schema() -> None:
    assert schema_of(None) is None


def test_columns_keep_names_types_and_whether_they_may_be_left_out() -> None:
    inputs = Schema([ColSpec("double", "age"), ColSpec("string", "city"), ColSpec("boolean", "new", required=False)])

    schema = schema_of(inputs)

    assert schema is not None
    assert (schema.kind, schema.names()) == ("columns", ("age", "city", "new"))
    assert [field.dtype for field in schema.fields] == [dtypes.DOUBLE, dtypes.STRING, dtypes.BOOL]
    assert [field.required for field in schema.fields] == [True, True, False]


@pytest.mark.parametrize(
    ("numpy", "dtype"),
    [
        ("float32", dtypes.FLOAT),
        ("float16", dtypes.FLOAT),
        ("uint32", dtypes.INT64),
        ("uint8", dtypes.UINT8),
        ("str", dtypes.STRING),
        ("object", dtypes.STRING),
    ],
)
def test_tensors_keep_their_shape_and_have_the_next_type_that_redisai_has(numpy: str, dtype: dtypes.DType) -> None:
    schema = schema_of(Schema([TensorSpec(np.dtype(numpy), (-1, 3), "x")]))

    assert schema is not None
    assert (schema.kind, schema.fields[0].dtype, schema.fields[0].shape) == ("tensors", dtype, (None, 3))


@pytest.mark.parametrize(("name", "shown"), [("when", "'when'"), (None, "0")])
def test_a_column_that_no_tensor_can_hold_is_named(name: str | None, shown: str) -> None:
    with pytest.raises(NotConvertible) as caught:
        schema_of(Schema([ColSpec("datetime", name)]))

    assert caught.value.message == (
        f"column {shown} of the model's signature is datetime, which no tensor can hold; "
        "allowed are boolean, integer, long, float, double, string"
    )


class TestWithoutSignature:
    """The schema comes from the example, or else from what the estimator remembers of its training."""

    def test_the_example_comes_first(self) -> None:
        frame = pd.DataFrame({"a": [1.5], "b": [2]})

        schema = schema_without_signature(frame, LinearRegression().fit(frame, [3]), ["a", "b"])

        assert schema == schema_of(infer_signature(frame).inputs)

    def test_its_names_do_not_count_if_the_training_had_none(self) -> None:
        frame = pd.DataFrame({"a": [1.5], 2: [2]})

        schema = schema_without_signature(frame, LinearRegression().fit([[1, 2]], [3]), [])

        assert [item.dtype for item in schema.fields] == [dtypes.DOUBLE, dtypes.INT64]
        assert not schema.named

    def test_an_array_has_the_names_of_the_training(self) -> None:
        schema = schema_without_signature(np.ones((1, 2)), LinearRegression(), ["a", "b"])

        assert (schema.kind, schema.names()) == ("columns", ("a", "b"))

    def test_else_the_columns_of_the_training(self) -> None:
        assert schema_without_signature(None, LinearRegression(), ["a", "b"]).names() == ("a", "b")

    def test_else_their_number(self) -> None:
        schema = schema_without_signature(None, LinearRegression().fit([[1, 2, 3]], [4]), [])

        assert schema.fields[0].shape == (None, 3)

    def test_who_remembers_nothing_is_refused(self) -> None:
        with pytest.raises(NotConvertible, match="LinearRegression has no signature and no input example, and doesn't"):
            schema_without_signature(None, LinearRegression(), [])


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [
        (["long", "double"], dtypes.DOUBLE),
        (["long", "float"], dtypes.DOUBLE),
        (["integer", "long"], dtypes.INT64),
        (["float", "float"], dtypes.FLOAT),
        (["double", "string"], dtypes.STRING),
    ],
)
def test_all_columns_together_have_numpys_common_type(columns: list[Any], dtype: dtypes.DType) -> None:
    schema = schema_of(Schema([ColSpec(kind, f"c{index}") for index, kind in enumerate(columns)]))

    assert isinstance(schema, mapping.Schema)
    assert matrix_dtype(schema) is dtype


def test_a_column_without_name_is_called_by_its_place() -> None:
    assert (tensor_name(None, 3), tensor_name("age", 3)) == ("column_3", "age")
