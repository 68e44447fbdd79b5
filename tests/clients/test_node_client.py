"""The published `redis` package of node: AI commands with sendCommand, in RESP2 and RESP3."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from support.client_environments import Unavailable, node_with
from support.client_programs import PROGRAM_S, PROGRAMS, Outcomes, outcomes_of

pytestmark = pytest.mark.network

PROGRAM = PROGRAMS / "node_redis.mjs"
CHECKS = re.findall(r"^  async (\w+)\(client\)", PROGRAM.read_text(), re.MULTILINE)


@pytest.fixture(scope="module", params=[2, 3], ids=["resp2", "resp3"])
def outcomes(request: pytest.FixtureRequest, told: dict[str, object]) -> Outcomes:
    try:
        folder = node_with("node-redis-5.8.2", ["redis@5.8.2"])
    except Unavailable as reason:
        pytest.skip(str(reason))
    command = ["node", str(PROGRAM), str(folder), json.dumps({**told, "protocol": request.param})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    return outcomes_of(done.stdout, done.stderr)


def test_the_program_has_checks():
    assert len(CHECKS) > 3


@pytest.mark.parametrize("check", CHECKS)
def test_node_redis_finds_what_it_expects(outcomes: Outcomes, check: str):
    outcomes.report(check)
