"""Several worker processes behind one port act as one engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from support.servers import Server
from support.transcripts import recorded_model
from support.waiting import wait_until

CONNECTIONS = 12  # enough for both workers to get some


@pytest.fixture
def two_workers(new_engine: Callable[..., Server]) -> Server:
    return new_engine("--workers", "2")


def connections(server: Server) -> list[redis.Redis]:
    return [server.client(single_connection_client=True) for _ in range(CONNECTIONS)]


def store(client: redis.Redis) -> None:
    client.execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", recorded_model("mul.onnx"))
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1, 2, "VALUES", 1, 2)


def run(client: redis.Redis) -> object:
    return client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "a", "OUTPUTS", 1, "b")


def figures(client: redis.Redis) -> dict[bytes, object]:
    reply = client.execute_command("AI.INFO", "m")
    return dict(zip(reply[::2], reply[1::2], strict=True))


def children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_run_figures_of_all_workers_add_up(two_workers: Server) -> None:
    clients = connections(two_workers)
    store(clients[0])

    for client in clients:
        run(client)

    assert {figures(client)[b"calls"] for client in clients} == {CONNECTIONS}


@pytest.mark.slow
def test_resetstat_reaches_all_workers(two_workers: Server) -> None:
    clients = connections(two_workers)
    store(clients[0])
    for client in clients:
        run(client)

    clients[0].execute_command("AI.INFO", "m", "RESETSTAT")

    assert {figures(client)[b"calls"] for client in clients} == {0}


@pytest.mark.slow
def test_a_changed_setting_holds_in_all_workers(two_workers: Server) -> None:
    clients = connections(two_workers)

    clients[0].execute_command("AI.CONFIG", "MODEL_CHUNK_SIZE", 12345)

    assert {client.execute_command("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE") for client in clients} == {12345}


@pytest.mark.slow
def test_a_worker_that_dies_is_started_anew(two_workers: Server) -> None:
    """Its connections are lost. New ones are served, and no worker is missing."""
    pid = two_workers.process.pid
    before = children(pid)
    worker = next(child for child in before if b"redisai_engine" in Path(f"/proc/{child}/cmdline").read_bytes())

    os.kill(worker, signal.SIGKILL)

    wait_until(
        lambda: worker not in children(pid) and len(children(pid)) == len(before), timeout_s=30, what="a new worker"
    )
    assert all(client.ping() for client in connections(two_workers))


@pytest.mark.slow
def test_no_process_is_left_when_the_parent_is_killed(two_workers: Server) -> None:
    workers = children(two_workers.process.pid)

    two_workers.process.kill()

    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), timeout_s=30, what="no process")
