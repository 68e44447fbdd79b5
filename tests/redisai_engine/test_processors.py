"""How many processors there are, and what `--workers auto` makes of that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from redisai_engine import processors
from redisai_engine.config import load_settings
from redisai_engine.errors import StartError


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("max 100000", 64),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("100000", 64),
        ("", 64),
        ("1 0", 64),
        ("-1 2", 64),
    ],
)
def test_a_container_gets_as_many_as_its_quota_says(tmp_path: Path, said: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{said}\n")

    assert processors.granted(tmp_path / "cpu.max", 64) == expected


def test_without_a_control_group_there_is_no_quota(tmp_path: Path) -> None:
    assert processors.granted(tmp_path / "none", 3) == 3


def test_workers_auto_are_one_a_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(5)))
    monkeypatch.setattr(processors, "_QUOTA", tmp_path / "none")

    assert load_settings(["--workers", "Auto"]).workers == 5
    assert load_settings(["--workers", "2"]).workers == 2
    assert load_settings([]).workers == 5, "the command's default"
    assert load_settings([], {"REDISAI_ENGINE_WORKERS": "1"}).workers == 1


@pytest.mark.parametrize("text", ["0", "257", "all", "1.5", "", "9" * 5000])
def test_other_numbers_of_workers_are_refused(text: str) -> None:
    with pytest.raises(StartError, match="from 1 to 256, or auto"):
        load_settings(["--workers", text])
