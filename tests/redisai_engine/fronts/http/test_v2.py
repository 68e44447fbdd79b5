"""Open Inference Protocol V2: real models, every datatype in both forms, and what a wrong request is told."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from redisai_engine.fronts.http.v2.tensors import DATATYPES
from support.http_calls import HttpReply, HttpServer, infer_json
from support.servers import Server
from support.tiny_models import onnx_counter, passing, product_and_sum
from support.waiting import wait_until

PATH = "/v2/models/http:tiny/infer"
A = {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
B = {**A, "name": "b"}

#: Values of each datatype that others can't hold.
VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-32768, 32767],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [0.5, -65504.0],
    "FP32": [0.1, -3.5],
    "FP64": [0.1, 1e300],
    "BYTES": ["", "é\u0000\n"],
}


@pytest.fixture(scope="session")
def passers(http: HttpServer) -> HttpServer:
    """The session's engine with a model for each datatype, which returns its vector as a column."""
    client = http.engine.client()
    for datatype, dtype in DATATYPES.items():
        client.execute_command(
            "AI.MODELSTORE", f"pass:{datatype}", "ONNX", "CPU", "BLOB", passing("ONNX", dtype.name).blob
        )
    return http


def test_there_is_a_case_for_every_datatype() -> None:
    assert VALUES.keys() == DATATYPES.keys()


@pytest.mark.parametrize("datatype", VALUES)
def test_every_datatype_passes_as_json(passers: HttpServer, datatype: str) -> None:
    values = VALUES[datatype]

    reply = passers.ask("POST", f"/v2/models/pass:{datatype}/infer", infer_json(x=(datatype, [2], values)))

    (output,) = reply.json()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("y", datatype, [2, 1])
    assert output["data"] == values


def encoded(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)
    return np.array(values, DATATYPES[datatype]).tobytes()


def ask_binary(server: HttpServer, name: str, document: dict[str, Any], *tensors: bytes) -> HttpReply:
    head = json.dumps(document).encode()
    size = str(len(head))
    return server.ask(
        "POST", f"/v2/models/{name}/infer", head + b"".join(tensors), inference_header_content_length=size
    )


@pytest.mark.parametrize("datatype", VALUES)
def test_every_datatype_passes_in_binary_form(passers: HttpServer, datatype: str) -> None:
    raw = encoded(datatype, VALUES[datatype])
    about = {"name": "x", "datatype": datatype, "shape": [2], "parameters": {"binary_data_size": len(raw)}}

    reply = ask_binary(
        passers, f"pass:{datatype}", {"inputs": [about], "parameters": {"binary_data_output": True}}, raw
    )

    size = int(reply.headers["inference-header-content-length"])
    assert reply.headers["content-type"] == "application/octet-stream"
    (output,) = json.loads(reply.body[:size])["outputs"]
    assert output["parameters"] == {"binary_data_size": len(raw)}
    assert reply.body[size:] == raw


@pytest.mark.parametrize("binary", [True, False])
def test_base64_is_undone_for_a_models_own_inputs(passers: HttpServer, *, binary: bool) -> None:
    """MLServer's clients send it."""
    about: dict[str, Any] = {"name": "x", "datatype": "BYTES", "shape": [2], "parameters": {"content_type": "base64"}}
    if binary:
        raw = encoded("BYTES", ["w6k=", ""])
        about["parameters"]["binary_data_size"] = len(raw)
        reply = ask_binary(passers, "pass:BYTES", {"inputs": [about]}, raw)
    else:
        about["data"] = ["w6k=", ""]
        reply = passers.ask("POST", "/v2/models/pass:BYTES/infer", {"inputs": [about]})

    assert reply.json()["outputs"][0]["data"] == ["é", ""]


@pytest.mark.parametrize(("datatype", "value"), [("BYTES", "é" * 9), ("FP32", 0.5)])
@pytest.mark.parametrize("binary", [True, False])
def test_large_tensors_pass_in_both_forms(passers: HttpServer, datatype: str, value: Any, *, binary: bool) -> None:
    values = [value] * 50_000
    raw = encoded(datatype, values)
    about: dict[str, Any] = {"name": "x", "datatype": datatype, "shape": [len(values)]}
    if binary:
        about["parameters"] = {"binary_data_size": len(raw)}
        document = {"inputs": [about], "parameters": {"binary_data_output": True}}
        reply = ask_binary(passers, f"pass:{datatype}", document, raw)
        assert reply.body.endswith(raw)
    else:
        document = {"inputs": [{**about, "data": values}]}
        reply = passers.ask("POST", f"/v2/models/pass:{datatype}/infer", document)
        assert reply.json()["outputs"][0]["data"] == values


