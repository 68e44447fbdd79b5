"""What is printed reaches the log, line by line, and whoever prints never waits: without a reader, or without end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from redisai_engine.process.output import WorkerOutput
with WorkerOutput() as output:
    {}
"""


def start(body: str, **streams: object) -> subprocess.Popen[bytes]:
    """Run a program whose output is taken over."""
    indented = body.replace("\n", "\n    ")
    return subprocess.Popen([sys.executable, "-c", PROGRAM.format(indented)], **streams)  # type: ignore[call-overload]


def log_of(body: str, tmp_path: Path) -> tuple[str, str]:
    """Return what a program wrote to standard output and to its log."""
    with (tmp_path / "log").open("wb") as log, start(body, stdout=subprocess.PIPE, stderr=log) as process:
        out = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    return out.decode(), (tmp_path / "log").read_text()


class TestLines:
    """Each line is whole, says where it comes from, and has an end."""

    def test_both_outputs_go_to_the_log_and_the_ready_line_does_not(self, tmp_path: Path):
        out, log = log_of("print('a')\nprint('b', file=sys.stderr)\noutput.announce('ready')", tmp_path)

        assert out == "ready\n"
        assert sorted(log.splitlines()) == ["b", "printed: a"]

    def test_what_a_framework_writes_past_python_is_there_too(self, tmp_path: Path):
        _, log = log_of("os.write(1, b'native ')\nos.write(1, b'code')", tmp_path)

        assert log == "printed: native code\n"

    def test_a_long_line_is_cut(self, tmp_path: Path):
        _, log = log_of("print('x' * 1_000_000)\nprint('next')", tmp_path)

        lines = log.splitlines()
        assert max(map(len, lines)) < 3100
        assert lines[-1].endswith("next") or "left out" in lines[-1]

    def test_other_processes_have_their_own_prefix(self, tmp_path: Path):
        body = (
            "import subprocess\npipe = output.source('child 1: ')\n"
            "subprocess.run(['sh', '-c', 'echo one; echo two >&2'], stdout=pipe, stderr=pipe)\nos.close(pipe)"
        )
        _, log = log_of(body, tmp_path)

        assert log == "child 1: one\nchild 1: two\n"


class TestFlood:
    """Somebody prints without end."""

    def test_what_is_left_out_is_counted(self, tmp_path: Path):
        _, log = log_of("for number in range(50_000): print(number)", tmp_path)

        lines = log.splitlines()
        assert lines[0] == "printed: 0"
        assert 1000 <= len(lines) < 20_000

    def test_the_others_are_still_heard(self, tmp_path: Path):
        _, log = log_of("for number in range(50_000): print(number)\nprint('an error', file=sys.stderr)", tmp_path)

        assert "\nan error\n" in f"\n{log}"


class TestNoReader:
    """Nobody reads the log: a pipe that is full, closed, or a disk that is full."""

    BODY = "for number in range(5000): print('x' * 100, file=sys.stderr)\noutput.announce('done')"

    def test_a_full_pipe_holds_nobody_up(self):
        with start(self.BODY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"done\n"
            assert process.wait(30) == 0

    def test_a_pipe_that_is_read_again_tells_what_is_missing(self):
        body = self.BODY + "\nsys.stdin.readline()\nprint('later', file=sys.stderr)"
        with start(body, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            log = process.communicate(b"\n", timeout=30)[1].decode()

        told = sum(map(int, re.findall(r"\((\d+) lines left out", log)))
        assert log.count("x" * 100) + told + log.count("later") == 5001

    def test_a_slow_reader_misses_no_count(self):
        """Room for a line or two again and again: also the line that tells the count may find none."""
        body = "for number in range(20_000): print('x' * 100, file=sys.stderr)\noutput.announce('done')"
        with start(body, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            log = b""
            while piece := process.stderr.read1(200):  # type: ignore[attr-defined]
                log += piece
            assert process.wait(30) == 0

        told = sum(map(int, re.findall(rb"\((\d+) lines left out", log)))
        assert log.count(b"x" * 100) + told == 20_000

    def test_a_closed_pipe_and_a_full_disk_are_survived(self):
        with Path("/dev/full").open("wb") as full, start(self.BODY, stdout=subprocess.PIPE, stderr=full) as process:
            assert process.communicate(timeout=60)[0] == b"done\n"
            assert process.returncode == 0


def test_a_crash_leaves_its_trace_in_the_log(tmp_path: Path):
    with (tmp_path / "log").open("wb") as log, start("os.abort()", stderr=log) as process:
        process.wait(60)

    assert "Fatal Python error: Aborted" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("descriptor", [1, 2])
def test_afterwards_the_process_has_its_own_output_again(descriptor: int, tmp_path: Path):
    program = PROGRAM.format("pass") + f"os.write({descriptor}, b'after')"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)

    assert (ran.stdout, ran.stderr)[descriptor - 1] == b"after"
