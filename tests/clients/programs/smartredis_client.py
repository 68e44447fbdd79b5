"""SmartRedis, a client in C++: tensors, datasets, models, scripts and what it asks the server."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

SCRIPT = """
def bar(a, b):
    return a + b
"""


def connect(server: Any) -> Any:
    os.environ.update(SR_LOG_LEVEL="QUIET", SR_SOCKET_TIMEOUT="100000", SR_CMD_TIMEOUT="100000")
    from smartredis import Client

    client = Client(address=address(server), cluster=False)
    client.flush_db([address(server)])
    return client


def address(server: Any) -> str:
    return f"{server.host}:{server.port}"


def put_inputs(client: Any) -> None:
    client.put_tensor("a", np.array([[2, 3]], dtype=np.float32))
    client.put_tensor("b", np.array([[5, 7]], dtype=np.float32))


def check_tensors_of_every_type(client: Any, server: Any) -> None:
    for name in ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16"):
        array = np.arange(6).reshape(2, 3).astype(name)
        client.put_tensor(name, array)
        got = client.get_tensor(name)
        assert got.dtype == array.dtype, name
        assert np.array_equal(got, array), name


def check_tensor_is_copied_renamed_and_deleted(client: Any, server: Any) -> None:
    array = np.array([1.0, 2.0])
    client.put_tensor("x", array)
    client.copy_tensor("x", "y")
    client.rename_tensor("x", "z")
    assert not client.tensor_exists("x")
    assert np.array_equal(client.get_tensor("y"), array)
    assert np.array_equal(client.get_tensor("z"), array)
    client.delete_tensor("z")
    assert not client.key_exists("z")
    assert client.poll_tensor("y", 10, 10)


def check_tensor_that_is_not_there(client: Any, server: Any) -> None:
    from smartredis.error import RedisRuntimeError

    said = ""
    try:
        client.get_tensor("absent")
    except RedisRuntimeError as error:
        said = str(error)
    assert "tensor key is empty or in a different shard" in said


def check_dataset(client: Any, server: Any) -> None:
    from smartredis import Dataset

    dataset = Dataset("set")
    dataset.add_tensor("t", np.array([1.0, 2.0]))
    dataset.add_meta_scalar("scalar", 7.0)
    dataset.add_meta_string("string", "text")
    client.put_dataset(dataset)
    got = client.get_dataset("set")
    assert got.get_tensor("t").tolist() == [1.0, 2.0]
    assert got.get_meta_scalars("scalar").tolist() == [7.0]
    assert got.get_meta_strings("string") == ["text"]


def check_list_of_datasets(client: Any, server: Any) -> None:
    from smartredis import Dataset

    for number in range(2):
        dataset = Dataset(f"set{number}")
        dataset.add_tensor("t", np.array([float(number)]))
        client.put_dataset(dataset)
        client.append_to_list("list", dataset)
    assert client.get_list_length("list") == 2
    assert [each.get_tensor("t").tolist() for each in client.get_datasets_from_list("list")] == [[0.0], [1.0]]


def check_model_of_onnx(client: Any, server: Any) -> None:
    client.set_model_from_file("m", server.model_file("ONNX"), "ONNX", tag="v1")
    assert client.model_exists("m")
    assert client.get_model("m") == server.model("ONNX")
    put_inputs(client)
    client.run_model("m", inputs=["a", "b"], outputs=["p", "s"])
    assert client.get_tensor("p").tolist() == [[10, 21]]
    client.delete_model("m")
    assert not client.model_exists("m")


def check_model_of_onnx_in_chunks(client: Any, server: Any) -> None:
    client.set_model_chunk_size(100)
    try:
        client.set_model("m", server.model("ONNX"), "ONNX", "CPU", batch_size=4, min_batch_size=1)
        assert len(client.get_model("m")) == len(server.model("ONNX"))  # 0.6.1 overwrites the chunks with one another
        put_inputs(client)
        client.run_model("m", inputs=["a", "b"], outputs=["p", "s"])
        assert client.get_tensor("s").tolist() == [[7, 10]]
    finally:
        client.set_model_chunk_size(511 * 1024 * 1024)


def check_model_of_tensorflow(client: Any, server: Any) -> None:
    client.set_model("m", server.model("TF"), "TF", "CPU", inputs=["a", "b"], outputs=["product", "sum"])
    put_inputs(client)
    client.run_model("m", inputs=["a", "b"], outputs=["p", "s"])
    assert client.get_tensor("s").tolist() == [[7, 10]]


def check_model_of_torch(client: Any, server: Any) -> None:
    client.set_model("m", server.model("TORCH"), "TORCH", "CPU")
    put_inputs(client)
    client.run_model("m", inputs=["a", "b"], outputs=["p", "s"])
    assert client.get_tensor("s").tolist() == [[7, 10]]


def check_script(client: Any, server: Any) -> None:
    server.model("TORCH")
    client.set_script("script", SCRIPT)
    assert client.get_script("script") == SCRIPT
    put_inputs(client)
    client.run_script("script", "bar", ["a", "b"], ["c"])
    assert client.get_tensor("c").tolist() == [[7, 10]]
    client.delete_script("script")


def check_figures_of_a_model(client: Any, server: Any) -> None:
    client.set_model("m", server.model("ONNX"), "ONNX", "CPU", tag="t")
    told = client.get_ai_info([address(server)], "m")[0]
    assert (told["backend"], told["tag"], int(told["calls"])) == ("ONNX", "t", 0), told


def check_what_it_asks_of_the_server(client: Any, server: Any) -> None:
    told = client.get_db_node_info([address(server)])[0]
    assert "redis_version" in told["Server"], told
    client.config_set("lua-time-limit", "5000", address(server))
    assert client.config_get("lua-time-limit", address(server)) == {"lua-time-limit": "5000"}