@pytest.mark.parametrize("datatype", VALUES)
def test_tensors_may_have_no_rows(passers: HttpServer, datatype: str) -> None:
    reply = passers.ask("POST", f"/v2/models/pass:{datatype}/infer", infer_json(x=(datatype, [0], [])))

    assert reply.status == 200
    assert reply.json()["outputs"] == [{"name": "y", "datatype": datatype, "shape": [0, 1], "data": []}]


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]]])
def test_data_is_flat_or_nested(http: HttpServer, data: list[Any]) -> None:
    reply = http.ask("POST", PATH, infer_json(a=("FP32", [2, 2], data), b=("FP32", [2, 2], data)))

    assert reply.json()["outputs"][1]["data"] == [2, 4, 6, 8]


def test_ids_outputs_and_versions(http: HttpServer) -> None:
    document = {"id": "7", "inputs": [A, B], "outputs": [{"name": "sum"}]}

    reply = http.ask("POST", "/v2/models/http:tiny/versions/1/infer", document)

    assert reply.json()["id"] == "7"
    assert [output["name"] for output in reply.json()["outputs"]] == ["sum"]
    assert http.ask("POST", "/v2/models/http:tiny/versions/2/infer", document).status == 404


def test_server_timing_names_the_parts(http: HttpServer) -> None:
    timing = http.ask("POST", PATH, {"inputs": [A, B]}).headers["server-timing"]

    parts = dict(part.strip().split(";dur=") for part in timing.split(","))
    assert list(parts) == ["prepare", "queue", "run", "encode"]
    assert all(float(milliseconds) >= 0 for milliseconds in parts.values())


WRONG: list[tuple[Any, str]] = [
    ([], "must be a JSON object"),
    (b"{", "isn't JSON"),
    (b'{"inputs": NaN}', "isn't JSON"),
    ({}, "must have inputs"),
    ({"inputs": []}, "must have inputs"),
    ({"inputs": {}}, "must have inputs"),
    ({"inputs": [1]}, "an object with a name"),
    ({"inputs": [A]}, "input 'b' is missing"),
    ({"inputs": [A, B, {**A, "name": "c"}]}, "inputs that the model doesn't have"),
    ({"inputs": [A, A]}, "input 'a' is there twice"),
    ({"inputs": [{**A, "datatype": "FP8"}, B]}, "datatype 'FP8'; allowed: BOOL"),
    ({"inputs": [{**A, "datatype": 3}, B]}, "datatype 3"),
    ({"inputs": [{**A, "datatype": "FP64"}, B]}, "input 'a' is FP64, but the model takes FP32"),
    ({"inputs": [{**A, "shape": [1, 3]}, B]}, "has 2 values, but its shape [1, 3] has 3"),
    ({"inputs": [{**A, "shape": [2]}, B]}, "the model takes [-1, -1]"),
    ({"inputs": [{**A, "shape": [-1, 2]}, B]}, "a list of numbers from 0"),
    ({"inputs": [{**A, "shape": [True, 2]}, B]}, "a list of numbers from 0"),
    ({"inputs": [{**A, "shape": [0] * 40}, B]}, "40 dimensions"),
    ({"inputs": [{**A, "shape": [2**40, 2**40, 0]}, B]}, "which no memory can hold"),
    ({"inputs": [{**A, "shape": 2}, B]}, "a list of numbers from 0"),
    ({"inputs": [{**A, "data": [1, "2"]}, B]}, "must have numbers only"),
    ({"inputs": [{**A, "data": [1, None]}, B]}, "must have numbers only"),
    ({"inputs": [{**A, "data": [[1], [2, 3]]}, B]}, "lists of different lengths"),
    ({"inputs": [{**A, "data": None}, B]}, "must have data"),
    ({"inputs": [{**A, "data": {"x": 1}}, B]}, "must have data"),
    ({"inputs": [{**A, "parameters": 1}, B]}, "must be an object"),
    ({"inputs": [{**A, "parameters": {"binary_data_size": 8}}, B]}, "the body has 0 bytes left"),
    ({"inputs": [{**A, "parameters": {"content_type": "jpeg"}}, B]}, "content_type can't be 'jpeg'"),
    ({"inputs": [{**A, "parameters": {"content_type": "base64"}}, B]}, "its datatype must be BYTES"),
    ({"inputs": [A, B], "outputs": [{"name": "x"}]}, "output 'x' isn't one of product, sum"),
    ({"inputs": [A, B], "outputs": "sum"}, "outputs must be a list"),
    ({"inputs": [A, B], "outputs": [{"name": "sum", "parameters": {"classification": 3}}]}, "asks for classification"),
    ({"inputs": [A, B], "id": 1}, "id must be a text"),
    ({"inputs": [A, B], "parameters": {"timeout": "x"}}, "a number of microseconds"),
    ({"inputs": [A, B], "parameters": {"binary_data_output": 1}}, "must be true or false"),
]


