"""
An MLflow model, opened from any URI. Its MLmodel file is read at once, its other parts on first use.

Invariant: `close()` removes the files that `open_model` fetched, and never a folder that the user named.
"""

from __future__ import annotations

import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from mlflow_redisai import deadline
from mlflow_redisai.errors import CallTimedOut, ModelNotFound, NotConvertible, first_line

CODE_VARIABLE = "MLFLOW_ALLOW_MODEL_CODE_EXECUTION"
NOT_RUN = "MLflow may not run the model here"


def may_run_code() -> bool:
    """Return whether code that a model brings may run. MLflow asks since 3.18."""
    return os.environ.get(CODE_VARIABLE, "true").strip().lower() not in ("false", "0")


class MlflowModel:
    """An MLflow model on this machine's disk. Use it as a context manager, or call close()."""

    def __init__(self, uri: str, path: Path, temporary: tempfile.TemporaryDirectory[str] | None = None) -> None:
        from mlflow.models import Model

        self.uri = uri
        self.path = path
        self._temporary = temporary
        self.meta: Any = Model.load(str(path))

    def __enter__(self) -> MlflowModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"MlflowModel({self.uri!r}, flavors={', '.join(self.flavors)})"

    def close(self) -> None:
        """Remove fetched files. A loaded object stays usable if its library has read all it needs into memory."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    @property
    def flavors(self) -> tuple[str, ...]:
        return tuple(self.meta.flavors)

    @property
    def signature(self) -> Any:
        """The model's mlflow.models.ModelSignature, or None."""
        return self.meta.signature

    @property
    def input_schema(self) -> Any:
        """The mlflow.types.Schema of the inputs, or None."""
        return None if self.signature is None else self.signature.inputs

    @property
    def run_id(self) -> str | None:
        found: str | None = self.meta.run_id
        return found

    def configuration(self, flavor: str) -> dict[str, Any]:
        """Return the section on one flavor in MLmodel."""
        return dict(self.meta.flavors[flavor])

    @cached_property
    def input_example(self) -> Any:
        """The input example logged with the model, in the form that pyfunc takes, or None."""
        return None if self.meta.saved_input_example_info is None else self.meta.load_input_example(str(self.path))

    def enforced(self, inputs: Any) -> Any:
        """Return inputs as pyfunc passes them to the library: cast and ordered by the signature, if there is one."""
        from mlflow.models.utils import _enforce_schema

        return inputs if self.input_schema is None else _enforce_schema(inputs, self.input_schema)

    def pyfunc(self) -> Any:
        """Return the model as mlflow.pyfunc.load_model loads it, on first use."""
        return self._pyfunc

    @cached_property
    def _pyfunc(self) -> Any:
        import mlflow.pyfunc

        if not may_run_code():
            raise NotConvertible(f"{NOT_RUN}, because {CODE_VARIABLE} is false")
        return mlflow.pyfunc.load_model(str(self.path))


def open_model(model_uri: str) -> MlflowModel:
    """
    Open the model at a runs:/ or models:/ URI (by version, alias or id), a file: URI, a folder, or any other URI that
    MLflow can fetch.

    Raise ModelNotFound if nothing exists there, or if it isn't an MLflow model.
    """
    folder = _local_folder(model_uri)
    if folder is not None:
        return _open(model_uri, folder, None)
    temporary = tempfile.TemporaryDirectory(prefix="mlflow-redisai-", ignore_cleanup_errors=True)
    try:
        return _open(model_uri, _download(model_uri, temporary.name), temporary)
    except BaseException:
        temporary.cleanup()
        raise


def _open(model_uri: str, folder: Path, temporary: tempfile.TemporaryDirectory[str] | None) -> MlflowModel:
    if not folder.exists():
        raise ModelNotFound(model_uri, "no such folder")
    if not (folder / "MLmodel").is_file():
        raise ModelNotFound(model_uri, "the folder has no file MLmodel; name the folder that holds it")
    try:
        return MlflowModel(model_uri, folder, temporary)
    except Exception as error:
        raise ModelNotFound(model_uri, f"its file MLmodel can't be read: {first_line(error)}") from error


def _local_folder(model_uri: str) -> Path | None:
    """Return the folder that a plain path or a file: URI names, or None for a URI that must be fetched."""
    parsed = urlparse(model_uri)
    if parsed.scheme == "file":
        return Path(url2pathname(parsed.path))
    # A single letter is a Windows drive, not a scheme.
    if parsed.scheme and len(parsed.scheme) > 1:
        return None
    return Path(model_uri).expanduser()


def _download(model_uri: str, into: str) -> Path:
    import mlflow.artifacts

    try:
        return Path(
            deadline.waited_for(lambda: mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=into))
        )
    except CallTimedOut:
        raise
    except Exception as error:
        raise ModelNotFound(model_uri, first_line(error)) from error
