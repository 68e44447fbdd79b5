"""
A Python model behind the engine and behind its alternatives: one row per request, 50 connections, two workers each.

Every server loads the same MLflow model with `mlflow.pyfunc`, in its most usual way. One server runs at a time, and
each one's first answer is compared with pyfunc's.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import environments, load, servers
from bench.rivals import APPS, Rival, open_inference, started
from bench.rounds import Figures, Plan
from bench.servers import Running
from bench.wire import Exchange, http_exchange

MLFLOW = "mlflow models serve, 50 connections"
CONNECTIONS = 50
WORKERS = 2
_WARM_UP_S = 1.0
_MODEL_OF_NUMPY_1 = ("mlflow==3.17.2", "scikit-learn==1.7.2", "pandas==2.3.3", "numpy==1.26.4")
_MODEL = ("mlflow==3.17.2", "scikit-learn==1.9.1", "pandas==3.1.1", "numpy==2.4.6")


def _columns(row: list[Any]) -> object:
    """Return the same, as MLServer takes a frame: one input for each column."""
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [number]}
        for name, number in zip("abcd", row[0], strict=True)
    ]
    return {"id": "1", "parameters": {"content_type": "pd"}, "inputs": inputs}


RIVALS = (
    Rival(
        name="LitServe",
        packages=("litserve==0.2.19", *_MODEL),
        command=("python", str(APPS / "litserve_python_app.py")),
        ready="/health",
        path="/predict",
        request=lambda row: {"inputs": row},
        answer=lambda body: body["outputs"],
    ),
    Rival(
        name="BentoML",
        packages=("bentoml==1.4.39", *_MODEL),
        command=("bentoml", "serve", "bentoml_python_app:Linear", "--host", "127.0.0.1", "--port", "{port}"),
        ready="/readyz",
        path="/predict",
        request=lambda row: {"inputs": row},
        answer=lambda body: body,
    ),
    Rival(
        name="MLServer's MLflow runtime",
        # It sets uvloop's policy in a way that newer versions refuse.
        packages=("mlserver==1.7.1", "mlserver-mlflow==1.7.1", "mlflow", "scikit-learn==1.9.1", "uvloop==0.21.0"),
        command=("mlserver", "start", "."),
        ready="/v2/models/linear/ready",
        path="/v2/models/linear/infer",
        request=_columns,
        answer=lambda body: body["outputs"][0]["data"],
        files=lambda port: {
            "settings.json": {
                "host": "127.0.0.1",
                "parallel_workers": WORKERS,
                "http_port": port,
                "grpc_port": servers.free_port(),
                "metrics_port": servers.free_port(),
            },
            "model-settings.json": {
                "name": "linear",
                "implementation": "mlserver_mlflow.MLflowRuntime",
                "parameters": {"uri": "../model"},
            },
        },
    ),
    Rival(
        name="Triton's Python backend",
        packages=("nvidia-pytriton==0.7.0", *_MODEL_OF_NUMPY_1),
        command=("python", str(APPS / "triton_python_app.py")),
        ready="/v2/models/linear/ready",
        path="/v2/models/linear/infer",
        request=partial(open_inference, datatype="FP64"),
        answer=lambda body: body["outputs"][0]["data"],
    ),
)


@dataclass(frozen=True)
class Example:
    """The folder of the model, one row, and its answer."""

    model: Path
    row: Any
    expected: Any


def subjects(plan: Plan, example: Example) -> dict[str, Callable[[], Figures]]:
    """Return what measures each alternative."""
    sides: dict[str, Callable[[], Figures]] = {MLFLOW: partial(_mlflow, plan, example)}
    for rival in RIVALS:
        plan.progress.round(f"{plan.scenario}: environment of {rival.name}")
        name = f"{rival.name}, {CONNECTIONS} connections"
        try:
            slug = "python-" + rival.name.lower().replace(" ", "-").replace("'", "")
            python = environments.python_with(slug, rival.packages)
            measure = partial(_rival, plan, rival, python, example)
            measure(seconds=0.2)
            sides[name] = measure
        except servers.StartFailed as error:  # whose text is the server's log
            print(error, file=sys.stderr)
            plan.skipped[name] = "it did not start"
        except (environments.NotInstalled, ValueError, OSError) as error:
            plan.skipped[name] = str(error)
    return sides


def _mlflow(plan: Plan, example: Example) -> Figures:
    port = servers.free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(example.model), "-p", str(port)]
    command += ["--env-manager", "local", "--workers", str(WORKERS)]
    with servers.http_server(command, plan.folder, port, "/ping") as server:
        frame = {"columns": list(example.row), "data": example.row.values.tolist()}
        exchange = http_exchange("/invocations", {"dataframe_split": frame})
        _compare(port, exchange, lambda body: body["predictions"], example)
        return loaded(server, exchange, plan.seconds)


def _rival(plan: Plan, rival: Rival, python: Path, example: Example, seconds: float | None = None) -> Figures:
    environment = {
        "BENCH_WORKERS": str(WORKERS),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR"),  # Triton's backend is linked to libpython
    }
    folder = plan.folder / rival.name.replace("'", "")
    with started(rival, python, folder, example.model, **environment) as server:
        exchange = http_exchange(rival.path, rival.request(example.row.values.tolist()))
        _compare(server.port, exchange, rival.answer, example)
        return loaded(server, exchange, plan.seconds if seconds is None else seconds)


def _compare(port: int, exchange: Exchange, answer: Callable[[Any], object], example: Example) -> None:
    """Raise ValueError unless the server answers as pyfunc does."""
    body = exchange.answer(load.first_reply(port, exchange))
    got = np.asarray(answer(json.loads(body)), float).reshape(-1)
    if not np.allclose(got, example.expected):
        raise ValueError(f"a wrong answer: {body[:300]!r}, expected {example.expected.tolist()}")


def loaded(server: Running, exchange: Exchange, seconds: float) -> Figures:
    """Measure a server that has answered rightly."""
    load.run(server.port, exchange, WORKERS, min(seconds, _WARM_UP_S))
    one = load.run(server.port, exchange, CONNECTIONS, seconds)
    memory = sum(servers.resident_mb(server.pid).values())
    return {
        "per_second": one.per_second,
        "median_us": round(one.median_ms * 1000, 1),
        "p99_ms": one.p99_ms,
        "mb": round(memory, 1),
    }
