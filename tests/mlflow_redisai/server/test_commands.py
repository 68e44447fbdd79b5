"""RedisAI's commands and replies. The replies were recorded from a real RedisAI 1.2.7 (transcripts)."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from redis.exceptions import ResponseError

from mlflow_redisai.server import commands
from mlflow_redisai.server.commands import BadReply, Command, ModelMeta, ModelToStore, RunTimedOut, pieces
from redisai_engine.protocol.tensor import Tensor
from support.transcripts import recorded_model, scenarios


def as_redis_py_gives_it(reply: dict[str, Any]) -> Any:
    """Return a recorded reply as redis-py returns it with decode_responses=False."""
    kind, value = next(iter(reply.items()))
    if kind == "array":
        return [as_redis_py_gives_it(element) for element in value]
    if kind == "map":
        return {as_redis_py_gives_it(name): as_redis_py_gives_it(element) for name, element in value}
    if kind == "error":
        return ResponseError(value)
    if kind == "bulk_b64":
        return base64.b64decode(value)
    if kind == "approx_f32":
        return np.array(value, "<f4").tobytes()
    return value if kind == "int" else value.encode()


def reply_to(scenario: str, *start: str) -> Any:
    """Return the recorded reply to the first command of a scenario that starts like this."""
    for step in scenarios()[scenario].steps:
        if step.get("send", [])[: len(start)] == list(start):
            return as_redis_py_gives_it(step["reply"])
    raise AssertionError(f"{start} is not sent in {scenario}")


def test_the_meta_of_a_model_is_read_as_redisai_tells_it() -> None:
    reply = reply_to("model/store_all_options", "AI.MODELGET", "m", "META")

    assert ModelMeta.from_reply(reply) == ModelMeta(
        backend="ONNX",
        device="CPU",
        tag="prod:v1",
        batchsize=8,
        minbatchsize=2,
        minbatchtimeout=1000,
        inputs=("a", "b"),
        outputs=("product",),
    )


def test_meta_as_a_map_is_the_same() -> None:
    """RESP3 may return names and values as a map."""
    flat = [b"backend", b"ONNX", b"device", b"CPU", b"tag", b"", b"batchsize", 0, b"minbatchsize", 0]
    flat += [b"inputs", [b"x"], b"outputs", [b"y"], b"minbatchtimeout", 0]

    assert ModelMeta.from_reply(flat) == ModelMeta.from_reply(dict(zip(flat[::2], flat[1::2], strict=True)))


@pytest.mark.parametrize("change", [{"tag": "other"}, {"batchsize": 1}, {"inputs": ("z",)}, {"device": "GPU"}])
def test_a_model_with_other_facts_has_another_fingerprint(change: dict[str, Any]) -> None:
    facts = {"backend": "ONNX", "device": "CPU", "inputs": ("x",), "outputs": ("y",)}

    assert ModelMeta(**facts).fingerprint() == ModelMeta(**facts).fingerprint()
    assert ModelMeta(**{**facts, **change}).fingerprint() != ModelMeta(**facts).fingerprint()


@pytest.mark.parametrize(
    ("scenario", "meta"),
    [
        ("store_onnx_minimal", ModelMeta(backend="ONNX", device="CPU")),
        ("store_tf_minimal", ModelMeta(backend="TF", device="CPU", inputs=("a", "b"), outputs=("mul",))),
        (
            "store_all_options",
            ModelMeta(
                backend="ONNX",
                device="CPU",
                tag="prod:v1",
                batchsize=8,
                minbatchsize=2,
                minbatchtimeout=1000,
                inputs=("ignored",),
                outputs=("ignored",),
            ),
        ),
        (
            "store_all_options_tf",
            ModelMeta(
                backend="TF",
                device="CPU",
                tag="z",
                batchsize=16,
                minbatchsize=1,
                minbatchtimeout=10,
                inputs=("x",),
                outputs=("scores",),
            ),
        ),
    ],
)
def test_a_model_is_stored_with_the_arguments_in_redisais_order(scenario: str, meta: ModelMeta) -> None:
    sent = scenarios()[f"model/{scenario}"].steps[0]["send"]

    command = ModelToStore(meta, b"blob", chunk_bytes=100).command(b"m")

    assert [part.decode() if isinstance(part, bytes) else str(part) for part in command[:-1]] == sent[:-1]
    assert command[-1] == b"blob"


def test_a_big_model_is_cut_into_chunks_that_make_it_up_again() -> None:
    model = ModelToStore(ModelMeta(backend="ONNX", device="CPU"), bytes(range(10)), chunk_bytes=4)

    chunks = model.command(b"m")[-3:]

    assert [bytes(chunk) for chunk in chunks] == [b"\0\1\2\3", b"\4\5\6\7", b"\x08\x09"]  # type: ignore[arg-type]


@pytest.mark.parametrize("at_most", [1, 5, 6, 64, 1000])
def test_a_command_in_pieces_is_what_redis_py_writes(at_most: int) -> None:
    from redis.connection import Connection

    blob = bytes(range(256))
    command: Command = ["SET", b"k\xff", "Größe", 12, memoryview(blob)[1:7], bytearray(b"xy"), blob, b""]

    written = list(pieces(command, at_most))

    assert b"".join(written) == b"".join(Connection().pack_command(*command))
    assert all(len(piece) <= at_most for piece in written if isinstance(piece, memoryview))


def test_the_pieces_of_a_long_argument_are_views_of_it() -> None:
    blob = bytes(1000)

    views = [piece for piece in pieces(["SET", b"k", blob], 300) if isinstance(piece, memoryview)]

    assert [(view.obj is blob, len(view)) for view in views] == [(True, 300), (True, 300), (True, 300), (True, 100)]


def test_a_blob_that_comes_in_chunks_is_put_together() -> None:
    chunks = reply_to("model/get_in_chunks", "AI.MODELGET", "m", "BLOB")

    assert len(chunks) == 3
    assert commands.joined_blob(chunks) == recorded_model("mul.onnx")
    assert commands.joined_blob(b"whole") == b"whole"


def test_the_names_of_models_are_read_with_their_tags() -> None:
    reply = [[b"m1", b"one"], [b"m2", b""]]

    assert commands.scanned_names(reply) == [(b"m1", "one"), (b"m2", "")]
    assert commands.scanned_names(reply_to("model/scan_empty", "AI._MODELSCAN")) == []


def test_a_prediction_is_one_read_only_command() -> None:
    tensor = Tensor.from_array(np.array([[5.9, 3.0]], np.float32))

    command = commands.dag(b"iris", [tensor], outputs=2, fetch=(1,), timeout_ms=50)

    assert command == [
        *("AI.DAGEXECUTE_RO", "ROUTING", b"iris", "TIMEOUT", 50),
        *("|>", "AI.TENSORSET", "i0", "FLOAT", 1, 2, "BLOB", tensor.blob),
        *("|>", "AI.MODELEXECUTE", b"iris", "INPUTS", 1, "i0", "OUTPUTS", 2, "o0", "o1"),
        *("|>", "AI.TENSORGET", "o1", "META", "BLOB"),
    ]


def test_the_last_elements_of_a_reply_are_the_tensors_that_were_asked_for() -> None:
    reply = reply_to("dag/model_tf", "AI.DAGEXECUTE")

    [tensor] = commands.dag_tensors(reply, 1)

    assert tensor.array().tolist() == [[10.0, 40.0]]


def test_text_and_numbers_of_a_reply_keep_dtype_and_shape() -> None:
    label = reply_to("model/execute_string_labels", "AI.TENSORGET", "label", "META", "BLOB")
    probabilities = reply_to("model/execute_iris", "AI.TENSORGET", "prob", "META", "BLOB")

    assert commands.tensor(label).array().tolist() == ["barolo", "grignolino", "barbera"]
    assert commands.tensor(probabilities).shape == (2, 3)


def test_an_error_among_the_elements_is_raised_not_the_na_behind_it() -> None:
    reply = [b"OK", ResponseError("the model failed"), b"NA", b"NA"]

    with pytest.raises(ResponseError, match="the model failed"):
        commands.dag_tensors(reply, 2)


def test_an_error_instead_of_an_array_is_raised() -> None:
    with pytest.raises(ResponseError, match="model key is empty"):
        commands.dag_tensors(ResponseError("model key is empty"), 1)


@pytest.mark.parametrize("reply", [b"TIMEDOUT", [b"OK", b"TIMEDOUT", b"NA"]])
def test_timedout_is_no_answer_though_it_is_no_error_either(reply: Any) -> None:
    with pytest.raises(RunTimedOut):
        commands.dag_tensors(reply, 1)


@pytest.mark.parametrize("reply", [[b"OK", b"OK", b"NA"], [b"OK"], b"OK", None])
def test_a_reply_without_the_tensors_is_no_answer(reply: Any) -> None:
    with pytest.raises(BadReply, match=r"^AI\.DAGEXECUTE_RO answered"):
        commands.dag_tensors(reply, 1)


@pytest.mark.parametrize(
    "reply",
    [[b"dtype", b"FLOAT", b"shape"], [b"dtype", b"FLOAT"], [b"dtype", b"HALF", b"shape", [1], b"blob", b"x"], b"x", 1],
)
def test_something_else_than_a_tensor_is_refused(reply: Any) -> None:
    with pytest.raises(BadReply):
        commands.tensor(reply)


def test_names_that_are_no_utf8_survive() -> None:
    assert commands.raw(commands.text(b"\xff\xfe")) == b"\xff\xfe"
