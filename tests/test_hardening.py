"""The systemd unit of docs/engine/hardening.md: systemd accepts it, and it leaves hosts what they need."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "engine" / "hardening.md"


@pytest.fixture
def unit() -> str:
    found = re.search(r"```ini\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_systemd_accepts_it(unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on the PATH")
    file = tmp_path / "redisai-engine.service"
    # Its program must exist to be accepted.
    file.write_text(unit.replace("/opt/redisai/bin/redisai-engine", sys.executable))

    said = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60)

    assert [line for line in said.stderr.splitlines() if file.name in line] == []
    assert said.returncode == 0, said.stderr


def test_it_gives_hosts_what_they_need_and_root_to_nobody(unit: str) -> None:
    parsed = configparser.ConfigParser(strict=True, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit)
    service = parsed["Service"]

    # prctl is in @system-service; the others are in none of the groups of older systemds.
    landlock = {f"landlock_{name}" for name in ("create_ruleset", "add_rule", "restrict_self")}
    assert {"@system-service", "seccomp", *landlock} <= set(service["SystemCallFilter"].split())
    assert "AF_UNIX" in service["RestrictAddressFamilies"].split()
    assert service["CapabilityBoundingSet"] == ""
    assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert "MemoryDenyWriteExecute" not in service
