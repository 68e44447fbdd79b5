"""A user who waits for a large upload at a terminal sees its progress. Nobody else sees anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlflow_redisai import RedisAIClient
from mlflow_redisai.server import progress
from support import terminal
from support.saved_models import LARGE_WIDTH, save_large
from support.servers import Server

MEGABYTE = 1024 * 1024


@pytest.fixture(autouse=True)
def _bars_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "true")


def test_a_bar_goes_from_nothing_to_all_of_it_and_stays() -> None:
    with terminal.as_stderr() as screen, progress.upload("wine", 100 * MEGABYTE) as sent:
        for _ in range(4):
            sent(25 * MEGABYTE)

    shown = screen.text()
    assert "Uploading wine:   0%" in shown
    assert "| 100M/100M [" in shown
    assert shown.endswith("\n")


@pytest.mark.parametrize("failure", [ConnectionError, KeyboardInterrupt, SystemExit])
def test_a_bar_is_wiped_off_before_an_error_is_told(failure: type[BaseException]) -> None:
    with terminal.as_stderr() as screen, pytest.raises(failure), progress.upload("wine", 100 * MEGABYTE) as sent:  # noqa: PT012
        sent(25 * MEGABYTE)
        raise failure

    *_, blank, behind = screen.text().split("\r")
    assert (blank.strip(" "), behind) == ("", "")


def test_where_stderr_is_no_terminal_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with progress.upload("wine", 100 * MEGABYTE) as sent:
        sent(100 * MEGABYTE)

    assert capfd.readouterr() == ("", "")


def test_mlflows_switch_for_its_bars_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

    with terminal.as_stderr() as screen, progress.upload("wine", 100 * MEGABYTE) as sent:
        sent(100 * MEGABYTE)

    assert screen.text() == ""


@pytest.mark.parametrize(
    ("name", "expected"), [("Größe", "Größe"), ("a\nb\x1b[2J\udc80", "a?b?[2J?"), ("x" * 50, "x" * 40)]
)
def test_any_name_fits_into_the_line(name: str, expected: str) -> None:
    assert progress.shown(name) == expected


# -- a large model --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_large(tmp_path_factory.mktemp("models") / "large", 2.0).uri


@pytest.fixture
def create(engine: Server, large: str) -> Iterator[list[str]]:
    """Return the arguments that deploy a large model, which is removed from the session's engine at the end."""
    yield ["deployments", "create", "-t", engine.target, "--name", "progress:large", "-m", large]
    engine.client().execute_command("AI.MODELDEL", "progress:large")


@pytest.mark.slow
def test_a_terminal_shows_the_upload_of_a_large_model(
    create: list[str], cli: Any, client: RedisAIClient, tmp_path: Path
) -> None:
    """There is one, under the temporary key: the bytes sent so far, and the total."""
    command = [sys.executable, "-m", "mlflow", *create]

    code, shown = terminal.run(command, {**os.environ, **cli.environment}, tmp_path)

    finished = [line.split("\r")[-1] for line in shown.replace("\r\n", "\n").splitlines() if "100%" in line]
    assert code == 0, shown
    assert [bar.partition(": 100%|")[0] for bar in finished] == ["Uploading progress:large (trial)"]
    assert all("| 67.3M/67.3M [" in bar for bar in finished), finished
    assert client.predict("progress:large", np.ones((1, LARGE_WIDTH), np.float32))["predictions"]["y"].max() == 2.0


@pytest.mark.slow
def test_without_a_terminal_a_large_model_is_uploaded_silently(create: list[str], cli: Any) -> None:
    finished = cli(*create)

    assert "Uploading" not in finished.stdout + finished.stderr
    assert "%|" not in finished.stderr
