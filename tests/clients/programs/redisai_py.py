"""The calls that redisai-py documents, with the results that its documentation and its own tests state."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import redis
from redisai import Client

SCRIPT = """
def bar(tensors: List[Tensor], keys: List[str], args: List[str]):
    return tensors[0] + tensors[1]

def addn(tensors: List[Tensor], keys: List[str], args: List[str]):
    total = tensors[0]
    for each in tensors[1:]:
        total = total + each
    return total + float(args[0])

def through_redis(tensors: List[Tensor], keys: List[str], args: List[str]):
    redis.execute("SET", keys[0], args[0])
    return tensors[0]
"""
OLD_SCRIPT = """
def bar(a, b):
    return a + b
"""

warnings.simplefilter("ignore", DeprecationWarning)  # for calls that RedisAI itself has deprecated


def connect(server: Any) -> Client:
    client = Client(host=server.host, port=server.port, socket_timeout=100)
    client.flushall()
    return client


def error_of(function: Any, *arguments: Any, kind: type[Exception] = redis.exceptions.ResponseError) -> str:
    try:
        function(*arguments)
    except kind as error:
        return str(error)
    raise AssertionError("the call had no error")


def store_onnx(client: Client, server: Any, key: str = "m", **options: Any) -> bytes:
    blob: bytes = server.model("ONNX")
    assert client.modelstore(key, "onnx", "cpu", blob, **options) == "OK"
    return blob


def set_inputs(client: Client) -> None:
    client.tensorset("a", (2, 3), shape=(1, 2), dtype="float")
    client.tensorset("b", (5, 7), shape=(1, 2), dtype="float")


# -- tensors


def check_tensor_of_a_tuple(client: Client, server: Any) -> None:
    assert client.tensorset("x", (2, 3), dtype="float") == "OK"
    assert client.tensorget("x", as_numpy=False) == {"dtype": "FLOAT", "shape": [2], "values": [2.0, 3.0]}
    assert client.tensorget("x", meta_only=True) == {"dtype": "FLOAT", "shape": [2]}


def check_tensor_of_a_list_with_a_shape(client: Client, server: Any) -> None:
    assert client.tensorset("x", [1, 2, 3, 4, 5, 6], dtype="int16", shape=(2, 3)) == "OK"
    assert client.tensorget("x").tolist() == [[1, 2, 3], [4, 5, 6]]
    assert client.tensorget("x").dtype == np.int16


def check_tensors_of_every_numpy_type(client: Client, server: Any) -> None:
    for name in ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool"):
        array = np.array([[0, 1, 1], [1, 0, 1]], dtype=name)
        assert client.tensorset(name, array) == "OK"
        got = client.tensorget(name)
        assert got.dtype == array.dtype, name
        assert np.array_equal(got, array), name


def check_tensor_of_strings(client: Client, server: Any) -> None:
    assert client.tensorset("s", np.array([["hello", "wörld"]])) == "OK"
    assert client.tensorget("s").tolist() == [["hello", "wörld"]]
    assert client.tensorset("l", ["first", "second"], dtype="str") == "OK"
    assert client.tensorget("l", as_numpy=False)["values"] == ["first", "second"]


def check_tensor_as_a_mutable_array(client: Client, server: Any) -> None:
    client.tensorset("x", np.arange(4.0))
    got = client.tensorget("x", as_numpy_mutable=True)
    got[0] = 9
    assert got.tolist() == [9, 1, 2, 3]


def check_tensor_that_is_not_there(client: Client, server: Any) -> None:
    assert error_of(client.tensorget, "absent") == "tensor key is empty or in a different shard"


def check_numpy_type_that_redisai_has_not(client: Client, server: Any) -> None:
    assert "complex128" in error_of(client.tensorset, "c", np.array([1j]), kind=TypeError)


# -- models


def check_model_is_stored_run_and_told(client: Client, server: Any) -> None:
    blob = store_onnx(client, server, tag="v1.0", batch=4, minbatch=2, minbatchtimeout=1)
    told = client.modelget("m")
    assert told.pop("blob") == blob
    assert told == {
        "backend": "ONNX",
        "device": "cpu",
        "tag": "v1.0",
        "batchsize": 4,
        "minbatchsize": 2,
        "minbatchtimeout": 1,
        "inputs": ["a", "b"],
        "outputs": ["product", "sum"],
    }, told
    assert "blob" not in client.modelget("m", meta_only=True)
    set_inputs(client)
    assert client.modelexecute("m", ["a", "b"], ["p", "s"]) == "OK"
    assert client.tensorget("p").tolist() == [[10, 21]]
    assert client.tensorget("s").tolist() == [[7, 10]]


def check_model_is_run_with_a_timeout(client: Client, server: Any) -> None:
    store_onnx(client, server)
    set_inputs(client)
    assert client.modelexecute("m", ["a", "b"], ["p", "s"], timeout=1000) == "OK"


def check_model_is_sent_in_chunks(client: Client, server: Any) -> None:
    """redisai-py splits the blob by MODEL_CHUNK_SIZE, and RedisAI returns it split in the same way."""
    before = client.config("MODEL_CHUNK_SIZE")
    try:
        assert client.config("MODEL_CHUNK_SIZE", 100) == "OK"
        blob = store_onnx(client, server)
        chunks = client.modelget("m")["blob"]
        assert [len(chunk) for chunk in chunks[:-1]] == [100] * (len(chunks) - 1)
        assert b"".join(chunks) == blob
    finally:
        client.config("MODEL_CHUNK_SIZE", before)


def check_models_are_listed(client: Client, server: Any) -> None:
    store_onnx(client, server, "one", tag="v1.2.3")
    store_onnx(client, server, "two")
    assert sorted(client.modelscan()) == [["one", "v1.2.3"], ["two", ""]]


def check_model_is_deleted(client: Client, server: Any) -> None:
    store_onnx(client, server)
    assert client.modeldel("m") == "OK"
    assert client.exists("m") == 0
    assert error_of(client.modeldel, "m") == "model key is empty"
    assert error_of(client.modelget, "m") == "model key is empty"


def check_model_that_is_none(client: Client, server: Any) -> None:
    error_of(client.modelstore, "m", "onnx", "cpu", b"no model")
    assert client.exists("m") == 0


def check_deprecated_model_calls(client: Client, server: Any) -> None:
    assert client.modelset("m", "onnx", "cpu", server.model("ONNX"), tag="old") == "OK"
    set_inputs(client)
    assert client.modelrun("m", ["a", "b"], ["p", "s"]) == "OK"
    assert client.tensorget("p").tolist() == [[10, 21]]


def check_model_of_tensorflow(client: Client, server: Any) -> None:
    blob = server.model("TF")
    assert client.modelstore("m", "tf", "cpu", blob, inputs=["a", "b"], outputs=["product", "sum"], tag="v1") == "OK"
    set_inputs(client)
    assert client.modelexecute("m", ["a", "b"], ["p", "s"]) == "OK"
    assert client.tensorget("p").tolist() == [[10, 21]]
    assert client.modelget("m", meta_only=True)["outputs"] == ["product", "sum"]


def check_model_of_torch(client: Client, server: Any) -> None:
    assert client.modelstore("m", "torch", "cpu", server.model("TORCH")) == "OK"
    set_inputs(client)
    assert client.modelexecute("m", ["a", "b"], ["p", "s"]) == "OK"
    assert client.tensorget("s").tolist() == [[7, 10]]


def check_replies_as_they_came(client: Client, server: Any) -> None:
    raw = Client(host=server.host, port=server.port, enable_postprocess=False)
    assert raw.tensorset("x", (2, 3), dtype="float") == b"OK"
    assert raw.tensorget("x", meta_only=True) == [b"dtype", b"FLOAT", b"shape", [2]]


# -- scripts


def check_script_is_stored_run_and_told(client: Client, server: Any) -> None:
    server.model("TORCH")
    assert client.scriptstore("s", "cpu", SCRIPT, ["bar", "addn", "through_redis"], tag="v1") == "OK"
    assert client.scriptget("s") == {
        "device": "cpu",
        "tag": "v1",
        "entry points": [b"bar", b"addn", b"through_redis"],
        "source": SCRIPT,
    }, client.scriptget("s")
    assert client.scriptscan() == [["s", "v1"]]
    set_inputs(client)
    assert client.scriptexecute("s", "bar", inputs=["a", "b"], outputs=["c"]) == "OK"
    assert client.tensorget("c").tolist() == [[7, 10]]
    assert client.scriptexecute("s", "addn", inputs=["a", "b", "c"], args=["5.0"], outputs=["d"]) == "OK"
    assert client.tensorget("d").tolist() == [[19, 25]]


def check_script_calls_redis(client: Client, server: Any) -> None:
    server.model("TORCH")
    client.scriptstore("s", "cpu", SCRIPT, ["through_redis"])
    set_inputs(client)
    run = client.scriptexecute("s", "through_redis", keys=["k"], inputs=["a"], args=["v"], outputs=["c"])
    assert run == "OK"
    assert client.get("k") == b"v"


def check_script_is_deleted(client: Client, server: Any) -> None:
    server.model("TORCH")
    client.scriptstore("s", "cpu", SCRIPT, "bar")
    assert client.scriptdel("s") == "OK"
    assert error_of(client.scriptget, "s") == "script key is empty"


def check_deprecated_script_calls(client: Client, server: Any) -> None:
    server.model("TORCH")
    assert client.scriptset("s", "cpu", OLD_SCRIPT) == "OK"
    set_inputs(client)
    assert client.scriptrun("s", "bar", ["a", "b"], ["c"]) == "OK"
    assert client.tensorget("c").tolist() == [[7, 10]]


# -- DAGs


def check_dag_of_all_operations(client: Client, server: Any) -> None:
    store_onnx(client, server)
    client.tensorset("a", np.array([[2, 3]], dtype=np.float32))
    dag = client.dag(load=["a"], persist=["s"], timeout=1000)
    dag.tensorset("b", np.array([[5, 7]], dtype=np.float32))
    dag.modelexecute("m", inputs=["a", "b"], outputs=["p", "s"])
    stored, ran, product = dag.tensorget("p").execute()
    assert (stored, ran) == ("OK", "OK")
    assert product.tolist() == [[10, 21]]
    assert client.tensorget("s").tolist() == [[7, 10]]


def check_dag_that_only_reads(client: Client, server: Any) -> None:
    store_onnx(client, server)
    set_inputs(client)
    dag = client.dag(load=["a", "b"], routing="a", readonly=True)
    result = dag.modelexecute("m", ["a", "b"], ["p", "s"]).tensorget("s").execute()
    assert result[1].tolist() == [[7, 10]]


def check_dag_with_a_script(client: Client, server: Any) -> None:
    server.model("TORCH")
    client.scriptstore("s", "cpu", SCRIPT, ["bar", "addn"])
    set_inputs(client)
    dag = client.dag(load=["a", "b"], persist="c")
    assert dag.scriptexecute("s", "bar", inputs=["a", "b"], outputs=["c"]).execute() == ["OK"]
    assert client.tensorget("c").tolist() == [[7, 10]]


def check_deprecated_dag(client: Client, server: Any) -> None:
    store_onnx(client, server)
    dag = client.dag()
    dag.tensorset("a", np.array([[2, 3]], dtype=np.float32)).tensorset("b", np.array([[5, 7]], dtype=np.float32))
    result = dag.modelrun("m", ["a", "b"], ["p", "s"]).tensorget("p").run()
    assert result[-1].tolist() == [[10, 21]]


def check_dag_of_a_model_that_is_not_there(client: Client, server: Any) -> None:
    set_inputs(client)
    dag = client.dag(load=["a", "b"], routing="a")
    assert "model key is empty" in error_of(dag.modelexecute("absent", ["a", "b"], ["p", "s"]).execute)


# -- pipelines and the server


def check_pipeline_of_tensors_and_plain_commands(client: Client, server: Any) -> None:
    for transaction in (False, True):
        pipeline = client.pipeline(transaction=transaction)
        pipeline = pipeline.tensorset("x", np.array([1, 2]))
        pipeline = pipeline.set("nativeKey", 1)
        pipeline = pipeline.tensorget("x")
        pipeline = pipeline.tensorget("x", meta_only=True)
        pipeline = pipeline.get("nativeKey")
        stored, plain, array, meta, value = pipeline.execute()
        assert (stored, plain, value) == (b"OK", True, b"1")
        assert array.tolist() == [1, 2]
        assert meta == {"dtype": "INT64", "shape": [2]}


def check_transaction_that_is_watched(client: Client, server: Any) -> None:
    client.tensorset("x", [1], dtype="float")
    pipeline = client.pipeline()
    pipeline.watch("x")
    pipeline.multi()
    pipeline.tensorset("x", [2], dtype="float")
    client.tensorset("x", [3], dtype="float")
    try:
        pipeline.execute()
    except redis.exceptions.WatchError:
        assert client.tensorget("x").tolist() == [3]
    else:
        raise AssertionError("EXEC ran although the key was changed")


def check_figures_of_a_model(client: Client, server: Any) -> None:
    store_onnx(client, server, tag="t")
    set_inputs(client)
    client.modelexecute("m", ["a", "b"], ["p", "s"])
    told = client.infoget("m")
    assert told.pop("duration") >= 0
    assert told == {
        "key": "m",
        "type": "MODEL",
        "backend": "ONNX",
        "device": "cpu",
        "tag": "t",
        "samples": 1,
        "calls": 1,
        "errors": 0,
    }, told
    assert client.inforeset("m") == "OK"
    assert client.infoget("m")["calls"] == 0


def check_configuration(client: Client, server: Any) -> None:
    assert isinstance(client.config("MODEL_CHUNK_SIZE"), int)
    assert client.config("BACKENDSPATH", "/my/backends/path") == "OK"
    assert client.config("BACKENDSPATH") == "/my/backends/path"
    assert client.config("NO_SUCH_THING") is None
    assert "error loading backend" in error_of(client.loadbackend, "TORCH", "redisai_torch/none.so")


def check_plain_redis_calls(client: Client, server: Any) -> None:
    client.tensorset("x", [1], dtype="float")
    assert client.type("x") == b"AI_TENSOR"
    assert client.rename("x", "y")
    assert client.tensorget("y").tolist() == [1]
    assert client.expire("y", 100)
    assert 0 < client.ttl("y") <= 100
    assert [module[b"name"] for module in client.module_list()] == [b"ai"]
    assert client.info("modules")["ai_RedisAI_version"]
