"""What takes long is done in threads: large bodies are read there, and metrics are written there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.http_calls import HttpServer, infer_json
from support.tiny_models import product_and_sum

# Is imported by Python at its start, and notes which threads read JSON, large or small, and write metrics.
WATCH = """
import threading
import orjson
from prometheus_client import exposition

def noted(work, name_of):
    def noting(*arguments, **options):
        with open({path!r}, "a") as file:
            file.write(name_of(*arguments) + ":" + threading.current_thread().name + "\\n")
        return work(*arguments, **options)
    return noting

orjson.loads = noted(orjson.loads, lambda text: "large body" if len(text) > 1 << 16 else "small body")
exposition.generate_latest = noted(exposition.generate_latest, lambda registry: "metrics")
"""
LOOP = "MainThread"


@pytest.fixture
def watched(
    new_http: Callable[..., HttpServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[HttpServer, Callable[[str], set[str]]]:
    """An engine, and a function that returns which of its threads have done something."""
    file = tmp_path / "noted"
    folder = tmp_path / "watch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WATCH.format(path=str(file)))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    server = new_http()
    server.engine.client().execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)

    def threads(what: str) -> set[str]:
        pairs = [line.split(":", 1) for line in file.read_text().splitlines()]
        return {thread for name, thread in pairs if name == what}

    return server, threads


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v2/models/m/infer?not=hot", "/invocations/m"])
def test_the_event_loop_reads_only_small_bodies(
    watched: tuple[HttpServer, Callable[[str], set[str]]], path: str
) -> None:
    server, threads = watched
    for rows in (1, 10_000):
        numbers = [[0.1, 0.2]] * rows
        if path.startswith("/v2"):
            body = infer_json(a=("FP32", [rows, 2], numbers), b=("FP32", [rows, 2], numbers))
        else:
            body = {"inputs": {"a": numbers, "b": numbers}}
        for _ in range(2):  # the second request finds the model and the user known
            assert server.ask("POST", path, body).status == 200

    assert threads("small body") == {LOOP}
    assert threads("large body")
    assert LOOP not in threads("large body")


def test_the_event_loop_writes_no_metrics(watched: tuple[HttpServer, Callable[[str], set[str]]]) -> None:
    server, threads = watched

    assert server.ask("GET", "/metrics").status == 200

    assert threads("metrics")
    assert LOOP not in threads("metrics")
