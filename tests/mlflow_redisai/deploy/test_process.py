"""
A model that hangs, crashes or takes too much while it is converted is refused, and leaves nothing behind.

A model that behaves is converted as it would be in the caller's own process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlflow_redisai import errors
from mlflow_redisai.deploy import process as processes
from mlflow_redisai.deploy.assignment import Assignment
from mlflow_redisai.deploy.process import ConversionProcess, conversion_process
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.choice import convert
from mlflow_redisai.models.loading import open_model
from mlflow_redisai.models.reference import Reference
from mlflow_redisai.server.limits import ServerLimits
from support.hostile_models import save_trap
from support.mlflow_models import LoggedModel
from support.waiting import is_running, wait_until

MIB = 1 << 20


def assignment(path: str, flavor: str = "sklearn", **limits: Any) -> Assignment:
    found = {"backend": "ONNX", "opset": None, "limits": ServerLimits(), "outputs": None, **limits}
    return Assignment(uri=f"folder:{Path(path).name}", path=path, flavor=flavor, **found)


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder for temporary files, of this process and of those that it starts."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        yield folder


@pytest.fixture(scope="module")
def child(temporary: Path) -> Iterator[ConversionProcess]:
    """One child for all tests: it must survive whatever its workers do."""
    child = ConversionProcess()
    yield child
    child.close()


# -- a model that behaves --------------------------------------------------------------------------


def test_the_result_is_that_of_a_conversion_in_this_process(child: ConversionProcess, saved_wine: LoggedModel) -> None:
    """Also the answer to the input example, which the child has asked the model for."""
    found = child.convert(assignment(saved_wine.uri))

    with open_model(saved_wine.uri) as model:
        here = convert(model, flavor="sklearn", backend="ONNX", limits=ServerLimits())
        assert (found.backend, found.mapping, found.notes) == (here.backend, here.mapping, here.notes)
        assert isinstance(found.reference, Reference)
        assert isinstance(here.reference, Reference)
        assert found.reference.kind == here.reference.kind == "mlflow.pyfunc"
        expected = here.reference.answer(model.input_example)
        np.testing.assert_array_equal(found.reference.answer(model.input_example), expected)


def test_a_refusal_comes_back_as_it_was_raised(child: ConversionProcess, saved_wine: LoggedModel) -> None:
    """With its class, its text, and the trace of what happened in the child."""
    with pytest.raises(errors.NotConvertible) as caught:
        child.convert(assignment(saved_wine.uri, backend="TORCH"))

    assert caught.value.message == ("the flavor sklearn can't be deployed with backend TORCH; allowed are auto, ONNX")
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert "in convert" in str(caught.value.__cause__)


SCRIPT = """
import sys
from pathlib import Path
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from support.local_runs import save_sklearn
from mlflow_redisai import RedisAIClient

print("the script runs")

class Note:
    def __init__(self, text):
        self.text = text + SUFFIX

SUFFIX = "!"
data = load_iris(as_frame=True)
classifier = LogisticRegression(max_iter=1000).fit(data.data, data.target)
classifier.note = Note("mine")
save_sklearn(Path(sys.argv[2]), classifier, data.data, serialization_format="pickle")
print(RedisAIClient(sys.argv[1]).create_deployment(sys.argv[3], sys.argv[2])["verification"]["status"])
"""


@pytest.mark.slow
def test_a_class_of_the_users_script_is_found_and_the_script_is_not_run_again(engine: Any, tmp_path: Path) -> None:
    """A pickle names it as `__main__.Note`. The script has no `if __name__ == "__main__"`."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), engine.target, str(tmp_path / "model"), "script:note"]

    shown = subprocess.run(command, capture_output=True, text=True, env=_with_tests_on_the_path(), timeout=240)

    assert shown.stdout.splitlines() == ["the script runs", "passed"], shown.stderr


def _with_tests_on_the_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


# -- one that does not -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "how"),
    [("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("_exit", "exit code 3")],
)
def test_a_crash_is_a_refusal(child: ConversionProcess, tmp_path: Path, deed: str, how: str) -> None:
    with pytest.raises(errors.ConversionCrashed) as caught:
        child.convert(assignment(save_trap(deed, tmp_path)))

    assert caught.value.message == (
        f"the process that converted the sklearn model folder:model crashed ({how}); load and run the model in a "
        "process of its own to see whether its library or its own code does that"
    )


@pytest.mark.parametrize(("deed", "said"), [("exit", "SystemExit: 4"), ("raise", "first line")])
def test_what_a_model_raises_is_a_refusal(child: ConversionProcess, tmp_path: Path, deed: str, said: str) -> None:
    with pytest.raises(errors.NotConvertible) as caught:
        child.convert(assignment(save_trap(deed, tmp_path)))

    assert caught.value.message.startswith("the sklearn model folder:model can't be ")
    assert caught.value.message.endswith(f": {said}")


def test_what_a_model_writes_disturbs_nothing(child: ConversionProcess, tmp_path: Path) -> None:
    found: Deployable = child.convert(assignment(save_trap("chatter", tmp_path)))

    assert found.backend == "ONNX"


def test_too_much_memory_is_a_refusal(child: ConversionProcess, tmp_path: Path) -> None:
    with pytest.raises(errors.ConversionTooLarge) as caught:
        child.convert(assignment(save_trap("take memory", tmp_path), memory=600 * MIB))

    assert caught.value.message == (
        "converting the sklearn model folder:model took more than 600 MiB of memory and was ended; allow more with "
        "-C convert_memory=... (MiB, 0: no limit), or deploy it from a machine that has more"
    )


@pytest.mark.parametrize("deed", ["hang", "hang without letting go"])
def test_too_much_time_is_a_refusal(child: ConversionProcess, tmp_path: Path, deed: str) -> None:
    """Even if a library keeps the interpreter's lock."""
    with pytest.raises(errors.ConversionTooLong) as caught:
        child.convert(assignment(save_trap(deed, tmp_path), timeout_s=1.0))

    assert caught.value.message == (
        "converting the sklearn model folder:model took longer than 1 s and was ended; "
        "allow more with -C convert_timeout=600 (0: no limit)"
    )


def test_nothing_is_left_of_what_a_model_has_started(child: ConversionProcess, temporary: Path, tmp_path: Path) -> None:
    """Neither its processes nor its temporary files."""
    before = set(temporary.iterdir())

    with pytest.raises(errors.ConversionCrashed):
        child.convert(assignment(save_trap("litter and crash", tmp_path)))

    started = [int(pid) for pid in (tmp_path / "processes").read_text().split()]
    wait_until(lambda: not any(map(is_running, started)), what="the end of what the model has started")
    assert set(temporary.iterdir()) == before


# -- the child itself ------------------------------------------------------------------------------


def test_a_child_is_kept_for_the_next_deployment_but_not_after_a_crash(temporary: Path, tmp_path: Path) -> None:
    path = save_trap("_exit", tmp_path)
    with conversion_process() as first:
        pass
    with pytest.raises(errors.ConversionCrashed), conversion_process() as second:
        second.convert(assignment(path))
    with conversion_process() as third:
        pass
    processes.close()

    assert second is first
    assert third is not first
    assert not any(is_running(each._process.pid) for each in (first, third))
