"""The wheel: compiled if there is a compiler, and the same in pure Python if there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.connection import connected
from support.gateway import predict, store_model
from support.servers import start_engine

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def built(folder: Path, environment: Mapping[str, str]) -> Path:
    """Build the wheel as pip does, with the installed packages."""
    made = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-v", "-w", str(folder)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (folder / "log").write_text(made.stdout + made.stderr)
    [wheel] = folder.glob("*.whl")
    return wheel


def compiled_files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as content:
        return {name for name in content.namelist() if name.endswith(".so")}


@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="there is no C compiler on the PATH")
def test_the_engine_in_the_wheel_is_compiled_and_answers(tmp_path: Path) -> None:
    wheel = built(tmp_path, {})
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path / "installed")

    where = subprocess.run(
        [sys.executable, "-c", "import redisai_engine.fronts.resp.session as s; print(s.__file__)"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    ).stdout.strip()
    engine = start_engine(tmp_path / "engine", environment={"PYTHONPATH": str(tmp_path / "installed")})
    try:
        with connected(engine) as wire:
            store_model(wire, "m")
            answer = predict(wire, "m", 3, 4)
    finally:
        engine.stop()

    assert not wheel.name.endswith("-none-any.whl")
    assert where.startswith(str(tmp_path))
    assert where.endswith(".so")
    assert answer == 7.0


@pytest.mark.parametrize(
    "environment", [{"MLFLOW_REDISAI_PURE": "1"}, {"CC": "no-such-compiler"}], ids=["asked for", "no compiler"]
)
def test_without_a_compiler_the_wheel_is_pure_python(tmp_path: Path, environment: dict[str, str]) -> None:
    wheel = built(tmp_path, environment)

    assert wheel.name.endswith("-py3-none-any.whl")
    assert compiled_files(wheel) == set()
    assert ("The engine is not compiled" in (tmp_path / "log").read_text()) == ("CC" in environment)