@pytest.mark.parametrize(("body", "told"), WRONG)
def test_a_wrong_request_is_told_what_is_wrong(http: HttpServer, body: Any, told: str) -> None:
    reply = http.ask("POST", PATH, body)

    assert reply.status == 400
    assert told in reply.json()["error"]


@pytest.mark.parametrize(
    ("datatype", "data", "told"),
    [
        ("INT8", [128], "has the value 128; allowed: -128 to 127"),
        ("UINT64", [-1], "has the value -1"),
        ("INT32", [1.5], "whole numbers"),
        ("INT64", [2**63], "has the value 9223372036854775808"),
        ("BOOL", [2], "true or false"),
        ("BYTES", [1], "must be texts"),
    ],
)
def test_values_must_fit_the_datatype(passers: HttpServer, datatype: str, data: list[Any], told: str) -> None:
    reply = passers.ask("POST", f"/v2/models/pass:{datatype}/infer", infer_json(x=(datatype, [1], data)))

    assert reply.status == 400
    assert told in reply.json()["error"]


@pytest.mark.parametrize(
    ("parameters", "rest", "told"),
    [
        ({"binary_data_size": 9}, b"\0" * 9, "has 9 bytes, but FP32 of the shape [1, 2] has 8"),
        ({"binary_data_size": 8}, b"\0" * 7, "has 7 bytes left"),
        ({"binary_data_size": -1}, b"", "binary_data_size -1"),
        ({"binary_data_size": 8}, b"\0" * 9, "1 bytes behind its tensors"),
    ],
)
def test_binary_sizes_must_fit(http: HttpServer, parameters: dict[str, Any], rest: bytes, told: str) -> None:
    a = {"name": "a", "datatype": "FP32", "shape": [1, 2], "parameters": parameters}

    reply = ask_binary(http, "http:tiny", {"inputs": [a, B]}, rest)

    assert reply.status == 400
    assert told in reply.json()["error"]


@pytest.mark.parametrize("size", ["x", "-1", "99999", "1e3"])
def test_the_size_of_the_json_must_be_right(http: HttpServer, size: str) -> None:
    assert http.ask("POST", PATH, {"inputs": [A, B]}, inference_header_content_length=size).status == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/models/nobody/infer"),
        ("GET", "/v2/models/nobody"),
        ("GET", "/v2/models/nobody/ready"),
        ("GET", "/x"),
    ],
)
def test_what_is_not_there_is_404(http: HttpServer, method: str, path: str) -> None:
    reply = http.ask(method, path, infer_json(x=("FP32", [1], [1])) if method == "POST" else None)

    assert reply.status == 404
    assert reply.json()["error"]


def test_a_key_that_holds_no_model_is_404(http: HttpServer) -> None:
    http.engine.client().set("http:text", "x")

    assert http.ask("POST", "/v2/models/http:text/infer", {"inputs": [A]}).status == 404


def test_a_method_that_a_path_does_not_have_is_405(http: HttpServer) -> None:
    reply = http.ask("DELETE", "/v2/models/http:tiny")

    assert reply.status == 405
    assert "doesn't take DELETE" in reply.json()["error"]


def test_a_request_that_waits_too_long_is_504(new_http: Callable[..., HttpServer]) -> None:
    server = new_http("--model-execution-timeout", "500")
    server.engine.client().execute_command("AI.MODELSTORE", "slow", "ONNX", "CPU", "BLOB", onnx_counter())

    reply = server.ask("POST", "/v2/models/slow/infer", infer_json(n=("INT64", [1], [2**40]), start=("FP32", [1], [0])))

    assert reply.status == 504
    assert reply.json()["error"]


