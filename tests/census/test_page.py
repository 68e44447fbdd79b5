"""docs/census.md says what the newest results say, and results survive being written."""

from __future__ import annotations

from pathlib import Path

from census import page
from census.results import Found, Results, append, newest, read_log
from census.rows import Row
from census.verdicts import EQUAL, REFUSED, UNTRAINED, WRONG, Verdict

ABOUT = {"command": "scripts/census", "commit": "abc", "date": "2026-01-02", "known": 9, "seed": 1, "versions": {}}
FOUND = (
    Found(Row("sklearn", "LogisticRegression"), Verdict(EQUAL)),
    Found(Row("sklearn", "LogisticRegression", "C=2.0"), Verdict(REFUSED, "the scikit-learn model A has 3 columns")),
    Found(Row("sklearn", "SVC", "C=2.0"), Verdict(REFUSED, "the scikit-learn model B has 12 columns")),
    Found(Row("sklearn", "SVC", "C=3.0"), Verdict(WRONG, "fresh rows: 3 of 1000 differ, in row 1 1 became 2")),
    Found(Row("sklearn", "DBSCAN"), Verdict(UNTRAINED, "DBSCAN has no predict")),
)


def test_the_page_is_what_the_newest_results_give() -> None:
    path = newest()
    if path is None:
        assert not page.PAGE.exists()
    else:
        assert page.PAGE.read_text() == page.text(Results.read(path), path.name)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = Results(ABOUT, FOUND).write(tmp_path)

    read = Results.read(path)

    assert read.about == ABOUT
    assert set(read.found) == set(FOUND)


def test_a_log_keeps_the_last_verdict_on_a_row(tmp_path: Path) -> None:
    row = FOUND[3].row
    for found in (*FOUND, Found(row, Verdict(EQUAL))):
        append(tmp_path / "log", found)

    read = read_log(tmp_path / "log")

    assert len(read) == len(FOUND)
    assert read[row.name].verdict == Verdict(EQUAL)
    assert read[FOUND[2].row.name] == FOUND[2]


def test_rows_that_cannot_be_trained_do_not_count() -> None:
    text = page.text(Results(ABOUT, FOUND), "2026-01-02.json")

    assert "5 of 9 rows were run, drawn by chance, 4 of them count" in text
    assert "| sklearn | 4 | 1 | 0 | 2 | 1 | 0 | 0 | 25 % |" in text


def test_refusals_of_a_kind_stand_together() -> None:
    text = page.text(Results(ABOUT, FOUND), "2026-01-02.json")

    assert "| 2 | the model has N columns | `sklearn/LogisticRegression/C=2.0/alone/real/predict` |" in text


def test_wrong_rows_are_named() -> None:
    text = page.text(Results(ABOUT, FOUND), "2026-01-02.json")

    assert "## Wrong" in text
    assert "`sklearn/SVC/C=3.0/alone/real/predict`" in text
