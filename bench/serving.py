"""
How fast does one small model answer behind the engine, and behind `mlflow models serve`?

The model is a logistic regression on the wine data (13 numbers in, one label out), as ONNX. One row a request, over one
connection and over 50, closed loop. The servers take turns in every round; the figures are the medians over the rounds.
The limit is ONNX Runtime called in a loop in one process, without any server. Memory is read before the load, idle.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import load, results, servers
from bench.wire import Exchange, http_exchange, redis_exchange

QUESTION = "One small model behind the engine, and behind `mlflow models serve`"
CONNECTIONS = (1, 50)
NAME = "wine"


def main(seconds: float, rounds: int, command: str) -> None:
    """Measures, prints the table and writes the results."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        model_uri, frame = train(folder)
        with servers.engine(folder) as (port, pid), servers.mlflow_serve(folder, model_uri) as (http_port, http_pid):
            target = f"redisai://127.0.0.1:{port}/0"
            deploy(target, model_uri)
            sides = {
                "engine": (port, engine_exchange(target, frame), pid),
                "mlflow models serve": (http_port, mlflow_exchange(frame), http_pid),
            }
            for side_port, exchange, _ in sides.values():
                load.run(side_port, exchange, 1, min(seconds, 2.0))  # warm-up, not counted
            memory = {side: servers.resident_mb(side_pid) for side, (_, _, side_pid) in sides.items()}
            figures: dict[str, Any] = {"memory_mb": memory, "rounds": []}
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", flush=True)
                figures["rounds"].append(one_round(sides, seconds))
            redis_version = _redis_version(port)
        figures["onnxruntime_loop"] = [bare_loop(model_uri, frame, min(seconds, 3.0)) for _ in range(rounds)]
    about = results.circumstances(QUESTION, command, redis_version)
    print(results.write("serving", about, figures, *table(figures)))


def train(folder: Path) -> tuple[str, Any]:
    """Logs the model as ONNX to a file store in the folder; gives its URI and one row."""
    import mlflow
    from mlflow.models import infer_signature
    from skl2onnx import to_onnx
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression

    wines = load_wine(as_frame=True)
    frame = wines.data.astype("float32")
    model = LogisticRegression(max_iter=5000).fit(frame.to_numpy(), wines.target)
    onnx_model = to_onnx(model, frame.to_numpy()[:1], options={"zipmap": False}, target_opset=15)
    path = folder / "model"
    array = frame.to_numpy()
    mlflow.onnx.save_model(
        onnx_model, path, signature=infer_signature(array, model.predict(array)), input_example=array[:2]
    )
    return path.as_uri(), array[:1]


def deploy(target: str, model_uri: str) -> None:
    from mlflow.deployments import get_deploy_client

    get_deploy_client(target).create_deployment(NAME, model_uri)


def engine_exchange(target: str, row: Any) -> Exchange:
    """The very command that the plugin's predict sends."""
    import redis

    from mlflow_redisai import commands
    from redisai_engine.protocol.tensor import Tensor

    with redis.Redis.from_url(target.replace("redisai:", "redis:")) as client:
        reply = client.execute_command("AI.MODELGET", NAME, "META")
    outputs = len(commands.ModelMeta.from_reply(reply).outputs)
    return redis_exchange(commands.dag(NAME.encode(), [Tensor.from_array(row)], outputs, range(outputs), 30_000))


def mlflow_exchange(row: Any) -> Exchange:
    return http_exchange("/invocations", {"inputs": row.tolist()})


def one_round(sides: dict[str, tuple[int, Exchange, int]], seconds: float) -> dict[str, Any]:
    """Every side in turn, with each number of connections."""
    return {
        side: [asdict(load.run(port, exchange, connections, seconds)) for connections in CONNECTIONS]
        for side, (port, exchange, _) in sides.items()
    }


def bare_loop(model_uri: str, row: Any, seconds: float) -> dict[str, float]:
    """ONNX Runtime alone: one thread, the same model and row, as fast as a loop can call it."""
    import onnxruntime
    from mlflow.artifacts import download_artifacts

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(Path(download_artifacts(model_uri)) / "model.onnx"), options)
    feed = {session.get_inputs()[0].name: row}
    latencies = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        before = time.perf_counter()
        session.run(None, feed)
        latencies.append((time.perf_counter() - before) * 1000)
    latencies.sort()
    return {
        "per_second": round(len(latencies) / seconds, 1),
        "median_ms": round(latencies[len(latencies) // 2], 4),
        "p99_ms": round(latencies[len(latencies) * 99 // 100], 4),
    }


def table(figures: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """The medians over the rounds, one line a server and number of connections."""
    header = ["", "connections", "median ms", "p99 ms", "predictions a second", "idle memory MB"]
    rows: list[list[Any]] = []
    for side, memory in figures["memory_mb"].items():
        for index, connections in enumerate(CONNECTIONS):
            runs = [one[side][index] for one in figures["rounds"]]
            rows.append([side, connections, *_medians(runs), round(sum(memory.values()), 1)])
    rows.append(["ONNX Runtime in a loop, no server", "", *_medians(figures["onnxruntime_loop"]), ""])
    return header, rows


def _medians(runs: list[dict[str, float]]) -> list[str]:
    middle = {name: statistics.median(run[name] for run in runs) for name in ("median_ms", "p99_ms", "per_second")}
    return [f"{middle['median_ms']:.3f}", f"{middle['p99_ms']:.3f}", f"{middle['per_second']:,.0f}"]


def _redis_version(port: int) -> str:
    import redis

    with redis.Redis(port=port) as client:
        return str(client.info("server")["redis_version"])
