"""A complete deployment on a Redis Cluster: two nodes, an engine in front of each, and the plugin with cluster=true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest

from mlflow_redisai import RedisAIClient
from redisai_engine.protocol.parcels import pack
from support import python_models
from support.obedient import workers_of
from support.saved_models import save_multiplication
from support.servers import Server
from support.waiting import free_port, wait_until

pytestmark = pytest.mark.slow

ROWS = np.array([[1.0, 2.0]], np.float32)


@pytest.fixture
def new_cluster(new_redis: Callable[..., Server], new_engine: Callable[..., Server]) -> Callable[..., list[Server]]:
    """Returns a function that starts a cluster, and returns the engines in front of its nodes."""
    return lambda *options: start_cluster(new_redis, new_engine, *options)


def start_cluster(new_redis: Callable[..., Server], new_engine: Callable[..., Server], *options: str) -> list[Server]:
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
        new_engine("--redis", f"unix://{node.unix_socket}", "--port", str(port), *options)
        for node, port in zip(nodes, ports, strict=True)
    ]


def test_deployments_live_on_the_nodes_of_their_names(new_cluster: Callable[..., list[Server]], tmp_path: Path) -> None:
    engines = new_cluster()
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


def test_a_python_model_lives_on_one_node(new_cluster: Callable[..., list[Server]], tmp_path: Path) -> None:
    """All of it is in the slot of its name, and its worker beside the engine in front of that node."""
    engines = new_cluster("--python-models", "yes")
    saved = python_models.save("scaling", tmp_path)
    client = RedisAIClient(f"redisai://127.0.0.1:{engines[0].port}?cluster=true&read_timeout=240")
    names = ["model0", "model2"]  # on different nodes

    for name in names:
        shown = client.create_deployment(name, str(saved.path), config={"env": "local", "convert_timeout": "0"})
        assert shown["backend"] == "PYFUNC"

    expected = mlflow.pyfunc.load_model(str(saved.path)).predict(saved.held_out[0])
    for name in names:
        assert pack(client.predict(name, saved.held_out[0]).get_predictions()) == pack(expected)
        wire = engines[0].client()
        slot = wire.execute_command("CLUSTER", "KEYSLOT", name)
        assert max(engine.client().execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) for engine in engines) == 2
    assert [engine.client().dbsize() for engine in engines] == [2, 2], "the model and its record"
    assert [len(workers_of(engine)) for engine in engines] == [1, 1]
    for name in names:
        client.delete_deployment(name)
    wait_until(lambda: not any(workers_of(engine) for engine in engines), what="the end of the workers")
