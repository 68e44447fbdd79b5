"""The blocks of docs/http.md and docs/metrics.md do what they show, copied word for word."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.reading import ROOT, Reader, assert_shown, blocks_of

pytestmark = pytest.mark.slow


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    somebody = Reader(tmp_path)
    somebody.environment["REDISAI_ENGINE_PORT"] = somebody.ports["6379"]  # as no command names it
    yield somebody
    somebody.leave()


def run_blocks(document: str, reader: Reader) -> set[str]:
    """Run all console blocks of a document, in order. Return the programs that were called."""
    ran = set()
    for block in blocks_of(ROOT / "docs" / document):
        for command, shown in block.commands() if block.language == "console" else ():
            ran.add(command.split()[0])
            if command.startswith("pip install"):
                extras = re.findall(r"\[(\w+)\]", command)
                assert set(extras) <= set(importlib.metadata.metadata("mlflow-redisai").get_all("Provides-Extra") or [])
            elif command.startswith("redisai-engine"):
                assert_shown(reader.run_in_background(command, len(shown)), shown, command)
            else:
                assert_shown(reader.run(command), shown, command)
    return ran


def test_http(reader: Reader) -> None:
    """With the model and the rows of the README's first commands."""
    training = [sys.executable, "examples/train_wine.py"]
    subprocess.run(training, cwd=reader.folder, env=reader.environment, check=True, capture_output=True)

    assert run_blocks("http.md", reader) == {"pip", "redisai-engine", "mlflow", "python", "curl"}


def test_metrics(reader: Reader) -> None:
    assert run_blocks("metrics.md", reader) == {"redisai-engine", "curl"}
