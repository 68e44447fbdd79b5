"""What a process was doing is known after its death."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pytest

from redisai_engine.execution.notes import LOADING, RUNNING, Note, Notes

A, B = "a" * 64, "b" * 64

PROGRAM = """
import os, signal, sys
from redisai_engine.execution.notes import LOADING, RUNNING, Notes
notes = Notes(int(sys.argv[1]))
with notes.noted(RUNNING, "c" * 64):
    pass
with notes.noted(LOADING, "a" * 64), notes.noted(RUNNING, "b" * 64):
    {}
"""


@pytest.mark.parametrize("death", ["os.abort()", "os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)"])
def test_notes_outlive_the_process_however_it_dies(death: str) -> None:
    with tempfile.TemporaryFile() as file:
        notes = Notes(file.fileno())
        command = [sys.executable, "-c", PROGRAM.format(death), str(file.fileno())]

        assert subprocess.run(command, pass_fds=[file.fileno()], capture_output=True, timeout=60).returncode != 0

        assert sorted(notes.read()) == [Note(LOADING, A), Note(RUNNING, B)]
        notes.close()


def test_what_has_ended_is_noted_no_more_even_if_it_failed() -> None:
    notes = Notes()
    with pytest.raises(KeyError), notes.noted(LOADING, A):
        raise KeyError

    assert notes.read() == []


def test_more_than_fit_are_left_out() -> None:
    notes = Notes()
    contexts = [notes.noted(RUNNING, A) for _ in range(100)]

    for context in contexts:
        context.__enter__()

    assert 0 < len(notes.read()) < 100
    for context in contexts:
        context.__exit__(None, None, None)
    assert notes.read() == []
    with notes.noted(LOADING, B):
        assert notes.read() == [Note(LOADING, B)]
