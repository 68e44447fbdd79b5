"""The benchmark page: in step with the newest results and the scenarios, and honest about targets that are missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import page
from bench.results import FOLDER, Results, median_and_spread, newest
from bench.scenarios import SCENARIOS
from bench.targets import TARGETS

BENCH = Path(__file__).parent.parent.parent / "bench"
ABOUT = {
    "command": "scripts/bench",
    "seconds": 2.0,
    "rounds": 3,
    "date": "2026-01-02",
    "commit": "abc",
    "machine": "2 cores",
    "versions": {"python": "3.11"},
}
RIVALS = {
    "this project's engine": [{"per_second_50": rate, "median_ms_1": 0.2} for rate in (900.0, 1000.0, 1100.0)],
    "mlflow models serve": [{"per_second_50": 20.0, "median_ms_1": 1.0} for _ in range(3)],
}


@pytest.fixture
def results() -> Results:
    return Results(ABOUT, {"rivals": RIVALS}, {"LitServe": "no wheel"})


def test_what_was_skipped_and_is_measured_later_is_missing_no_more(results: Results) -> None:
    results.skipped["http"] = "OSError: no port"

    results.take("rivals", {**RIVALS, "LitServe": [{"per_second_50": 1.0}]})

    assert results.skipped == {"http": "OSError: no port"}


def test_the_page_is_what_the_newest_results_give() -> None:
    path = newest(FOLDER)
    if path is None:
        assert not page.PAGE.exists()
    else:
        assert page.PAGE.read_text() == page.text(Results.read(path), path)


def test_every_target_has_a_value_in_the_newest_results() -> None:
    path = newest(FOLDER)
    if path is None:
        pytest.skip("no results are published yet")
    found = Results.read(path)
    if not set(SCENARIOS) <= set(found.scenarios):
        pytest.skip("a scenario has no published results yet")

    assert [target.what for target in TARGETS if not target.values(found)] == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_described_and_has_its_place_on_the_page(name: str) -> None:
    readme = (BENCH / "README.md").read_text()

    assert f"| `{name}` |" in readme
    assert name in page.SECTIONS


def test_results_are_read_as_they_were_written(tmp_path: Path, results: Results) -> None:
    path = results.write(tmp_path)

    assert path.name == "2026-01-02.json"
    assert Results.read(path) == results
    assert newest(tmp_path) == path


def test_the_newest_results_are_those_of_the_last_day(tmp_path: Path) -> None:
    for day in ("2026-10-02", "2026-09-30", "2026-10-01"):
        (tmp_path / f"{day}.json").touch()

    assert newest(tmp_path) == tmp_path / "2026-10-02.json"


def test_a_target_is_judged_by_the_median_of_the_rounds_ratios(tmp_path: Path, results: Results) -> None:
    text = page.text(results, tmp_path / "2026-01-02.json")

    assert "| `mlflow models serve` | at least 40 | 50 (45 to 55) | met |" in text
    assert "| `mlflow models serve` | at most 0.100 | 0.200 (0.200 to 0.200) | **missed** |" in text


def test_what_was_not_measured_is_told_with_its_reason(tmp_path: Path, results: Results) -> None:
    text = page.text(results, tmp_path / "2026-01-02.json")

    assert "- LitServe: no wheel" in text
    assert "at most 75.0 MB | not measured |  |" in text


def test_the_page_names_what_is_needed_to_repeat_a_figure(tmp_path: Path, results: Results) -> None:
    text = page.text(results, tmp_path / "2026-01-02.json")

    assert "`scripts/bench`, 2026-01-02, commit abc; 2 cores; python 3.11." in text


def test_one_value_has_no_spread() -> None:
    assert median_and_spread([2.0], str) == "2.0"
    assert median_and_spread([3.0, 1.0, 2.0], str) == "2.0 (1.0 to 3.0)"
