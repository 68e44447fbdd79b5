"""
The tiny model behind the engine and behind its alternatives: one row per request, 1 and 50 connections.

Every server gets the same ONNX file and runs it with ONNX Runtime, in its most usual way and with its defaults. One
server runs at a time, and each is started again in every round, so an idle one never costs another anything. All are
loaded by our own generator, and each one's first answer is compared with ONNX Runtime's.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import environments, load, models, servers
from bench.models import Model
from bench.rounds import Figures, Plan, Series
from bench.servers import Running
from bench.storing import deploy
from bench.wire import Exchange, http_exchange, redis_exchange

APPS = Path(__file__).parent / "apps"
ENGINE = "this project's engine"
MLFLOW = "mlflow models serve"
CONNECTIONS = (1, 50)
_WARM_UP_S = 0.5


@dataclass(frozen=True)
class Rival:
    """How a server is installed, started and queried. A command's first word is a program in its environment."""

    name: str
    packages: tuple[str, ...]  # pinned; the first is the server itself
    command: tuple[str, ...]  # `{port}` is replaced
    ready: str  # a path that returns 200 once the model can be queried
    path: str
    request: Callable[[list[Any]], object]
    answer: Callable[[Any], object]
    files: Callable[[int], dict[str, object]] = lambda port: {}  # JSON files in the folder in which it is started


def open_inference(row: list[Any], datatype: str = "FP32") -> object:
    """
    Return the Open Inference Protocol's request.

    Its id comes back; without one, the server would make up a random id.
    """
    rows = {"name": "x", "shape": [1, len(row[0])], "datatype": datatype, "data": row[0]}
    return {"id": "1", "inputs": [rows]}


_RUNTIME = ("onnxruntime==1.32.0", "numpy==2.4.6")
RIVALS = (
    Rival(
        name="LitServe",
        packages=("litserve==0.2.19", *_RUNTIME),
        command=("python", str(APPS / "litserve_app.py")),
        ready="/health",
        path="/predict",
        request=lambda row: {"inputs": row},
        answer=lambda body: body["outputs"],
    ),
    Rival(
        name="BentoML",
        packages=("bentoml==1.4.39", *_RUNTIME),
        command=("bentoml", "serve", "bentoml_app:Tiny", "--host", "127.0.0.1", "--port", "{port}"),
        ready="/readyz",
        path="/predict",
        request=lambda row: {"inputs": row},
        answer=lambda body: body,
    ),
    Rival(
        name="MLServer",
        packages=("mlserver==1.7.1", *_RUNTIME),
        command=("mlserver", "start", "."),
        ready="/v2/models/tiny/ready",
        path="/v2/models/tiny/infer",
        request=open_inference,
        answer=lambda body: body["outputs"][0]["data"],
        files=lambda port: {
            "settings.json": {
                "host": "127.0.0.1",
                "parallel_workers": 0,
                "http_port": port,
                "grpc_port": servers.free_port(),
                "metrics_port": servers.free_port(),
            },
            "model-settings.json": {"name": "tiny", "implementation": "mlserver_app.Tiny"},
        },
    ),
    Rival(
        name="KServe",
        packages=("kserve==0.21.0", *_RUNTIME),
        command=("python", str(APPS / "kserve_app.py")),
        ready="/v2/models/tiny/ready",
        path="/v2/models/tiny/infer",
        request=open_inference,
        answer=lambda body: body["outputs"][0]["data"],
    ),
)


def run(plan: Plan) -> Series:
    tiny = models.tiny()
    (plan.folder / "tiny.onnx").write_bytes(tiny.onnx)
    sides: dict[str, Callable[[], Figures]] = {ENGINE: lambda: _engine(plan), MLFLOW: lambda: _mlflow(plan)}
    for rival, python in usable(RIVALS, plan):
        sides[rival.name] = partial(_rival, plan, rival, python)
    return plan.in_turns(sides)


