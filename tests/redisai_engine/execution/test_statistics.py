"""The statistics behind AI.INFO."""

from __future__ import annotations

from redisai_engine.execution.statistics import RunStatistics


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
