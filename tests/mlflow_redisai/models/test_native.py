"""A model that its own library can't load raises an error that says why, and names the extra that would help."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mlflow.models import Model

from mlflow_redisai.errors import MissingConverter, NotConvertible
from mlflow_redisai.models.loading import open_model
from mlflow_redisai.models.native import load_native


@pytest.mark.parametrize("flavor", ["sklearn", "lightgbm"])
def test_a_file_that_is_no_model_is_told(flavor: str, tmp_path: Path) -> None:
    pytest.importorskip(flavor, reason=f'{flavor} is not installed: pip install "mlflow-redisai[{flavor}]"')
    files = {"sklearn": {"pickled_model": "model"}, "lightgbm": {"data": "model", "model_class": "lightgbm.Booster"}}
    meta = Model()
    meta.add_flavor(flavor, serialization_format="pickle", **files[flavor])
    meta.save(str(tmp_path / "MLmodel"))
    (tmp_path / "model").write_bytes(b"not a model")

    with open_model(str(tmp_path)) as model, pytest.raises(NotConvertible) as caught:
        load_native(model, flavor)

    assert caught.value.message.startswith(f"the {flavor} model {tmp_path} can't be loaded: ")


def pickled(instruction: bytes, folder: Path) -> Path:
    """Save a scikit-learn model whose pickle is just `instruction`. Return its folder."""
    meta = Model()
    meta.add_flavor("sklearn", serialization_format="pickle", pickled_model="model.pkl")
    meta.save(str(folder / "MLmodel"))
    (folder / "model.pkl").write_bytes(instruction)
    return folder


def test_a_library_that_a_step_comes_from_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)

    with (
        open_model(str(pickled(b"clightgbm\nLGBMClassifier\n.", tmp_path))) as model,
        pytest.raises(MissingConverter) as caught,
    ):
        load_native(model, "sklearn")

    assert caught.value.message == (
        'deploying the flavor sklearn needs lightgbm, which isn\'t installed; pip install "mlflow-redisai[lightgbm]"'
    )


def test_a_library_that_no_extra_brings_is_named(tmp_path: Path) -> None:
    with (
        open_model(str(pickled(b"ctheir_library\nStep\n.", tmp_path))) as model,
        pytest.raises(NotConvertible) as caught,
    ):
        load_native(model, "sklearn")

    assert caught.value.message == (f"the sklearn model {tmp_path} can't be loaded: No module named 'their_library'")
