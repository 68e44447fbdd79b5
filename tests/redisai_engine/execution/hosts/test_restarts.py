"""The waits between the deaths of a process and its next start."""

from __future__ import annotations

from math import inf

from redisai_engine.execution.hosts.restarts import Restarts


def waits(most: int, *deaths: float) -> list[float]:
    """Return the wait after each death."""
    restarts = Restarts(most)
    found = []
    for now in deaths:
        restarts.died(now)
        found.append(round(restarts.wait(now), 3))
    return found


def test_the_first_death_costs_no_wait_and_each_further_one_twice_as_much_up_to_half_a_minute() -> None:
    assert waits(0, *range(12)) == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]


def test_deaths_that_are_rare_cost_no_wait() -> None:
    assert waits(5, 0, 61, 122, 183, 244, 305) == [0] * 6


def test_five_deaths_in_a_minute_are_final() -> None:
    assert waits(5, 0, 10, 20, 30, 40) == [0, 0.1, 0.2, 0.4, inf]
    assert waits(5, 0, 20, 40, 60.5, 80.5) == [0, 0.1, 0.2, 0.4, 0.8]


def test_a_wait_passes() -> None:
    restarts = Restarts()
    restarts.died(0)
    restarts.died(1)

    assert restarts.wait(1.05) == 1.1 - 1.05
    assert restarts.wait(1.2) == 0
