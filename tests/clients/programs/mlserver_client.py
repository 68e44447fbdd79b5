"""MLServer's codecs, which make V2 requests of arrays and frames and read the answers, and its `mlserver infer`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlserver.codecs import Base64Codec, NumpyCodec, PandasCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, Parameters, RequestInput, RequestOutput

INFER_S = 60.0
PAIR = {"a": np.float32([[1, 2]]), "b": np.float32([[3, 4]])}
RENTALS = pd.DataFrame({"town": ["Ulm", "Köln"], "rooms": [2, 3], "size": [50.0, 80.0]})
RENTS = [2 * 50 + 10 * 2 + 70, 2 * 80 + 10 * 3]


class Refused(Exception):
    """The answer's status and error."""


class Client:
    """Sends MLServer's requests with urllib, since MLServer has no client of its own but `mlserver infer`."""

    def __init__(self, address: str) -> None:
        self._address = address

    def infer(self, name: str, request: InferenceRequest) -> InferenceResponse:
        body = request.model_dump_json(exclude_none=True).encode()
        url = f"http://{self._address}/v2/models/{name}/infer"
        posted = urllib.request.Request(url, body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(posted, timeout=INFER_S) as answer:
                return InferenceResponse.model_validate_json(answer.read())
        except urllib.error.HTTPError as error:
            raise Refused(error.code, json.loads(error.read())["error"]) from None

    def batch(self, name: str, requests: list[InferenceRequest], *options: str) -> list[dict[str, Any]]:
        """Return what `mlserver infer` writes, in the order of the requests."""
        with tempfile.TemporaryDirectory() as folder:
            asked, answered = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
            asked.write_text("".join(request.model_dump_json(exclude_none=True) + "\n" for request in requests))
            command = [str(Path(sys.executable).with_name("mlserver")), "infer", "--url", self._address]
            paths = ["--input-data-path", str(asked), "--output-data-path", str(answered)]
            done = subprocess.run(
                [*command, "--model-name", name, "--retries", "1", *paths, *options],
                capture_output=True,
                text=True,
                timeout=INFER_S,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            lines = [json.loads(line) for line in answered.read_text().splitlines()]
        return sorted(lines, key=lambda line: line["parameters"]["batch_index"])


def connect(server: Any) -> Client:
    return Client(f"{server.host}:{server.port}")


def tensors(arrays: dict[str, np.ndarray]) -> InferenceRequest:
    return InferenceRequest(inputs=[NumpyCodec.encode_input(name, array) for name, array in arrays.items()])


def vector(item: RequestInput) -> RequestInput:
    """Undo that MLServer's codecs make a column of each vector, for models that take vectors."""
    item.shape = item.shape[:1]
    return item


def columns() -> list[RequestInput]:
    return list(PandasCodec.encode_request(RENTALS, use_bytes=False).inputs)


def refusal(client: Client, name: str, request: InferenceRequest) -> tuple[int, str]:
    try:
        client.infer(name, request)
    except Refused as refused:
        return refused.args
    raise AssertionError("the request had no error")


def sums(lines: list[dict[str, Any]]) -> list[Any]:
    found = [{item["name"]: item for item in line["outputs"]}["sum"] for line in lines]
    return [np.reshape(item["data"], item["shape"]).tolist() for item in found]


def check_arrays(client: Client, server: Any) -> None:
    answer = client.infer("tiny", tensors(PAIR))
    assert (answer.model_name, answer.model_version) == ("tiny", "1")
    arrays = {item.name: NumpyCodec.decode_output(item).tolist() for item in answer.outputs}
    assert arrays == {"product": [[3, 8]], "sum": [[4, 6]]}


def check_datatypes(client: Client, server: Any) -> None:
    for datatype, dtype in {"FP64": np.float64, "INT64": np.int64, "UINT64": np.uint64, "BOOL": bool}.items():
        array = np.array([0, 1], dtype)
        item = vector(NumpyCodec.encode_input("x", array))
        (output,) = client.infer(f"pass:{datatype}", InferenceRequest(inputs=[item])).outputs
        assert output.datatype == datatype
        assert NumpyCodec.decode_output(output).ravel().tolist() == array.tolist()


def check_texts(client: Client, server: Any) -> None:
    item = vector(StringCodec.encode_input("x", ["Köln", ""], use_bytes=False))
    (output,) = client.infer("pass:BYTES", InferenceRequest(inputs=[item])).outputs
    assert StringCodec.decode_output(output) == ["Köln", ""]


def check_requested_outputs_and_id(client: Client, server: Any) -> None:
    request = tensors(PAIR)
    request.id, request.outputs = "9", [RequestOutput(name="sum")]
    answer = client.infer("tiny", request)
    assert answer.id == "9"
    assert [item.name for item in answer.outputs] == ["sum"]


def check_a_frame(client: Client, server: Any) -> None:
    answer = client.infer("rent", PandasCodec.encode_request(RENTALS, use_bytes=False))
    frame = PandasCodec.decode_response(answer)
    assert list(frame) == ["output-1"]
    assert np.allclose(frame["output-1"], RENTS)


def check_columns_of_several_codecs(client: Client, server: Any) -> None:
    """Without the request's own content type: what each input's parameters say is enough."""
    inputs = [
        Base64Codec.encode_input("town", [town.encode() for town in RENTALS["town"]], use_bytes=False),
        NumpyCodec.encode_input("rooms", RENTALS["rooms"].to_numpy()),
        NumpyCodec.encode_input("size", RENTALS["size"].to_numpy()),
    ]
    answer = client.infer("rent", InferenceRequest(inputs=inputs))
    assert np.allclose(NumpyCodec.decode_output(answer.outputs[0]).ravel(), RENTS)


def check_errors(client: Client, server: Any) -> None:
    assert refusal(client, "nobody", tensors(PAIR))[0] == 404
    status, told = refusal(client, "tiny", tensors({"a": PAIR["a"]}))
    assert (status, "input 'b' is missing" in told) == (400, True), told
    wrong_type = {**PAIR, "b": np.int64([[3, 4]])}
    status, told = refusal(client, "tiny", tensors(wrong_type))
    assert (status, "input 'b' is INT64, but the model takes FP32" in told) == (400, True), told
    frame = InferenceRequest(inputs=columns()[1:], parameters=Parameters(content_type="pd"))
    status, told = refusal(client, "rent", frame)
    assert (status, "'town'" in told) == (400, True), told


def check_infer_as_json(client: Client, server: Any) -> None:
    lines = client.batch("tiny", [tensors(PAIR), tensors({**PAIR, "b": np.float32([[5, 6]])})])
    assert sums(lines) == [[[4, 6]], [[6, 8]]]


def check_infer_in_binary_form(client: Client, server: Any) -> None:
    lines = client.batch("tiny", [tensors(PAIR)], "--binary-data")
    assert sums(lines) == [[[4, 6]]]


def check_infer_in_batches(client: Client, server: Any) -> None:
    """Here MLServer's client puts the rows of several requests into one, and takes the answer apart."""
    requests = [tensors({**PAIR, "b": np.float32([[number, 0]])}) for number in range(5)]
    for options in ((), ("--binary-data",)):
        lines = client.batch("tiny", requests, "--batch-size", "2", *options)
        assert sums(lines) == [[[1 + number, 2]] for number in range(5)]


def check_infer_of_columns(client: Client, server: Any) -> None:
    """It sends no content types: the names of the inputs are those of the signature."""
    (line,) = client.batch("rent", [InferenceRequest(inputs=columns())])
    assert np.allclose(line["outputs"][0]["data"], RENTS)


def check_infer_writes_errors(client: Client, server: Any) -> None:
    for name, told in (("nobody", "model key is empty"), ("tiny", "input 'b' is missing")):
        (line,) = client.batch(name, [tensors({"a": PAIR["a"]})])
        assert told in line["error"]["msg"], line
