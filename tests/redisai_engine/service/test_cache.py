"""What leaves memory when it is short: what ran least lately, then what was looked up longest ago."""

from __future__ import annotations

from redisai_engine.execution.statistics import RunStatistics
from redisai_engine.service.cache import Cache, Held, Place


def held(id_: bytes, size: int = 10) -> Held[bytes]:
    return Held(id_, id_, size, RunStatistics())


def ran(entry: Held[bytes], runs: int) -> None:
    for _ in range(runs):
        entry.statistics.succeeded(1, 1)


def place(number: int) -> Place:
    return 0, b"%d" % number


def test_loading_many_does_not_push_out_what_is_in_use() -> None:
    cache: Cache[bytes] = Cache(100)
    used = held(b"used")
    cache.keep((0, b"used"), used)

    for number in range(1000):
        ran(used, 3)
        entry = held(b"%d" % number)
        cache.keep(place(number), entry)
        ran(entry, 1)

    assert cache.id_at((0, b"used")) == b"used"


def test_what_was_used_long_ago_leaves() -> None:
    cache: Cache[bytes] = Cache(100)
    once = held(b"once")
    cache.keep((0, b"once"), once)
    ran(once, 1000)

    for number in range(100):
        entry = held(b"%d" % number)
        cache.keep(place(number), entry)
        ran(entry, 1)

    assert cache.id_at((0, b"once")) is None


def test_the_least_recently_looked_up_of_equals_leaves() -> None:
    cache: Cache[bytes] = Cache(30)
    for number in range(3):
        cache.keep(place(number), held(b"%d" % number))
    cache.get(place(0), b"0")

    cache.keep(place(3), held(b"3"))

    assert [cache.id_at(place(number)) for number in range(4)] == [b"0", None, b"2", b"3"]


def test_the_newest_stays_even_if_it_alone_exceeds_the_limit() -> None:
    cache: Cache[bytes] = Cache(30)
    cache.keep(place(0), held(b"0"))

    cache.keep(place(1), held(b"1", size=31))

    assert list(cache) == [place(1)]


def test_what_leaves_is_told_once() -> None:
    gone: list[Place] = []
    cache: Cache[bytes] = Cache(30, lambda place, value: gone.append(place))
    for number in range(5):
        cache.keep(place(number), held(b"%d" % number))
    cache.drop(place(4))
    cache.drop(place(4))
    cache.keep(place(3), held(b"newer"))

    assert gone == [place(0), place(1), place(4), place(3)]


def test_a_version_is_found_by_its_id_only_under_its_key() -> None:
    cache: Cache[bytes] = Cache(30)
    cache.keep(place(0), held(b"id"))

    assert cache.get(place(0), b"id") is not None
    assert cache.get(place(0), b"other") is None
    assert cache.get(place(1), b"id") is None


def test_statistics_set_to_zero_count_as_no_use() -> None:
    cache: Cache[bytes] = Cache(20)
    first, second = held(b"1"), held(b"2")
    for number, entry in enumerate((first, second)):
        cache.keep(place(number), entry)
    ran(first, 10)
    cache.keep(place(2), held(b"3"))
    first.statistics.reset()

    cache.keep(place(3), held(b"4"))

    assert cache.id_at(place(0)) == b"1"


class Growing:
    """Takes what it is told to, in two parts, of which it can give back one."""

    def __init__(self, needed: int, spare: int = 0) -> None:
        self.needed = needed
        self.spare = spare

    @property
    def memory(self) -> int:
        return self.needed + self.spare

    def give_back(self) -> None:
        self.spare = 0


def growing(cache: Cache[bytes], number: int, entry: Growing) -> None:
    cache.keep(place(number), Held(b"%d" % number, b"", entry.memory, RunStatistics(), entry))


def test_what_grows_makes_others_leave_once_it_is_weighed() -> None:
    cache: Cache[bytes] = Cache(100)
    small, large = Growing(10), Growing(10)
    growing(cache, 0, small)
    growing(cache, 1, large)
    cache.keep(place(2), held(b"2"))
    large.needed = 85

    cache.weigh()

    assert list(cache) == [place(1), place(2)]


def test_what_can_be_given_back_is_before_anything_leaves() -> None:
    cache: Cache[bytes] = Cache(100)
    entries = [Growing(10) for _ in range(3)]
    for number, entry in enumerate(entries):
        growing(cache, number, entry)
        entry.spare = 40

    cache.weigh()

    assert len(list(cache)) == 3
    assert [entry.spare for entry in entries] == [0, 0, 0]


def test_what_alone_exceeds_the_limit_stays_if_it_is_used_most() -> None:
    cache: Cache[bytes] = Cache(100)
    used = Growing(10)
    growing(cache, 0, used)
    for number in range(1, 4):
        growing(cache, number, Growing(10))
    held_ = cache.get(place(0), b"0")
    assert held_ is not None
    ran(held_, 5)
    used.needed = 200

    cache.weigh()
    cache.weigh()

    assert list(cache) == [place(0)]
