"""What a user is told whose machine lacks the packages that TensorFlow's models need."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mlflow.models import Model

from mlflow_redisai.errors import MissingConverter
from mlflow_redisai.models.choice import choose_flavor, convert
from mlflow_redisai.models.loading import open_model


@pytest.mark.parametrize("flavor", ["keras", "tensorflow"])
def test_without_tensorflow_the_error_says_what_to_install(
    flavor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = Model()
    meta.add_flavor(flavor, data="data", model_type="keras")
    meta.save(str(tmp_path / "MLmodel"))
    monkeypatch.setitem(sys.modules, "tensorflow", None)

    with open_model(str(tmp_path)) as model, pytest.raises(MissingConverter) as raised:
        convert(model, flavor=choose_flavor(model))

    assert raised.value.message == (
        f"deploying the flavor {flavor} needs tensorflow, which isn't installed; "
        'pip install "mlflow-redisai[tensorflow]"'
    )
