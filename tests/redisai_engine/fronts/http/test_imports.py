"""Pandas takes hundreds of milliseconds to import: never in the event loop, whatever is asked for first."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from support.http_calls import HttpServer
from support.tiny_models import passing

# Is imported by Python at its start, and notes which threads look for pandas.
WATCH = """
import sys, threading
def note(event, arguments):
    if event == "import" and arguments[0] == "pandas":
        with open({path!r}, "a") as file:
            file.write(threading.current_thread().name + "\\n")
sys.addaudithook(note)
"""
ROWS = {"columns": ["x"], "data": [[1.0], [2.0]]}


@pytest.fixture
def watched(
    new_http: Callable[..., HttpServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[HttpServer, Path]:
    """An engine that has not imported pandas, and the file with the threads that do."""
    noted = tmp_path / "threads"
    folder = tmp_path / "watch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WATCH.format(path=str(noted)))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    return new_http("--python-models"), noted


def deploy_onnx(server: HttpServer, folder: Path) -> None:
    blob = passing("ONNX", "float64").blob
    server.engine.client().execute_command("AI.MODELSTORE", "model", "ONNX", "CPU", "BLOB", blob)


def deploy_python(server: HttpServer, folder: Path) -> None:
    import mlflow_redisai
    from support import python_models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = python_models.save("scaling", folder)
        client = mlflow_redisai.RedisAIClient(server.engine.target)
        client.create_deployment("model", str(model.path), config={"env": "local", "convert_timeout": "0"})


CSV = (b"x\n1\n2\n", "text/csv")
JSON = "application/json"


@pytest.mark.parametrize(
    ("deploy", "body", "kind", "needs_it"),
    [
        (deploy_onnx, *CSV, True),
        (deploy_onnx, {"dataframe_split": ROWS}, JSON, False),
        (deploy_onnx, {"dataframe_records": [{"x": 1.0}]}, JSON, False),
        (deploy_onnx, {"instances": [{"x": 1.0}]}, JSON, False),
        (deploy_python, {"dataframe_split": ROWS}, JSON, True),
    ],
    ids=["csv", "split", "records", "instances", "Python model"],
)
def test_the_event_loop_does_not_import_it(
    watched: tuple[HttpServer, Path],
    tmp_path: Path,
    deploy: Callable[[HttpServer, Path], None],
    body: object,
    kind: str,
    *,
    needs_it: bool,
) -> None:
    server, noted = watched
    deploy(server, tmp_path)
    noted.write_text("")  # what the workers of the model have imported doesn't count

    for _ in range(2):
        assert server.ask("POST", "/invocations/model", body, content_type=kind).status in (200, 400)

    threads = set(noted.read_text().split())
    assert "MainThread" not in threads
    assert bool(threads) == needs_it
