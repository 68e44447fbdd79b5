"""The figures behind AI.INFO."""

from __future__ import annotations

from redisai_engine.execution.statistics import RunStatistics, StatisticsTable


def test_failed_runs_count_as_calls_and_add_no_time() -> None:
    figures = RunStatistics()

    figures.succeeded(120, 3)
    figures.failed()
    figures.succeeded(80, 1)

    assert figures == RunStatistics(duration_us=200, samples=4, calls=3, errors=1)


def test_reset_sets_all_to_zero() -> None:
    figures = RunStatistics(1, 2, 3, 4)

    figures.reset()

    assert figures == RunStatistics()


def test_storing_anew_begins_a_new_row() -> None:
    """A run of the old model that ends later counts in the old row."""
    table = StatisticsTable()
    old = table.start(0, b"m")

    new = table.start(0, b"m")
    old.succeeded(1, 1)

    assert table.get(0, b"m") is new
    assert new.calls == 0


def test_databases_are_apart() -> None:
    table = StatisticsTable()

    table.start(0, b"m")

    assert table.get(1, b"m") is None


def test_forget_and_clear() -> None:
    table = StatisticsTable()
    for key in (b"a", b"b", b"c"):
        table.get_or_start(0, key)

    table.forget(0, b"a")
    table.forget(0, b"never stored")
    rest = table.get(0, b"b")
    table.clear()

    assert rest is not None
    assert [table.get(0, key) for key in (b"a", b"b", b"c")] == [None] * 3