def test_a_queue_is_bounded_and_so_is_waiting_in_it(new_http: Callable[..., HttpServer]) -> None:
    """A model that waits for eight requests: one waits, the next one is refused, and one may wait only so long."""
    server = new_http("--queue-limit", "1")
    batching = ("BATCHSIZE", 8, "MINBATCHSIZE", 8, "MINBATCHTIMEOUT", 60_000)
    blob = product_and_sum("ONNX").blob
    server.engine.client().execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", *batching, "BLOB", blob)
    path, request = "/v2/models/m/infer", {"inputs": [A, B]}

    late = server.ask("POST", path, {**request, "parameters": {"timeout": 50_000}})
    assert late.status == 504
    assert "its timeout allows" in late.json()["error"]

    waiting = server.connection()
    waiting.request("POST", path, json.dumps(request))
    wait_until(lambda: re.search(r"redisai_waiting\{.* 1", server.ask("GET", "/metrics").body.decode()), what="one")
    refused = server.ask("POST", path, request)
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    waiting.close()


def test_the_server_and_its_models_describe_themselves(http: HttpServer) -> None:
    server = http.ask("GET", "/v2").json()
    model = http.ask("GET", "/v2/models/http:tiny").json()

    assert server["name"] == "redisai-engine"
    assert "binary_tensor_data" in server["extensions"]
    assert model["versions"] == ["1"]
    assert model["platform"] == "onnxruntime_onnx"
    assert model["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": [-1, -1]}
    assert [output["name"] for output in model["outputs"]] == ["product", "sum"]


def test_a_name_may_have_slashes_and_any_characters(http: HttpServer) -> None:
    from support.tiny_models import product_and_sum

    name = "team/é wine?"
    http.engine.client().execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)

    for path in ("team/%C3%A9%20wine%3F", "team%2F%C3%A9%20wine%3F"):
        assert http.ask("POST", f"/v2/models/{path}/infer", {"inputs": [A, B]}).json()["model_name"] == name
        assert http.ask("GET", f"/v2/models/{path}/ready").json() == {"name": name, "ready": True}
        assert http.ask("GET", f"/v2/models/{path}/versions/1").json()["name"] == name


def test_the_repository_lists_loads_and_unloads(http: HttpServer) -> None:
    index = http.ask("POST", "/v2/repository/index").json()

    assert {"name": "http:tiny", "version": "1", "state": "READY", "reason": ""} in index
    assert "http:tiny" in http.ask("GET", "/v2/models").json()["models"]
    assert http.ask("POST", "/v2/repository/models/http:tiny/unload").status == 200
    assert http.ask("POST", "/v2/repository/models/http:tiny/load").json() == {"name": "http:tiny", "load": True}
    assert http.ask("POST", "/v2/repository/models/nobody/load").status == 404
    assert http.ask("POST", PATH, {"inputs": [A, B]}).status == 200


def processes_with(server: HttpServer, name: str) -> int:
    """Return how many processes have a model in memory."""
    text = server.ask("GET", "/metrics").body.decode()
    found = re.search(rf'redisai_models_loaded{{[^}}]*deployment="{name}"[^}}]*}} (\d+)', text)
    return int(found[1]) if found else 0


def store_tiny(server: HttpServer, **user: str) -> None:
    blob = product_and_sum("ONNX").blob
    server.engine.client(**user).execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", blob)


def test_a_model_is_loaded_and_unloaded_in_all_processes(new_http: Callable[..., HttpServer]) -> None:
    """With two workers, whichever of them gets the request."""
    server = new_http("--workers", "2")
    store_tiny(server)
    for _ in range(4):  # each on a connection of its own, with either process
        assert server.ask("POST", "/v2/repository/models/m/load").json() == {"name": "m", "load": True}
        wait_until(lambda: processes_with(server, "m") == 2, what="both processes to have the model")
        assert server.ask("POST", "/v2/repository/models/m/unload").status == 200
        wait_until(lambda: processes_with(server, "m") == 0, what="none to have it")
    assert server.ask("POST", "/v2/models/m/infer", {"inputs": [A, B]}).status == 200


def test_where_the_engine_may_not_read_a_model_only_one_process_loads_it(
    new_redis: Callable[..., Server], new_http: Callable[..., HttpServer]
) -> None:
    """The user's rights are those of a connection, which the other processes don't have."""
    redis = new_redis()
    redis.client().execute_command("ACL SETUSER owner on >secret ~* &* +@all")
    redis.client().execute_command("ACL SETUSER default resetkeys ~other*")
    server = new_http("--workers", "2", "--redis", redis.url)
    store_tiny(server, username="owner", password="secret")
    answers = [server.as_user("owner:secret").ask("POST", "/v2/repository/models/m/load").json() for _ in range(8)]

    assert answers == [{"name": "m", "load": True}] * 8
    assert server.ask("POST", "/v2/repository/models/m/load").status == 403
    assert "deployment 'm' can't be loaded: NOPERM" in server.engine.log.read_text()
