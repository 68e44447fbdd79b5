"""Published Python clients, each in its own environment, call by call against the engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from support.client_environments import Unavailable, python_with
from support.client_programs import Outcomes, checks_of, run_program

pytestmark = pytest.mark.network


@dataclass(frozen=True)
class PythonClient:
    """A client at one version: the environment it runs in, the program that uses it, and the protocol it speaks."""

    environment: str
    requirements: tuple[str, ...]
    program: str
    protocol: int = 2
    pythons: tuple[tuple[int, int], ...] = ()  # the only ones it supports; empty: any

    def __str__(self) -> str:
        return f"{self.environment}-resp{self.protocol}"


CLIENTS = (
    # redisai-py uses what NumPy 2.3 and setuptools 82 have removed: np.fromstring for bytes, and pkg_resources.
    PythonClient(
        "redisai-1.3.0", ("redisai==1.3.0", "redis==4.6.0", "numpy==2.2.6", "setuptools==80.9.0"), "redisai_py"
    ),
    PythonClient("redis-4.6.0", ("redis==4.6.0",), "redis_py"),
    PythonClient("redis-8.1.0", ("redis==8.1.0",), "redis_py"),
    PythonClient("redis-8.1.0", ("redis==8.1.0",), "redis_py", protocol=3),
    PythonClient("redis-8.1.0-hiredis", ("redis==8.1.0", "hiredis==3.5.0"), "redis_py", protocol=3),
    # Each of its wheels is for one version of Python, and was built against NumPy 1.
    PythonClient("smartredis-0.6.1", ("smartredis==0.6.1", "numpy==1.26.4"), "smartredis_client", pythons=((3, 11),)),
)

Run = Callable[[PythonClient], Outcomes]


@pytest.fixture(scope="session")
def run_of(told: dict[str, object]) -> Run:
    """
    A function that returns the outcomes of a client's program.

    A program runs once, when its first check asks for it.
    """
    done: dict[PythonClient, Outcomes | str] = {}

    def run(client: PythonClient) -> Outcomes:
        if client not in done:
            try:
                python = python_with(client.environment, client.requirements)
                done[client] = run_program(python, client.program, {**told, "protocol": client.protocol})
            except Unavailable as reason:
                done[client] = str(reason)
        outcomes = done[client]
        if isinstance(outcomes, str):
            pytest.skip(outcomes)
        return outcomes

    return run


@pytest.mark.parametrize(
    ("client", "check"),
    [
        pytest.param(client, check, id=f"{client}-{check.removeprefix('check_')}")
        for client in CLIENTS
        for check in checks_of(client.program)
        if client.protocol == 3 or not check.startswith("check_resp3_")
    ],
)
def test_a_client_finds_what_it_expects(run_of: Run, client: PythonClient, check: str):
    if client.pythons and sys.version_info[:2] not in client.pythons:
        pytest.skip(f"{client.requirements[0]} has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]}")

    run_of(client).report(check)
