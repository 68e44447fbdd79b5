"""
Models of scikit-learn that the plugin deploys, and a process that does so and predicts as often as it is told.

Invariant: this imports nothing of the project but the plugin, because the process may run that of another version.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas


def iris(client: Any, folder: Path) -> pandas.DataFrame:
    """Deploy a logistic regression and return one row."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    numbers, species = load_iris(return_X_y=True, as_frame=True)
    deploy(client, folder, "iris", LogisticRegression(max_iter=1000).fit(numbers, species), numbers)
    first: pandas.DataFrame = numbers.head(1)
    return first


def deploy(client: Any, folder: Path, name: str, model: Any, frame: pandas.DataFrame) -> None:
    """Save a model of scikit-learn and deploy it."""
    import mlflow
    from mlflow.models import infer_signature

    few = frame.head(3)
    has_names = hasattr(model, "feature_names_in_")  # fitted with a frame; without one it would warn
    signature = infer_signature(few, model.predict(few if has_names else few.to_numpy()))
    mlflow.sklearn.save_model(
        model,
        folder / name,
        signature=signature,
        input_example=few,
        pip_requirements=[],
        serialization_format="cloudpickle",  # skops doesn't trust scikit-learn's trees
    )
    client.create_deployment(name, (folder / name).as_uri())


def main() -> None:
    """Deploy a model to the engine at the port that the command line names, and predict as often as each line says."""
    from mlflow.deployments import get_deploy_client

    port, folder = sys.argv[1:]
    client: Any = get_deploy_client(f"redisai://127.0.0.1:{port}/0")  # type: ignore[no-untyped-call]
    row = iris(client, Path(folder))
    for line in sys.stdin:
        print(json.dumps(_turn(lambda: client.predict("iris", row), int(line))), flush=True)


def _turn(predict: Callable[[], Any], times: int) -> dict[str, float]:
    latencies = []
    used = time.process_time_ns()
    for _ in range(times):
        before = time.perf_counter_ns()
        predict()
        latencies.append(time.perf_counter_ns() - before)
    used = time.process_time_ns() - used
    return {"median_ms": sorted(latencies)[times // 2] / 1e6, "client_us": used / times / 1e3}


if __name__ == "__main__":
    main()
