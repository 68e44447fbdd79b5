"""A model opens from every kind of URI that MLflow knows, and a missing one raises an error with the right code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mlflow.models import Model
from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB

from mlflow_redisai.errors import ModelNotFound
from mlflow_redisai.models.loading import open_model
from support.local_runs import save_sklearn
from support.mlflow_models import LoggedModel, named


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = load_iris(as_frame=True)
    return save_sklearn(tmp_path / "model", GaussianNB().fit(data.data, data.target), data.data)


@pytest.mark.parametrize("form", ["{}", "file://{}", "file:{}"])
def test_a_folder_opens_where_it_is(form: str, folder: Path) -> None:
    with open_model(form.format(folder)) as model:
        assert model.path == folder
        assert model.flavors == ("python_function", "sklearn")

    assert folder.is_dir()


def test_a_relative_folder_opens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)

    with open_model("model") as model:
        assert model.run_id is None


@pytest.mark.slow
def test_every_uri_of_the_store_opens(wine: LoggedModel) -> None:
    """By alias, version, run and, since MLflow 3, the model's own id."""
    import mlflow

    version = mlflow.MlflowClient().get_model_version_by_alias("wine", "champion")
    data = load_iris(as_frame=True)
    with mlflow.start_run() as run:
        estimator = GaussianNB().fit(data.data, data.target)
        log_model = mlflow.sklearn.log_model
        log_model(estimator, **named("bayes", log_model), input_example=data.data[:2], pip_requirements=[])
    uris = [wine.uri, f"models:/wine/{version.version}", f"runs:/{run.info.run_id}/bayes"]
    if version.source.startswith("models:/m-"):
        uris.append(version.source)

    for uri in uris:
        with open_model(uri) as model:
            assert "sklearn" in model.flavors
            assert model.input_example is not None
            path = model.path
        assert not path.exists()


@pytest.mark.slow
def test_what_was_fetched_is_removed_though_opening_fails(wine: LoggedModel, monkeypatch: pytest.MonkeyPatch) -> None:

    from mlflow_redisai.models import loading

    seen: list[Path] = []

    def refuse(path: str) -> None:
        seen.append(Path(path))
        raise OSError("unreadable")

    monkeypatch.setattr(Model, "load", refuse)

    with pytest.raises(ModelNotFound, match="its file MLmodel can't be read: unreadable"):
        loading.open_model(wine.uri)
    assert seen
    assert not seen[0].exists()


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("/no/such/folder", "no such folder"),
        ("file:///no/such/folder", "no such folder"),
        ("runs:/0123456789abcdef0123456789abcdef/model", "Run with id=0123456789abcdef0123456789abcdef not found"),
        ("models:/nobody/1", "nobody"),
        ("models:/wine@nobody", "nobody"),
        ("models:/m-00000000000000000000000000000000", "m-0000"),
        ("nonsense://x/y", "nonsense"),
    ],
)
def test_what_is_not_there_is_told(uri: str, reason: str, wine: LoggedModel) -> None:
    with pytest.raises(ModelNotFound, match=reason) as caught:
        open_model(uri)

    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert uri in str(caught.value)


def test_a_folder_without_mlmodel_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="the folder has no file MLmodel; name the folder that holds it"):
        open_model(str(tmp_path))


def test_a_broken_mlmodel_is_told(folder: Path) -> None:
    (folder / "MLmodel").write_text("flavors: [")

    with pytest.raises(ModelNotFound, match="its file MLmodel can't be read"):
        open_model(str(folder))


def test_no_example_is_none(tmp_path: Path) -> None:
    data = load_iris()
    path = save_sklearn(tmp_path / "m", GaussianNB().fit(data.data, data.target), data.data, example_rows=0)

    with open_model(os.fspath(path)) as model:
        assert model.input_example is None
