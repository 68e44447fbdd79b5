"""What the campaign calls a fault: an input that takes too long, takes too much memory, or leaves something behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.choices import Choices
from fuzz.limits import Leak, Skipped, TooLong, bounded, check_leak, collecting

ROOT = Path(__file__).parents[2]


def test_an_input_that_never_ends_is_ended() -> None:
    def endless(_data: bytes) -> None:
        while True:
            pass

    with pytest.raises(TooLong):
        bounded(endless)(b"")


def test_an_input_that_takes_memory_is_a_fault() -> None:
    """In a process of its own, as a campaign is: where other tests have taken more, the peak doesn't rise."""
    program = "from fuzz.limits import bounded; bounded(lambda data: b'x' * (512 << 20))(b'1')"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert re.search(r"TooLarge: an input of 1 bytes took \d+ MiB", ran.stderr)


def test_an_input_that_leaves_objects_behind_is_a_fault() -> None:
    kept: list[object] = []

    with pytest.raises(Leak):
        check_leak(lambda _data: kept.append([object(), object()]), b"")


def test_an_input_that_fills_a_cache_is_no_fault() -> None:
    cache: dict[bytes, object] = {}

    check_leak(lambda data: cache.update({data: object()}), b"")


def test_the_smallest_input_of_each_fault_is_kept(tmp_path: Path) -> None:
    def refuse(data: bytes) -> None:
        if data[:1] == b"a":
            raise ValueError("one kind")
        raise TypeError("another kind")

    check = collecting(refuse, tmp_path)
    for data in (b"abc", b"ab", b"abcd", b"b"):
        check(data)

    kept = {path.name.partition("-")[0]: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".txt"}
    assert kept == {"ValueError": b"ab", "TypeError": b"b"}


def test_a_part_of_an_input_is_repeated_only_where_a_byte_says_so() -> None:
    assert Choices(bytes([0, 1, 2]) + b"abcd").stretched() == b"abcd"
    assert Choices(bytes([249, 1, 2]) + b"abcd").stretched() == b"a" + b"bc" * 16 + b"d"


def test_most_inputs_that_would_be_long_are_skipped_while_exploring(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same ones each time, so that a fault that one finds is found again."""
    monkeypatch.setattr(Choices, "long_one_in", 8)

    def is_checked(number: int) -> bool:
        try:
            return len(Choices(bytes([249, 1, 2, number])).stretched()) >= 0
        except Skipped:
            return False

    checked = [number for number in range(256) if is_checked(number)]
    assert 8 < len(checked) < 128
    assert checked == [number for number in range(256) if is_checked(number)]
    assert Choices(bytes([0, 1, 2]) + b"abcd").stretched() == b"abcd"

    def skipping(_data: bytes) -> None:
        raise Skipped

    collecting(skipping, tmp_path)(b"")
    assert not list(tmp_path.iterdir())
