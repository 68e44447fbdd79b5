"""What counts as used: memory that was written to, of a process and of all below it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_redisai.deploy import memory

MIB = 1 << 20
HOLDING = """
import mmap, subprocess, sys
reserved = mmap.mmap(-1, 4 << 30)
held = b"x" * (64 << 20)
below = sys.argv[1:] and subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=sys.stdin)
print("holding", flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="memory is read from Linux's /proc")


def test_what_a_process_and_its_children_hold_is_used_and_what_they_reserve_is_not() -> None:
    command = [sys.executable, "-c", HOLDING, HOLDING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["holding\n", "holding\n"]
        used = memory.used(process.pid)
        process.communicate("")

    assert 128 * MIB < used < 256 * MIB
    assert memory.used(process.pid) == 0


def test_no_more_is_free_than_the_machine_has() -> None:
    [total] = [line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line]
    free = memory.free()

    assert free is not None
    assert 0 < free <= 1024 * int(total)


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "inactive_file 50\nactive_file 50\n"}, 400),
        ({"memory.max": "max\n", "memory.current": "700\n"}, None),
        ({"memory.max": "1000\n", "memory.current": "1200\n"}, 0),
        ({}, None),
    ],
)
def test_files_in_the_cache_of_a_control_group_are_free(
    files: dict[str, str], left: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    assert memory._left_in((tmp_path, "memory.max", "memory.current")) == left


def test_totals_of_version_1_are_not_counted_twice(tmp_path: Path) -> None:
    (tmp_path / "limit").write_text("1000\n")
    (tmp_path / "usage").write_text("700\n")
    (tmp_path / "memory.stat").write_text(
        "inactive_file 10\nactive_file 10\ntotal_inactive_file 60\ntotal_active_file 40\n"
    )

    assert memory._left_in((tmp_path, "limit", "usage")) == 400
