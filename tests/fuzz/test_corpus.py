"""Inputs that once found something, and seeds: no target crashes, hangs, leaks or takes memory without bound on any."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fuzz.limits import bounded, check_leak
from fuzz.targets import CORPUS, TARGETS, corpus

INPUTS = [(name, path) for name in TARGETS for path in corpus(name)]


def test_each_folder_of_the_corpus_belongs_to_a_target():
    served = {"blobs"}  # test_campaign.py sends them to an engine

    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS) | served


@pytest.mark.parametrize(("target", "path"), INPUTS, ids=[f"{name}/{path.name}" for name, path in INPUTS])
def test_an_input_of_the_corpus_is_read_or_refused(target: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)  # pytest keeps what is logged, which looks like a leak
    data = path.read_bytes()

    bounded(TARGETS[target])(data)
    check_leak(TARGETS[target], data)
