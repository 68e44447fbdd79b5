"""What the kernel can't keep hosts from is said once, and no process is started in vain."""

from __future__ import annotations

import logging

import pytest

from redisai_engine.backends.base import BackendSettings
from redisai_engine.errors import ModelLoadError
from redisai_engine.execution.hosts.models import HostLimits
from redisai_engine.execution.hosts.parent import Parent
from redisai_engine.execution.hosts.scripts import compile_in_host


def test_what_is_not_restricted_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    parent = Parent("TORCH")

    with caplog.at_level(logging.WARNING):
        for missing in ([], ["files (no Landlock)", "system calls"], ["files (no Landlock)"]):
            parent.say_missing(missing)

    assert caplog.messages == ["processes of TORCH models are not restricted in files (no Landlock) and system calls"]


def test_a_script_that_is_too_long_starts_no_process() -> None:
    parent = Parent("TORCH")

    with pytest.raises(ModelLoadError, match="the script has 70000 bytes"):
        compile_in_host(
            parent,
            HostLimits(load_seconds=1, memory=0, at_once=1),
            " " * 70_000,
            entry_points=["f"],
            device="CPU",
            settings=BackendSettings(),
        )

    assert parent.version == ""
