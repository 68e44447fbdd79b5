"""Freed memory is kept for the next large tensor, up to a bound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COUNT_FAULTS = """
import resource, sys
from redisai_engine.process.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
blocks = [bytes(600_000) for _ in range(4)]
del blocks
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    blocks = [bytes([1]) * 600_000 for _ in range(4)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", COUNT_FAULTS, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(not list(Path("/lib").glob("*-linux-gnu*")), reason="only glibc's allocator can be configured so")
def test_large_blocks_that_come_and_go_take_no_new_pages() -> None:
    assert page_faults("kept") < page_faults("as it is") / 10
