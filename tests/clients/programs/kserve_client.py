"""KServe's InferenceRESTClient, for Open Inference V2: tensors as JSON and in binary form, health, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve.utils.numpy_codec import from_np_dtype

WIDE = (np.float16, np.float32, np.float64, np.int8, np.int64, np.uint32, np.uint64)  # without BOOL and texts
PAIR = {"a": np.float32([[1, 2]]), "b": np.float32([[3, 4]])}


class Client:
    """The client of one server. Its calls wait for the answer, which KServe's own don't."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, call: Callable[[InferenceRESTClient, str], Awaitable[Any]]) -> Any:
        async def asked() -> Any:
            async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
                return await call(client, self._url)

        return asyncio.run(asked())

    def infer(self, name: str, inputs: list[InferInput], **more: Any) -> InferResponse:
        request = InferRequest(name, inputs, **more)
        return self.ask(lambda client, url: client.infer(url, request, model_name=name))


def connect(server: Any) -> Client:
    return Client(f"http://{server.host}:{server.port}")


def tensors(arrays: dict[str, np.ndarray], *, binary: bool, **parameters: str) -> list[InferInput]:
    made = []
    for name, array in arrays.items():
        item = InferInput(name, list(array.shape), from_np_dtype(array.dtype), parameters=dict(parameters))
        item.set_data_from_numpy(array, binary_data=binary)
        made.append(item)
    return made


def refusal(call: Callable[[], Any]) -> tuple[int, str]:
    try:
        call()
    except httpx.HTTPStatusError as error:
        return error.response.status_code, str(error)
    raise AssertionError("the call had no error")


def passed(client: Client, array: np.ndarray, *, binary: bool) -> Any:
    """Return what a model answers that returns a vector of this datatype as a column."""
    datatype = from_np_dtype(array.dtype)
    answer = client.infer(f"pass:{datatype}", tensors({"x": array}, binary=binary))
    assert answer.outputs[0].datatype == datatype
    assert answer.outputs[0].shape == [len(array), 1]
    return answer.outputs[0].as_numpy().ravel().tolist()


def check_live_and_ready(client: Client, server: Any) -> None:
    assert client.ask(lambda kserve, url: kserve.is_server_live(url)) is True
    assert client.ask(lambda kserve, url: kserve.is_server_ready(url)) is True
    assert client.ask(lambda kserve, url: kserve.is_model_ready(url, "tiny")) is True
    assert client.ask(lambda kserve, url: kserve.is_model_ready(url, "nobody")) is False


def check_inputs_as_json(client: Client, server: Any) -> None:
    answer = client.infer("tiny", tensors(PAIR, binary=False))
    assert answer.model_name == "tiny"
    assert {item.name: item.as_numpy().tolist() for item in answer.outputs} == {"product": [[3, 8]], "sum": [[4, 6]]}


def check_inputs_in_binary_form(client: Client, server: Any) -> None:
    answer = client.infer("tiny", tensors(PAIR, binary=True))
    assert answer.get_output_by_name("sum").as_numpy().tolist() == [[4, 6]]


def check_one_input_of_each_form(client: Client, server: Any) -> None:
    a, b = {"a": PAIR["a"]}, {"b": PAIR["b"]}
    answer = client.infer("tiny", tensors(a, binary=True) + tensors(b, binary=False))
    assert answer.get_output_by_name("sum").as_numpy().tolist() == [[4, 6]]


def check_requested_outputs_and_id(client: Client, server: Any) -> None:
    for binary in (True, False):
        outputs = [RequestedOutput("sum", {"binary_data": binary})]
        answer = client.infer("tiny", tensors(PAIR, binary=binary), request_id="9", request_outputs=outputs)
        assert answer.id == "9"
        assert [item.name for item in answer.outputs] == ["sum"]
        assert answer.outputs[0].as_numpy().tolist() == [[4, 6]]


def check_numbers_in_binary_form(client: Client, server: Any) -> None:
    for dtype in WIDE:
        most = np.finfo(dtype).max if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
        array = np.array([0, most], dtype)
        assert passed(client, array, binary=True) == array.tolist(), dtype


def check_numbers_as_json(client: Client, server: Any) -> None:
    for dtype in WIDE[1:]:  # KServe's client sends FP16 in binary form only
        array = np.array([0, 100], dtype)
        assert passed(client, array, binary=False) == array.tolist(), dtype


def check_truth_values(client: Client, server: Any) -> None:
    for binary in (True, False):
        assert passed(client, np.array([True, False]), binary=binary) == [True, False]


def check_texts(client: Client, server: Any) -> None:
    texts = np.array(["Köln".encode(), b"", b"a\nb"], object)
    for binary in (True, False):
        assert passed(client, texts, binary=binary) == ["Köln", "", "a\nb"]


def check_no_rows(client: Client, server: Any) -> None:
    for binary in (True, False):
        assert passed(client, np.zeros(0, np.float32), binary=binary) == []


def check_a_column_per_input(client: Client, server: Any) -> None:
    columns = {
        "town": np.array([b"Ulm", "Köln".encode()], object),
        "rooms": np.array([2, 3]),
        "size": np.array([50.0, 80.0]),
    }
    for binary in (True, False):
        answer = client.infer("rent", tensors(columns, binary=binary), parameters={"content_type": "pd"})
        assert np.allclose(answer.outputs[0].as_numpy(), [2 * 50 + 10 * 2 + 70, 2 * 80 + 10 * 3])


def check_errors(client: Client, server: Any) -> None:
    status, told = refusal(lambda: client.infer("nobody", tensors(PAIR, binary=True)))
    assert status == 404, told
    for binary in (True, False):
        status, told = refusal(lambda form=binary: client.infer("tiny", tensors({"a": PAIR["a"]}, binary=form)))
        assert (status, "input 'b' is missing" in told) == (400, True), told
        wrong = {**PAIR, "b": np.int64([[3, 4]])}
        status, told = refusal(lambda form=binary, pair=wrong: client.infer("tiny", tensors(pair, binary=form)))
        assert (status, "input 'b' is INT64, but the model takes FP32" in told) == (400, True), told
