"""
Takes pictures of the live page: `python -m support.screenshots FOLDER`, or `scripts/screenshots`.

A real classifier is deployed and asked for some time, and a second version of it in the middle.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from support.browser import browser
from support.http_calls import HttpServer, http_engine
from support.mlflow_models import log_wine_classifier

_SECONDS = 12.0  # of load on each version


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-") as temporary, http_engine(Path(temporary)) as http:
        _deploy_and_ask(http, Path(temporary))
        with browser() as chromium:
            for name, path in (("overview", "/"), ("deployment", "/live/deployments/wine")):
                for width in (390, 1440):
                    for dark in (False, True):
                        page = chromium.page()
                        page.look(width, dark=dark)
                        page.open(f"http://127.0.0.1:{http.port}{path}")
                        page.wait_for("document.getElementById('state').textContent === 'live'")
                        if name == "deployment":
                            page.tab_to("#try button")
                            page.press("Enter")
                            page.wait_for("document.getElementById('took').textContent.startsWith('200 after')")
                        page.screenshot(folder / f"{name}-{width}-{'dark' if dark else 'light'}.png")


def _deploy_and_ask(http: HttpServer, folder: Path) -> None:
    import mlflow

    from mlflow_redisai import RedisAIClient

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("wine", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("wine")
    model = log_wine_classifier("wine")
    client = RedisAIClient(http.engine.target)
    client.create_deployment("wine", model.uri)
    client.create_deployment("wine-batched", model.uri, config={"batchsize": 16})
    ending = threading.Event()
    asking = threading.Thread(target=_ask, args=(client, model.frame, ending))
    asking.start()
    time.sleep(_SECONDS)
    log_wine_classifier("wine", regularization=0.5)
    client.update_deployment("wine", model.uri)
    http.engine.client().execute_command("AI.TENSORSET", "bad", "FLOAT", 1, 2, "VALUES", 1, 2)
    for _ in range(2):
        http.ask(
            "POST",
            "/v2/models/wine/infer",
            {"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]},
        )
    time.sleep(_SECONDS)
    ending.set()
    asking.join()


def _ask(client: object, frame: object, ending: threading.Event) -> None:
    number = 0
    while not ending.wait(0.005):
        number += 1
        client.predict("wine", frame.head(1 + number % 7))  # type: ignore[attr-defined]
        if number % 5 == 0:
            client.predict("wine-batched", frame.head(16))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
