"""
Every block of README.md is run, in order, in one folder, and its output is compared with what the README shows.

Ports, process ids and temporary folders differ from run to run and are compared as `N` and `PATH`. Ports are replaced
by free ones: 6379 stands for the port of this test's server. A line `...` stands for further output.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.reading import ROOT, Reader, assert_shown, blocks_of

pytestmark = pytest.mark.slow


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    somebody = Reader(tmp_path)
    yield somebody
    somebody.leave()


@pytest.mark.timeout(900)  # about ten `mlflow` processes in sequence
def test_every_block_of_the_readme_does_what_it_shows(reader: Reader) -> None:
    """In order, as a reader would run them: later blocks use the server that an earlier one starts."""
    ran = []
    for block in blocks_of(ROOT / "README.md"):
        if block.language == "python":
            (reader.folder / "block.py").write_text(reader.own_ports("\n".join(block.lines)))
            expected = [line.removeprefix("# ") for line in block.lines if line.startswith("# ")]
            assert reader.run("python block.py").splitlines() == expected
            ran.append("python")
        for command, shown in block.commands() if block.language == "console" else ():
            ran.append(command.split()[0])
            if command.startswith("git clone"):
                assert_clones(command, reader.folder)
                continue
            if command.startswith("pip install"):
                assert_installs(command)
                continue
            if command.startswith("redisai-engine"):
                output = reader.run_in_background(command, len(shown))
            else:
                output = reader.run(command)
            assert_shown(output, shown, command)

    assert {"git", "pip", "python", "mlflow", "redisai-engine"} <= set(ran)
    assert {block.language for block in blocks_of(ROOT / "README.md")} == {"console", "python"}


def assert_clones(command: str, folder: Path) -> None:
    """Check that the clone of this repository has what the next command needs. Only the placeholder is made up."""
    own = command.replace("<URL of this repository>", str(ROOT))

    subprocess.run(["bash", "-c", f"{own} && test -f pyproject.toml"], cwd=folder, check=True, capture_output=True)


def assert_installs(command: str) -> None:
    """
    Check that the named extra exists, and that this environment, which was made with it, has everything it requires.
    """
    found = re.fullmatch(r"pip install '\.\[(\w+)\]'", command)
    assert found, command
    assert found[1] in importlib.metadata.metadata("mlflow-redisai").get_all("Provides-Extra", [])
