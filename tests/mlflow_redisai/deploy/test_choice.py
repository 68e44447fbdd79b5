"""The choice of a flavor to deploy, and the errors if no flavor can be deployed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mlflow_redisai.deploy.choice import choose_flavor, convert
from mlflow_redisai.errors import FlavorMissing, MissingConverter, NotConvertible
from mlflow_redisai.models.loading import open_model
from mlflow_redisai.models.registry import FLAVORS, UNCONVERTED, module_of
from support.packages import without


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


@pytest.mark.parametrize("flavor", sorted(UNCONVERTED))
def test_a_flavor_that_cannot_be_deployed_is_told_with_the_reason(flavor: str, tmp_path: Path) -> None:
    with pytest.raises(NotConvertible) as unasked:
        chosen([flavor, "python_function"], tmp_path)
    with pytest.raises(NotConvertible) as asked:
        chosen([flavor, "python_function"], tmp_path, flavor)

    assert str(unasked.value).endswith(
        f"has no flavor that can be deployed ({flavor}: {UNCONVERTED[flavor]}); "
        f"deployable flavors are {', '.join(FLAVORS)}"
    )
    assert str(asked.value) == (
        f"the flavor {flavor} can't be deployed: {UNCONVERTED[flavor]}; deployable flavors are {', '.join(FLAVORS)}"
    )


@pytest.mark.parametrize("flavor", ["prophet", "a_flavor_of_ones_own", "python_function"])
def test_where_python_may_run_every_flavor_is_taken(flavor: str, tmp_path: Path) -> None:
    with open_model(str(model_with([flavor, "python_function"], tmp_path))) as model:
        assert choose_flavor(model, python=True) == flavor
        assert choose_flavor(model, flavor, python=True) == flavor


def test_a_flavor_with_a_converter_is_preferred_to_python(tmp_path: Path) -> None:
    with open_model(str(model_with(["python_function", "prophet", "sklearn"], tmp_path))) as model:
        assert choose_flavor(model, python=True) == "sklearn"


def test_a_model_that_was_logged_without_pyfunc_is_refused_everywhere(tmp_path: Path) -> None:
    with (
        open_model(str(model_with(["spark"], tmp_path))) as model,
        pytest.raises(NotConvertible, match=r"has no flavor that can be deployed \(spark: "),
    ):
        choose_flavor(model, python=True)


def test_a_model_without_any_flavor_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match="has no flavor that can be deployed"):
        chosen([], tmp_path)


@pytest.mark.parametrize(
    ("flavor", "package"), [(row.name, package) for row in FLAVORS.values() if row.extra for package in row.packages]
)
def test_without_a_package_nothing_is_converted_and_the_extra_is_named(
    flavor: str, package: str, tmp_path: Path
) -> None:
    """Any package of the row counts. The model has only its MLmodel, which shows that no other file is read first."""
    row = FLAVORS[flavor]
    if row.missing():
        pytest.skip(f"{row.missing()} is not installed")

    with (
        open_model(str(model_with([flavor], tmp_path))) as model,
        without(module_of(package)),
        pytest.raises(MissingConverter) as caught,
    ):
        convert(model, flavor=flavor)

    assert caught.value.message == (
        f"deploying the flavor {flavor} needs {package.removesuffix('-cpu')}, which isn't installed; "
        f'pip install "mlflow-redisai[{row.extra}]"'
    )


def test_a_pyfunc_model_of_the_users_own_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    """The model is really saved. Its only flavor is python_function, and loading it would run arbitrary code."""
    import mlflow.pyfunc

    class Loud(mlflow.pyfunc.PythonModel):
        def __init__(self) -> None:
            self.state = "so that there is one to set"

        def __setstate__(self, state: object) -> None:
            raise AssertionError("must not be loaded")

        def predict(self, context: object, model_input: list[str]) -> list[str]:
            return model_input

    mlflow.pyfunc.save_model(str(tmp_path / "model"), python_model=Loud(), pip_requirements=[])

    with (
        open_model(str(tmp_path / "model")) as model,
        pytest.raises(NotConvertible, match="arbitrary Python can't be made a graph"),
    ):
        choose_flavor(model)
