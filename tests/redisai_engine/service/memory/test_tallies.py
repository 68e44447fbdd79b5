"""What workers have counted, as other processes see it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from redisai_engine.redis.traffic import Arrivals
from redisai_engine.service.memory.tallies import Tallies, new_tallies
from redisai_engine.service.memory.tensors import KeptTensors

KEY, NOW = b"key", 100.0
WORKERS = 3

#: Counts with each line that it reads, "c" for a change, and says so when it has counted.
PROGRAM = """
import sys
from redisai_engine.redis.traffic import Arrivals
from redisai_engine.service.memory.tallies import Tallies
everywhere = Arrivals(tally=Tallies({descriptor}, {number}).own)
shared = Arrivals(total=everywhere)
for line in sys.stdin:
    shared.count(of_change=line[0] == "c")
    print(line, end="", flush=True)
"""


class Other:
    """Another worker."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def hears(self, kind: str) -> None:
        """Have it count, and return when it has told of that."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(kind + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == kind + "\n"


@contextmanager
def other(file: IO[bytes], number: int) -> Iterator[Other]:
    program = PROGRAM.format(descriptor=file.fileno(), number=number)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        pass_fds=(file.fileno(),),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Other(process)
        finally:
            process.kill()


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with new_tallies(WORKERS) as file:
        yield file


def test_whoever_is_told_finds_it_counted(file: IO[bytes]) -> None:
    tallies = Tallies(file.fileno(), 1)
    with other(file, 2) as second, other(file, 3) as third:
        for number in range(1, 2000):
            second.hears("c")
            assert (tallies.of_changes, tallies.all) == (number, 2 * number - 1)
            third.hears("o")
            assert (tallies.of_changes, tallies.all) == (number, 2 * number)


def test_a_successor_goes_on_counting(file: IO[bytes]) -> None:
    tallies = Tallies(file.fileno(), 1)
    for number in range(1, 4):
        with other(file, 2) as one:
            one.hears("c")
            one.hears("o")
        assert (tallies.of_changes, tallies.all) == (number, 2 * number)


class TestKeptTensors:
    """What other workers hear of counts as elsewhere."""

    @pytest.fixture
    def kept(self, file: IO[bytes]) -> KeptTensors:
        tallies = Tallies(file.fileno(), 1)
        everywhere = Arrivals(tally=tallies.own)
        self.here = Arrivals(total=everywhere)
        kept = KeptTensors(everywhere, self.here, tallies)
        kept.is_on = True
        self.write(kept)
        return kept

    def write(self, kept: KeptTensors) -> None:
        asked = kept.asking(NOW)
        self.here.count(of_change=True)
        kept.answered(asked)
        kept.keep(KEY, "new", 100, asked)
        assert kept.find(KEY, NOW) == "new"

    def test_anything_ends_trust_until_redis_has_answered_here(self, kept: KeptTensors, file: IO[bytes]):
        with other(file, 2) as second:
            asked = kept.asking(NOW)
            second.hears("o")
        assert kept.find(KEY, NOW) is None
        kept.answered(asked)
        assert kept.find(KEY, NOW) is None

        kept.answered(kept.asking(NOW))
        assert kept.find(KEY, NOW) == "new"

    def test_a_change_ends_it_for_good(self, kept: KeptTensors, file: IO[bytes]):
        with other(file, 3) as third:
            third.hears("c")
        kept.answered(kept.asking(NOW))
        assert kept.find(KEY, NOW) is None

        self.write(kept)
