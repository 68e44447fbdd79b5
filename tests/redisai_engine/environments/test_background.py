"""Environments that a stored model wants and this machine lacks are built while nobody waits, which is said."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

import pytest
import redis

from redisai_engine.environments.environments import Environments
from redisai_engine.environments.wanted import read_wanted
from redisai_engine.errors import EnvironmentFailure
from redisai_engine.redis.store import ModelInfo, model_fields
from support.http_calls import HttpServer, start_http_engine
from support.obedient import OBEDIENT, archive, saved_code
from support.servers import Server
from support.waiting import wait_until

Make = Callable[..., Environments]
SECONDS = 120.0
WEIGHTS = 4 << 20  # bytes of a file in the archive


def problem(environments: Environments, *requirements: str) -> str:
    """Return what is said of an environment that a run needs; nothing if it is there."""
    wanted = {"kind": "uv", "requirements": list(requirements)}
    try:
        environments.requirement(wanted, {}, [].append, SECONDS)()
    except EnvironmentFailure as error:
        return error.wire.removeprefix("ERR no environment for the model: ")
    return ""


def test_what_is_missing_is_built_in_the_background_and_then_there(make_environments: Make, tmp_path: Path) -> None:
    environments = make_environments()
    name = read_wanted({"requirements": ["mlflow", "numpy"]}, {}).name()

    first = problem(environments, "mlflow", "numpy")

    assert first == (
        "this machine lacks it; it is being built, for 0 s so far; try again later "
        f"(logs/{name}.log in env-dir has the progress)"
    )
    wait_until(lambda: problem(environments, "mlflow", "numpy") == "", timeout_s=SECONDS)
    assert (tmp_path / "environments" / "ready" / name).is_dir()


def refused(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_build_that_the_system_refuses_a_thread_begins_later(make_environments: Make) -> None:
    environments = make_environments()
    with pytest.MonkeyPatch.context() as short_of_memory:
        short_of_memory.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError):
            problem(environments, "mlflow", "numpy")

    assert "is being built, for 0 s" in problem(environments, "mlflow", "numpy")
    wait_until(lambda: problem(environments, "mlflow", "numpy") == "", timeout_s=SECONDS)


def test_a_failure_is_told_to_whoever_asks_next(make_environments: Make) -> None:
    environments = make_environments()
    assert "is being built" in problem(environments, "mlflow", "numpy", "nowhere-to-be-found")

    wait_until(lambda: "is being built" not in problem(environments, "mlflow", "numpy", "nowhere-to-be-found"))

    assert "nowhere-to-be-found" in problem(environments, "mlflow", "numpy", "nowhere-to-be-found")


@pytest.mark.parametrize("kind", ["local", "path"])
def test_other_kinds_are_never_built(make_environments: Make, kind: str) -> None:
    make_environments().requirement({"kind": kind, "path": "/nowhere"}, {}, [].append, SECONDS)()


@dataclass
class Elsewhere:
    """A model that another machine's engine has stored, and an engine that is asked for it."""

    behind: Server
    engine: Server
    blob: bytes
    http: HttpServer

    def answer(self) -> str:
        """Return what a prediction is answered with: the error's text, or nothing if it succeeds."""
        client = self.engine.client(socket_timeout=SECONDS)
        try:
            client.execute_command("AI.TENSORSET", "{m}x", "STRING", 1, "VALUES", "be well")
            client.execute_command("AI.MODELEXECUTE", "{m}", "INPUTS", 1, "{m}x", "OUTPUTS", 1, "{m}y")
        except redis.ResponseError as error:
            return str(error)
        return ""

    def read(self) -> int:
        """Return how many bytes Redis has sent so far."""
        return int(self.behind.client().info("stats")["total_net_output_bytes"])


@pytest.fixture
def stored(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], tmp_path: Path
) -> Callable[..., Elsewhere]:
    """A function that stores a model in Redis, past the engine, and starts one with these wheels at hand."""

    def store(environment: dict[str, object], wheels: Path, model: Path | None = None) -> Elsewhere:
        behind = new_redis()
        more = {"model/weights": os.urandom(WEIGHTS)} | ({} if model else {"model/MLmodel": b"flavors: {}"})
        blob = archive(model or Path("/nowhere"), {"environment": environment}, **more)
        meta = ModelInfo("PYFUNC", "CPU", "", 0, 0, 0, ("input",), ("output",), len(blob))
        behind.client().execute_command("HSET", "{m}", *model_fields(meta, blob))
        variables = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheels), "UV_PYTHON_DOWNLOADS": "never"}
        http = start_http_engine(
            tmp_path,
            *("--redis", behind.url, "--python-models", "--env-dir", str(tmp_path / "environments")),
            start=partial(new_engine, environment=variables),
        )
        return Elsewhere(behind, http.engine, blob, http)

    return store


Store = Callable[..., Elsewhere]
UV = {"kind": "uv", "requirements": ["mlflow", "numpy"]}


def test_a_prediction_never_waits_for_an_environment(stored: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    elsewhere = stored(UV, tmp_path / "empty")

    assert "this machine lacks it; it is being built, for " in elsewhere.answer()
    for method, path in (("POST", "/invocations/%7Bm%7D"), ("GET", "/v2/models/%7Bm%7D/ready")):
        reply = elsewhere.http.ask(method, path, {"inputs": ["be well"]} if method == "POST" else None)
        assert (reply.status, b"it is being built" in reply.body) == (503, True), reply
    wait_until(lambda: "the package index has no " in elsewhere.answer())


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        (UV, "the package index has no mlflow"),
        ({"kind": "path", "path": "/nowhere/python"}, "the engine's machine has no file /nowhere/python"),
        ({"kind": "local"}, "the model can't be loaded"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_a_model_that_can_not_be_loaded_is_not_read_anew_for_each_prediction(
    stored: Store, tmp_path: Path, environment: dict[str, object], problem: str
) -> None:
    (tmp_path / "empty").mkdir()
    elsewhere = stored(environment, tmp_path / "empty")
    wait_until(lambda: problem in elsewhere.answer(), timeout_s=SECONDS)
    before, begin = elsewhere.read(), monotonic()

    for _ in range(50):
        assert problem in elsewhere.answer()

    assert elsewhere.read() - before < 3 * WEIGHTS  # it is tried again every few seconds
    assert monotonic() - begin < 5.0


def test_once_its_environment_is_built_a_model_is_loaded(stored: Store, wheels: Path) -> None:
    """Here it isn't MLflow's own, so there is an error of its worker's."""
    elsewhere = stored(UV, wheels)
    assert "this machine lacks it; it is being built, for " in elsewhere.answer()

    wait_until(lambda: "no environment" not in elsewhere.answer(), timeout_s=SECONDS)

    assert "the model can't be loaded: " in elsewhere.answer()


def test_once_its_python_is_there_a_model_runs(stored: Store, tmp_path: Path) -> None:
    python = tmp_path / "python"
    elsewhere = stored({"kind": "path", "path": str(python)}, tmp_path, saved_code(OBEDIENT))
    assert f"the engine's machine has no file {python}" in elsewhere.answer()

    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o700)

    wait_until(lambda: elsewhere.answer() == "", timeout_s=SECONDS)
