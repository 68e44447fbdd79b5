"""Every failure of a local server is an MlflowException whose message says what to do."""

from __future__ import annotations

import inspect

import pytest
from mlflow.exceptions import MlflowException

from mlflow_redisai.local import errors
from mlflow_redisai.local.errors import LOG_LINES, LocalProblem, PortTaken, StartFailed


def test_the_tree_has_one_root_and_its_drawing_every_class() -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]

    assert len(classes) > 1
    assert all(issubclass(kind, LocalProblem) for kind in classes)
    assert issubclass(LocalProblem, MlflowException)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in classes)


@pytest.mark.parametrize(
    ("by", "way_out"),
    [
        (
            "redis with AI commands",
            (
                "a Redis server with AI commands: deploy to it with "
                "`mlflow deployments create -t redisai://127.0.0.1:7000 --name iris -m ...`, or choose"
            ),
        ),
        (
            "redis",
            (
                "a Redis server without AI commands: put the engine in front of it with "
                "`redisai-engine --port 7001 --redis redis://127.0.0.1:7000`, or choose"
            ),
        ),
        ("another program", "another program: choose"),
    ],
)
def test_a_port_that_is_taken_is_told_with_what_to_do_about_it(by: errors.Occupant, way_out: str) -> None:
    error = PortTaken(7000, by, "iris")

    assert error.message == f"port 7000 is taken by {way_out} another port with -C port=... (0: any free port)"
    assert error.error_code == "RESOURCE_CONFLICT"


def test_a_dead_servers_last_lines_are_in_the_message() -> None:
    log = "\n".join(f"line {number}" for number in range(LOG_LINES + 2)) + "\n\n"

    error = StartFailed("the engine", "exited at startup", log)

    assert (
        error.message
        == "the engine exited at startup; the last lines of its log: line 2 | line 3 | line 4 | line 5 | line 6"
    )
    assert StartFailed("the engine", "exited at startup").message == "the engine exited at startup"
