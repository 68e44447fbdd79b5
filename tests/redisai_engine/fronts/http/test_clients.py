"""NVIDIA's client for Triton, with its defaults, against the engine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from redisai_engine.fronts.http.v2.tensors import DATATYPES
from support.http_calls import HttpServer
from support.tiny_models import passing

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tritonclient = pytest.importorskip("tritonclient.http")


@pytest.fixture
def triton(http: HttpServer) -> Iterator[tritonclient.InferenceServerClient]:
    client = tritonclient.InferenceServerClient(f"{http.host}:{http.port}", concurrency=2)
    yield client
    client.close()


def tensor(name: str, array: np.ndarray, *, binary: bool = True) -> tritonclient.InferInput:
    from tritonclient.utils import np_to_triton_dtype

    item = tritonclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    item.set_data_from_numpy(array, binary_data=binary)
    return item


@pytest.mark.parametrize("binary", [True, False])
def test_infer(triton: tritonclient.InferenceServerClient, binary: bool) -> None:  # noqa: FBT001
    a, b = np.float32([[1, 2]]), np.float32([[3, 4]])
    outputs = [tritonclient.InferRequestedOutput("sum", binary_data=binary)]

    result = triton.infer(
        "http:tiny", [tensor("a", a, binary=binary), tensor("b", b, binary=binary)], outputs=outputs, request_id="9"
    )

    assert result.as_numpy("sum").tolist() == [[4, 6]]
    assert result.as_numpy("product") is None
    assert result.get_response()["id"] == "9"


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_requests_may_be_compressed(triton: tritonclient.InferenceServerClient, compression: str) -> None:
    a = np.float32([[1, 2]])

    result = triton.infer("http:tiny", [tensor("a", a), tensor("b", a)], request_compression_algorithm=compression)

    assert result.as_numpy("sum").tolist() == [[2, 4]]


@pytest.mark.parametrize("datatype", ["FP16", "UINT32", "UINT64", "BYTES", "BOOL"])
def test_datatypes(http: HttpServer, triton: tritonclient.InferenceServerClient, datatype: str) -> None:
    dtype = DATATYPES[datatype]
    array = np.array([b"\xc3\xa9", b""] if datatype == "BYTES" else [0, 1], dtype)
    http.engine.client().execute_command(
        "AI.MODELSTORE", f"client:{datatype}", "ONNX", "CPU", "BLOB", passing("ONNX", dtype.name).blob
    )

    assert triton.infer(f"client:{datatype}", [tensor("x", array)]).as_numpy("y").ravel().tolist() == array.tolist()


def test_health_and_metadata(triton: tritonclient.InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("http:tiny")
    assert not triton.is_model_ready("client:nobody")
    assert triton.get_server_metadata()["name"] == "redisai-engine"
    assert [item["datatype"] for item in triton.get_model_metadata("http:tiny")["inputs"]] == ["FP32", "FP32"]


def test_the_repository(triton: tritonclient.InferenceServerClient) -> None:
    assert "http:tiny" in [item["name"] for item in triton.get_model_repository_index()]
    triton.load_model("http:tiny")
    triton.unload_model("http:tiny")
    assert triton.is_model_ready("http:tiny")


def test_an_error_is_told(triton: tritonclient.InferenceServerClient) -> None:
    with pytest.raises(tritonclient.InferenceServerException, match="input 'b' is missing"):
        triton.infer("http:tiny", [tensor("a", np.float32([[1, 2]]))])
