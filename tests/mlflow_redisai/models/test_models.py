"""Which flavor is deployed, and what is said where none can be."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mlflow_redisai.errors import FlavorMissing, NotConvertible
from mlflow_redisai.models import choose_flavor, open_model
from mlflow_redisai.models.registry import FLAVORS, REFUSED


def model_with(flavors: list[str], folder: Path) -> Path:
    document = {"flavors": {name: {} for name in flavors}, "model_uuid": "x", "utc_time_created": "2026-01-01 00:00:00"}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    return folder


def chosen(flavors: list[str], folder: Path, asked_for: str | None = None) -> str:
    with open_model(str(model_with(flavors, folder))) as model:
        return choose_flavor(model, asked_for)


@pytest.mark.parametrize("flavors", [["sklearn", "onnx", "python_function"], ["python_function", "onnx", "sklearn"]])
def test_the_tables_order_decides_not_the_models(flavors: list[str], tmp_path: Path) -> None:
    assert chosen(flavors, tmp_path) == "onnx"


def test_the_user_decides_first(tmp_path: Path) -> None:
    assert chosen(["onnx", "sklearn"], tmp_path, "sklearn") == "sklearn"


def test_a_flavor_that_the_model_lacks_is_told_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(FlavorMissing, match="has no flavor 'pytorch'; it has onnx, sklearn") as caught:
        chosen(["onnx", "sklearn"], tmp_path, "pytorch")
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("flavor", sorted(REFUSED))
def test_a_flavor_that_cannot_be_deployed_is_told_with_the_reason(flavor: str, tmp_path: Path) -> None:
    with pytest.raises(NotConvertible) as unasked:
        chosen([flavor, "python_function"], tmp_path)
    with pytest.raises(NotConvertible) as asked:
        chosen([flavor, "python_function"], tmp_path, flavor)

    assert REFUSED[flavor] in str(unasked.value)
    assert REFUSED[flavor] in str(asked.value)


def test_a_model_without_any_flavor_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match="has no flavor that can be deployed"):
        chosen([], tmp_path)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_every_row_of_the_table_names_a_converter_that_is_there(flavor: str) -> None:
    assert callable(FLAVORS[flavor].load())