def usable(rivals: Sequence[Rival], plan: Plan) -> Iterator[tuple[Rival, Path]]:
    """Install rivals, and return those that start and answer right, each with its interpreter."""
    for rival in rivals:
        plan.progress.round(f"{plan.scenario}: environment of {rival.name}")
        try:
            python = environments.python_with(rival.name.lower().replace(" ", "-"), rival.packages)
            with serve(rival, python, plan.folder):
                pass
        except (environments.NotInstalled, servers.StartFailed, ValueError, OSError) as error:
            plan.skipped[rival.name] = str(error)
        else:
            yield rival, python


def _engine(plan: Plan) -> Figures:
    with servers.engine(plan.folder / "engine") as server:
        deploy(server.port, models.tiny())
        return _loaded(server, redis_exchange(models.tiny().dag()), plan.seconds)


def _mlflow(plan: Plan) -> Figures:
    row = models.tiny().rows().tolist()
    with mlflow_serve(plan.folder) as server:
        exchange = http_exchange("/invocations", {"inputs": row})
        _compare(server.port, exchange, lambda body: body["predictions"]["probabilities"])
        return _loaded(server, exchange, plan.seconds)


@contextlib.contextmanager
def mlflow_serve(folder: Path, model: Model | None = None) -> Iterator[Running]:
    """Start `mlflow models serve` with a model, by default the tiny one, in this environment."""
    import mlflow
    import onnx

    model = model or models.tiny()
    if not (folder / "mlflow").exists():
        graph = onnx.load_model_from_string(model.onnx)
        mlflow.onnx.save_model(graph, folder / "mlflow", input_example=model.rows(), pip_requirements=[])
    port = servers.free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder / "mlflow"), "-p", str(port)]
    with servers.http_server([*command, "--env-manager", "local"], folder, port, "/ping") as server:
        yield server


def _rival(plan: Plan, rival: Rival, python: Path) -> Figures:
    with serve(rival, python, plan.folder) as (server, exchange):
        return _loaded(server, exchange, plan.seconds)


@contextlib.contextmanager
def serve(rival: Rival, python: Path, at: Path) -> Iterator[tuple[Running, Exchange]]:
    """Start a rival, which serves `tiny.onnx` in the folder `at`. Raise ValueError if its answer is wrong."""
    with started(rival, python, at / rival.name, at / "tiny.onnx") as server:
        exchange = http_exchange(rival.path, rival.request(models.tiny().rows().tolist()))
        _compare(server.port, exchange, rival.answer)
        yield server, exchange


@contextlib.contextmanager
def started(rival: Rival, python: Path, folder: Path, model: Path, **environment: str) -> Iterator[Running]:
    """Start a rival in a folder of its own, with its files, until it can be queried."""
    port = servers.free_port()
    folder.mkdir(exist_ok=True)
    for name, content in rival.files(port).items():
        (folder / name).write_text(json.dumps(content))
    environment |= {"BENCH_MODEL": str(model), "BENCH_PORT": str(port), "PYTHONPATH": str(APPS)}
    command = [word.replace("{port}", str(port)) for word in rival.command]
    command[0] = str(python.parent / command[0])
    with servers.http_server(command, folder, port, rival.ready, environment) as server:
        yield server


def _compare(port: int, exchange: Exchange, answer: Callable[[Any], object]) -> None:
    """Raise ValueError unless the server answers as ONNX Runtime does."""
    tiny = models.tiny()
    session = tiny.session()
    expected = session.run(None, {session.get_inputs()[0].name: tiny.rows()})[0]
    body = exchange.answer(load.first_reply(port, exchange))
    got = np.asarray(answer(json.loads(body)), float).reshape(expected.shape)
    if not np.allclose(got, expected, rtol=1e-4):
        raise ValueError(f"a wrong answer: {body[:300]!r}, expected {expected.tolist()}")


def _loaded(server: Running, exchange: Exchange, seconds: float) -> Figures:
    memory = sum(servers.resident_mb(server.pid).values())
    load.run(server.port, exchange, 1, min(seconds, _WARM_UP_S))
    found: Figures = {"start_s": server.start_s, "idle_mb": round(memory, 1)}
    for connections in CONNECTIONS:
        one = load.run(server.port, exchange, connections, seconds)
        found[f"per_second_{connections}"] = one.per_second
        found[f"median_ms_{connections}"] = one.median_ms
        found[f"p99_ms_{connections}"] = one.p99_ms
    return found
