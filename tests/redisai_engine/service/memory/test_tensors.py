"""Kept tensors: when they count, and that no more of them are kept than may be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redisai_engine.redis.traffic import Arrivals
from redisai_engine.service.memory.tensors import MOST, MOST_ONE, SECONDS, KeptTensors

KEY, NOW = b"key", 100.0


def invalidation(*keys: bytes) -> bytes:
    bulks = b"".join(b"$%d\r\n%b\r\n" % (len(key), key) for key in keys)
    return b">2\r\n$10\r\ninvalidate\r\n*%d\r\n%b" % (len(keys), bulks)


FLUSHED = b">2\r\n$10\r\ninvalidate\r\n_\r\n"


class Memory:
    """What is `kept`, with `arrivals` at hand."""

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.kept = KeptTensors(self.arrivals, Arrivals(total=self.arrivals))
        self.kept.is_on = True

    def write(self, key: bytes = KEY, tensor: object = "new", size: int = 100, now: float = NOW) -> None:
        """Have Redis answer that a tensor was written."""
        asked = self.kept.asking(now)
        self.kept.answered(asked)
        self.kept.keep(key, tensor, size, asked)


@pytest.fixture
def memory() -> Memory:
    memory = Memory()
    memory.write()
    assert memory.kept.find(KEY, NOW) == "new"
    return memory


def test_what_was_not_asked_for_is_not_known(memory: Memory) -> None:
    assert memory.kept.find(b"other", NOW) is None


def test_it_counts_for_a_second(memory: Memory) -> None:
    assert memory.kept.find(KEY, NOW + SECONDS - 0.001) == "new"
    assert memory.kept.find(KEY, NOW + SECONDS) is None


def test_what_arrives_elsewhere_ends_it_until_redis_has_answered_here(memory: Memory) -> None:
    memory.arrivals.count(of_change=False)
    assert memory.kept.find(KEY, NOW) is None

    memory.kept.answered(memory.kept.asking(NOW))

    assert memory.kept.find(KEY, NOW) == "new"


def test_an_answer_to_what_was_asked_before_proves_nothing(memory: Memory) -> None:
    asked = memory.kept.asking(NOW)
    memory.arrivals.count(of_change=False)
    memory.kept.answered(asked)

    assert memory.kept.find(KEY, NOW) is None


def test_an_answer_to_what_may_have_changed_keys_ends_it_for_good(memory: Memory) -> None:
    memory.arrivals.count(of_change=True)
    memory.kept.answered(memory.kept.asking(NOW))
    assert memory.kept.find(KEY, NOW) is None

    memory.write()
    assert memory.kept.find(KEY, NOW) == "new"


@pytest.mark.parametrize("message", [invalidation(KEY), invalidation(b"other", KEY), FLUSHED])
def test_redis_tells_of_a_change(memory: Memory, message: bytes) -> None:
    memory.kept.told(message)

    assert memory.kept.find(KEY, NOW) is None
    assert (len(memory.kept), memory.kept.size) == (0, 0)


@pytest.mark.parametrize("message", [invalidation(b"other"), b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$3\r\nkey\r\n"])
def test_redis_tells_of_something_else(memory: Memory, message: bytes) -> None:
    memory.kept.told(message)

    assert memory.kept.find(KEY, NOW) == "new"


@pytest.mark.parametrize("message", [invalidation(KEY), FLUSHED])
def test_a_change_among_the_replies_of_a_reading_keeps_it_from_being_kept(message: bytes) -> None:
    memory = Memory()
    asked = memory.kept.asking(NOW)
    memory.kept.reading(KEY, asked)
    memory.kept.told(message)

    assert not memory.kept.has_read(KEY, asked)


def test_the_latest_of_two_readings_is_kept() -> None:
    memory = Memory()
    first, second = memory.kept.asking(NOW), memory.kept.asking(NOW)
    memory.kept.reading(KEY, first)
    memory.kept.reading(KEY, second)

    assert [memory.kept.has_read(KEY, asked) for asked in (first, second, second)] == [False, True, False]


@pytest.mark.parametrize("end", [KeptTensors.end, lambda kept: kept.told(FLUSHED)])
def test_nothing_is_left_after_the_end(memory: Memory, end: Callable[[KeptTensors], None]) -> None:
    memory.write(b"other")
    end(memory.kept)

    assert memory.kept.find(KEY, NOW) is None
    assert (len(memory.kept), memory.kept.size) == (0, 0)


def test_nothing_is_kept_while_it_is_off(memory: Memory) -> None:
    memory.kept.end()
    memory.write()

    assert len(memory.kept) == 0


def test_a_large_one_is_not_kept_and_ends_the_one_before(memory: Memory) -> None:
    memory.write(size=MOST_ONE)

    assert memory.kept.find(KEY, NOW) is None


@pytest.mark.parametrize("size", [1, 1000, MOST_ONE // 2])
def test_memory_is_bounded(memory: Memory, size: int) -> None:
    """However long it goes on. Those that were asked for last stay."""
    keys = [b"key:%d" % number for number in range(20_000)]
    for key in keys:
        memory.write(key, key, size)
        assert memory.kept.size <= MOST

    found = [key for key in keys if memory.kept.find(key, NOW) == key]
    assert found == keys[-len(found) :]
    assert len(found) * (size + 500) > MOST // 2
    assert len(memory.kept) == len(found)


def test_what_is_looked_for_is_wanted_until_it_is_only_written(memory: Memory) -> None:
    assert not memory.kept.wants(b"other")
    assert memory.kept.find(b"other", NOW) is None
    asked = memory.kept.asking(NOW)
    for _ in range(100):
        if memory.kept.wants(b"other"):
            memory.kept.has_written(b"other", "new", 100, asked)
    assert not memory.kept.wants(b"other")

    memory.kept.answered(asked)
    assert memory.kept.find(b"other", NOW) == "new"
    assert memory.kept.wants(b"other")


def test_nothing_is_kept_for_a_while_where_it_is_in_vain(memory: Memory) -> None:
    for _ in range(8):
        assert not memory.kept.rests(NOW + 1)
        memory.arrivals.count(of_change=False)
        for _ in range(100):  # at the same time, which shows no more than once
            assert memory.kept.find(KEY, NOW) is None
        memory.kept.answered(memory.kept.asking(NOW))

    assert [memory.kept.rests(now) for now in (NOW, NOW + 0.01, NOW + 0.24, NOW + 0.26)] == [False, True, True, False]
    memory.write(now=NOW + 0.1)
    assert memory.kept.find(KEY, NOW + 0.1) is None
    assert memory.kept.find(KEY, NOW + 0.3) == "new"


def test_it_is_not_in_vain_if_something_is_found_half_of_the_time(memory: Memory) -> None:
    for _ in range(100):
        memory.arrivals.count(of_change=False)
        assert memory.kept.find(KEY, NOW) is None
        memory.arrivals.count(of_change=False)
        memory.kept.answered(memory.kept.asking(NOW))
        assert memory.kept.find(KEY, NOW) == "new"
        assert memory.kept.find(KEY, NOW) == "new"

    assert not memory.kept.rests(NOW + 0.1)


def test_a_few_finds_are_not_enough(memory: Memory) -> None:
    for number in range(60):
        memory.arrivals.count(of_change=False)
        assert memory.kept.find(KEY, NOW) is None
        if number % 4 == 0:
            memory.kept.answered(memory.kept.asking(NOW))
            assert memory.kept.find(KEY, NOW) == "new"
        if memory.kept.rests(NOW + 0.1):
            return
    raise AssertionError("it is still kept")


def test_what_is_found_in_between_is_not_in_vain(memory: Memory) -> None:
    for _ in range(100):
        memory.arrivals.count(of_change=False)
        assert memory.kept.find(KEY, NOW) is None
        memory.kept.answered(memory.kept.asking(NOW))
        assert memory.kept.find(KEY, NOW) == "new"

    assert not memory.kept.rests(NOW + 0.1)


def test_wanted_keys_are_bounded(memory: Memory) -> None:
    keys = [b"key:%d" % number for number in range(30_000)]
    for key in keys:
        memory.kept.find(key, NOW)
    memory.kept.find(b"long" * 100, NOW)

    wanted = [key for key in keys if memory.kept.wants(key)]
    assert wanted == keys[-len(wanted) :]
    assert 0 < len(wanted) <= 10_000
    assert not memory.kept.wants(b"long" * 100)


def test_a_key_that_is_written_again_counts_once(memory: Memory) -> None:
    before = memory.kept.size
    for _ in range(1000):
        memory.write()

    assert memory.kept.size == before
