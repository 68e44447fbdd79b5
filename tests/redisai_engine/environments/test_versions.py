"""The ends of what a worker's environment may be: the oldest Python and MLflow, and new ones, both built here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import uv

from support.obedient import archive, workers_of
from support.servers import start_engine

#: Loads a model without a pickle, so that any Python can.
CODE = """
import pandas as pd

class Sums:
    def predict(self, frame):
        return frame.sum(axis=1).to_numpy()

def _load_pyfunc(path):
    return Sums()
"""

#: Saves that model with the environment's own MLflow, and prints the versions of both.
SAVING = """
import sys, mlflow.pyfunc
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, Schema
schema = Schema([ColSpec("double", name) for name in "ab"])
signature = ModelSignature(inputs=schema, outputs=Schema([ColSpec("double")]))
codes = {"code_path" if mlflow.__version__ < "3" else "code_paths": ["sums.py"]}
mlflow.pyfunc.save_model("m", loader_module="sums", data_path="data", signature=signature, pip_requirements=[], **codes)
print(*sys.version_info[:2], mlflow.__version__)
"""

#: What uv says where it reaches neither Pythons nor packages.
UNREACHABLE = r"resolving DNS|error sending request|Failed to (fetch|download)"


def environment(folder: Path, version: str, *packages: str) -> Path:
    """Return the Python of a new environment. Skip the test where there is no such Python, or no package index."""
    known = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin"))
    variables = {**os.environ, "PATH": os.pathsep.join([*map(str, known), os.environ["PATH"]])}
    python = folder / "bin" / "python"
    install = ("pip", "install", "--quiet", "--only-binary", ":all:", "--python", str(python), *packages)
    for words in (("venv", "--quiet", "--python", version, str(folder)), install):
        done = subprocess.run([uv.find_uv_bin(), *words], env=variables, capture_output=True, text=True)
        if done.returncode and re.search(
            r"resolving DNS|error sending request|Failed to (fetch|download)", done.stderr
        ):
            pytest.skip(f"uv can't fetch Python {version} with {', '.join(packages)} here: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr
    return python


@pytest.mark.network
@pytest.mark.parametrize(
    ("version", "packages", "expected"),
    [
        # MLflow 2.0 imports pkg_resources, which newer versions of setuptools lack.
        ("3.9", ("mlflow==2.0.1", "setuptools<81"), "3 9 2.0.1"),
        ("3.13", ("mlflow>=3",), "3 13 3."),
    ],
    ids=["oldest", "new"],
)
def test_a_model_runs_with_this_python_and_mlflow(
    tmp_path: Path, version: str, packages: tuple[str, ...], expected: str
) -> None:
    python = environment(tmp_path / "environment", version, *packages)
    (tmp_path / "sums.py").write_text(CODE)
    (tmp_path / "data").write_text("")
    saving = [str(python), "-W", "ignore", "-c", SAVING]
    saved = subprocess.run(saving, cwd=tmp_path, capture_output=True, text=True)
    assert saved.stdout.startswith(expected), saved.stderr
    blob = archive(tmp_path / "m", {"environment": {"kind": "path", "path": str(python)}})
    rows = np.random.default_rng(1).normal(size=(5, 2))

    engine = start_engine(tmp_path / "engine", "--python-models")
    try:
        client = engine.client(socket_timeout=240)
        assert client.execute_command("AI.MODELSTORE", "m", "PYFUNC", "CPU", "BLOB", blob) == b"OK"
        client.execute_command("AI.TENSORSET", "x", "DOUBLE", *rows.shape, "BLOB", rows.tobytes())
        assert client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y") == b"OK"

        np.testing.assert_array_equal(
            np.frombuffer(client.execute_command("AI.TENSORGET", "y", "BLOB")), rows.sum(axis=1)
        )
        (worker,) = workers_of(engine)
        assert worker.cmdline()[0] == str(python)
    finally:
        engine.stop()
