"""Environments that a stored model wants and this machine lacks are built while nobody waits, which is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from redisai_engine.environments.environments import Environments
from redisai_engine.environments.wanted import read_wanted
from redisai_engine.errors import EnvironmentFailure
from redisai_engine.redis.store import ModelInfo, model_fields
from support.obedient import archive
from support.servers import Server
from support.waiting import wait_until

Make = Callable[..., Environments]
SECONDS = 120.0


def problem(environments: Environments, *requirements: str) -> str:
    """Return what is said of an environment that a run needs; nothing if it is there."""
    wanted = {"kind": "uv", "requirements": list(requirements)}
    try:
        environments.require(wanted, {}, [].append, SECONDS)
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


def test_a_failure_is_told_to_whoever_asks_next(make_environments: Make) -> None:
    environments = make_environments()
    assert "is being built" in problem(environments, "mlflow", "numpy", "nowhere-to-be-found")

    wait_until(lambda: "is being built" not in problem(environments, "mlflow", "numpy", "nowhere-to-be-found"))

    assert "nowhere-to-be-found" in problem(environments, "mlflow", "numpy", "nowhere-to-be-found")


@pytest.mark.parametrize("kind", ["local", "path"])
def test_other_kinds_are_never_built(make_environments: Make, kind: str) -> None:
    make_environments().require({"kind": kind, "path": "/nowhere"}, {}, [].append, SECONDS)


def test_a_prediction_never_waits_for_an_environment(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], tmp_path: Path
) -> None:
    """The model was stored on another machine."""
    behind = new_redis()
    about = {"environment": {"kind": "uv", "requirements": ["mlflow", "numpy"]}}
    blob = archive(Path("/nowhere"), about, **{"model/MLmodel": b"flavors: {}"})
    meta = ModelInfo("PYFUNC", "CPU", "", 0, 0, 0, ("input",), ("output",), len(blob))
    behind.client().execute_command("HSET", "m", *model_fields(meta, blob))
    (tmp_path / "empty").mkdir()
    engine = new_engine(
        *("--redis", behind.url, "--python-models", "--env-dir", str(tmp_path / "environments")),
        environment={"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path / "empty")},
    )
    client = engine.client(socket_timeout=SECONDS)

    def answer() -> str:
        with pytest.raises(redis.ResponseError) as caught:
            client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
        return str(caught.value)

    assert "this machine lacks it; it is being built, for " in answer()
    wait_until(lambda: "the package index has no " in answer())
