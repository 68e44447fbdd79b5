"""Several clients at once: one creator wins. An update never costs a prediction and never mixes two deployments up."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from mlflow_redisai import RedisAIClient
from support.mlflow_models import LoggedModel
from support.servers import Server
from support.waiting import wait_until

pytestmark = pytest.mark.slow

Connect = Callable[..., RedisAIClient]


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except MlflowException as error:
        return str(error.error_code)
    return "done"


@pytest.mark.parametrize("attempt", range(5))
def test_of_creators_at_once_exactly_one_wins(
    connect: Connect, saved_wine: LoggedModel, retrained_wine: LoggedModel, attempt: int
) -> None:
    """Afterwards the name answers as the winner's model, with the winner's record."""
    name = f"race{attempt}:wine"
    models = [saved_wine, retrained_wine, saved_wine, retrained_wine]
    clients = [connect() for _ in models]
    start = threading.Barrier(len(models))

    def create(index: int) -> str:
        start.wait()
        return outcome(lambda: clients[index].create_deployment(name, models[index].uri))

    with ThreadPoolExecutor(len(models)) as pool:
        outcomes = list(pool.map(create, range(len(models))))

    assert sorted(outcomes) == ["RESOURCE_ALREADY_EXISTS"] * 3 + ["done"]
    winner = models[outcomes.index("done")]
    assert clients[0].get_deployment(name)["model_uri"] == winner.uri
    assert clients[0].predict(name, winner.frame)["predictions"].tolist() == winner.expected().tolist()


def test_updates_at_once_all_succeed_and_the_last_one_holds(
    connect: Connect, saved_wine: LoggedModel, retrained_wine: LoggedModel
) -> None:
    name = "updates:wine"
    client = connect()
    client.create_deployment(name, saved_wine.uri)
    models = [saved_wine, retrained_wine] * 3

    with ThreadPoolExecutor(len(models)) as pool:
        outcomes = list(pool.map(lambda m: outcome(lambda: connect().update_deployment(name, m.uri)), models))

    assert outcomes == ["done"] * len(models)
    holds = next(model for model in models if model.uri == client.get_deployment(name)["model_uri"])
    assert client.predict(name, holds.frame)["predictions"].tolist() == holds.expected().tolist()


def test_an_update_of_options_never_brings_back_a_model_that_was_replaced(
    connect: Connect, saved_wine: LoggedModel, retrained_wine: LoggedModel
) -> None:
    """It reads the stored model and stores it again. An update in between must not be undone."""
    name = "lost:wine"
    client = connect()
    client.create_deployment(name, saved_wine.uri)

    with ThreadPoolExecutor(2) as pool:
        options = pool.submit(lambda: [connect().update_deployment(name, config={"tag": str(n)}) for n in range(15)])
        client.update_deployment(name, retrained_wine.uri)
        options.result()

    assert client.get_deployment(name)["model_uri"] == retrained_wine.uri
    assert client.get_deployment(name)["tag"] == "14"
    assert client.predict(name, retrained_wine.frame)["predictions"].tolist() == retrained_wine.expected().tolist()


def test_while_a_deployment_is_updated_no_prediction_fails_or_is_mixed_up(
    connect: Connect, saved_wine: LoggedModel, retrained_wine: LoggedModel
) -> None:
    """
    One model answers with text and the other with numbers, from outputs of different types.

    So the record of one with the model of the other would be obvious.
    """
    name = "swap:wine"
    answers = [saved_wine.expected().tolist(), retrained_wine.expected().tolist()]
    shared = connect()
    shared.create_deployment(name, saved_wine.uri)
    stop = threading.Event()
    wrong: list[Any] = []
    counts: list[int] = []

    def predict(client: RedisAIClient) -> None:
        done = 0
        while not stop.is_set():
            try:
                predicted = client.predict(name, saved_wine.frame)["predictions"].tolist()
            except MlflowException as error:
                wrong.append(error)
            else:
                if predicted not in answers:
                    wrong.append(predicted)
            done += 1
        counts.append(done)

    threads = [threading.Thread(target=predict, args=(client,)) for client in (shared, shared, connect(), connect())]
    for thread in threads:
        thread.start()
    updater = connect()
    for model in [retrained_wine, saved_wine] * 10:
        updater.update_deployment(name, model.uri, config={"verify": "off"})
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert min(counts) > 20
    assert shared.predict(name, saved_wine.frame)["predictions"].tolist() == answers[0]


PREDICT = """
import sys
import numpy, pandas
from mlflow.deployments import get_deploy_client

target, name, rows, text, numbers, log = sys.argv[1:]
client = get_deploy_client(target)
frame = pandas.read_pickle(rows)
answers = [numpy.load(file, allow_pickle=True).tolist() for file in (text, numbers)]
seen = [0, 0]
with open(log, "w", buffering=1) as out:
    while True:
        predicted = client.predict(name, frame)["predictions"].tolist()
        which = answers.index(predicted)  # ValueError: an answer of neither
        seen[which] += 1
        out.write(f"{seen[0]} {seen[1]}\\n")
"""


def test_other_processes_see_an_update_at_once_and_lose_nothing(
    connect: Connect, engine: Server, saved_wine: LoggedModel, retrained_wine: LoggedModel, tmp_path: Any
) -> None:
    name = "process:wine"
    connect().create_deployment(name, saved_wine.uri)
    files = [tmp_path / file for file in ("rows.pkl", "text.npy", "numbers.npy", "log")]
    saved_wine.frame.to_pickle(files[0])
    np.save(files[1], saved_wine.expected().astype(object), allow_pickle=True)
    np.save(files[2], retrained_wine.expected().astype(object), allow_pickle=True)
    process = subprocess.Popen(
        [sys.executable, "-c", PREDICT, engine.target, name, *map(str, files)], stderr=subprocess.PIPE
    )

    def seen() -> list[int]:
        lines = files[3].read_text().splitlines() if files[3].exists() else []
        return [int(count) for count in lines[-1].split()] if lines else [0, 0]

    try:
        wait_until(lambda: process.poll() is not None or seen()[0] > 5, timeout_s=60, what="predictions of the first")
        connect().update_deployment(name, retrained_wine.uri)
        before = seen()[1]
        wait_until(lambda: process.poll() is not None or seen()[1] > before + 5, what="predictions of the second")
        assert process.poll() is None, process.communicate()[1].decode()
    finally:
        process.kill()
        process.communicate()
