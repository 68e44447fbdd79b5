"""What the kernel can't keep hosts from is said once."""

from __future__ import annotations

import logging

import pytest

from redisai_engine.execution.hosts.parent import Parent


def test_what_is_not_restricted_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    parent = Parent("TORCH")

    with caplog.at_level(logging.WARNING):
        for missing in ([], ["files (no Landlock)", "system calls"], ["files (no Landlock)"]):
            parent.say_missing(missing)

    assert caplog.messages == ["processes of TORCH models are not restricted in files (no Landlock) and system calls"]
