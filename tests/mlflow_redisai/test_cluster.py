"""A complete deployment on a Redis Cluster: two nodes, an engine in front of each, and the plugin with cluster=true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlflow_redisai import RedisAIClient
from support.saved_models import save_multiplication
from support.servers import Server
from support.waiting import free_port, wait_until

pytestmark = pytest.mark.slow

ROWS = np.array([[1.0, 2.0]], np.float32)


@pytest.fixture
def engines(new_redis: Callable[..., Server], new_engine: Callable[..., Server]) -> list[Server]:
    """The nodes announce the ports of the engines in front of them, so clients are redirected to the engines."""
    ports = [free_port(), free_port()]
    nodes = [new_redis("--cluster-enabled", "yes", "--cluster-announce-port", str(port)) for port in ports]
    first, second = (node.client() for node in nodes)
    first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    second.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    second.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 2)
    first.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[1].port, nodes[1].port + 10000)
    for client in (first, second):
        wait_until(lambda c=client: "cluster_state:ok" in str(c.execute_command("CLUSTER", "INFO")), what="the cluster")  # type: ignore[misc]
    return [
        new_engine("--redis", f"unix://{node.unix_socket}", "--port", str(port))
        for node, port in zip(nodes, ports, strict=True)
    ]


def test_deployments_live_on_the_nodes_of_their_names(engines: list[Server], tmp_path: Path) -> None:
    model = save_multiplication(tmp_path / "model", 2.0).uri
    client = RedisAIClient(f"redisai://127.0.0.1:{engines[0].port}?cluster=true")
    names = [f"model{number}" for number in range(6)]

    for name in names:
        client.create_deployment(name, model)
    updated = client.update_deployment(names[0], config={"tag": "x"})
    answers = [client.predict(name, ROWS)["predictions"]["y"].tolist() for name in names]

    assert updated["tag"] == "x"
    assert answers == [[[2.0, 4.0]]] * len(names)
    assert [row["name"] for row in client.list_deployments()] == names
    counts = [engine.client().dbsize() for engine in engines]
    assert sum(counts) == 2 * len(names)
    assert all(counts)
    for name in names:
        client.delete_deployment(name)
    assert [engine.client().dbsize() for engine in engines] == [0, 0]
