"""The fast path of predictions answers as the regular path does, and never with a model that the client can't mean."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import numpy as np
import pytest
import redis

from support.connection import connected, encoded
from support.gateway import model_blob
from support.servers import Server
from support.transcripts import recorded_model
from support.waiting import wait_until

Command = list[object]


def blob(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def tensorset(name: str, data: bytes, *shape: int, dtype: str = "FLOAT") -> Command:
    return ["|>", "AI.TENSORSET", name, dtype, *shape, "BLOB", data]


def prediction(key: str, *operations: Command, timeout: int | None = None) -> Command:
    limit = [] if timeout is None else ["TIMEOUT", timeout]
    return ["AI.DAGEXECUTE_RO", "ROUTING", key, *limit, *[word for operation in operations for word in operation]]


def product(key: str, a: bytes, b: bytes) -> Command:
    """Return a * b, computed by mul.onnx."""
    run: Command = ["|>", "AI.MODELEXECUTE", key, "INPUTS", 2, "a", "b", "OUTPUTS", 1, "c"]
    get: Command = ["|>", "AI.TENSORGET", "c", "META", "BLOB"]
    return prediction(key, tensorset("a", a, 1, 2), tensorset("b", b, 1, 2), run, get, timeout=5000)


@pytest.fixture
def client(engine: Server) -> redis.Redis:
    return engine.client(single_connection_client=True)


@pytest.fixture
def key(client: redis.Redis) -> str:
    name = uuid.uuid4().hex
    client.execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", recorded_model("mul.onnx"))
    return name


def ask(client: redis.Redis, command: Command) -> object:
    """Return the reply, with errors as text."""
    try:
        reply = client.execute_command(*command)
    except redis.ResponseError as error:
        return str(error)
    return [str(item) if isinstance(item, Exception) else item for item in reply]


def both_ways(engine: Server, command: Command, warm: Command) -> tuple[object, object]:
    """Return the answers of a new connection, which has no form prepared, and of one that has."""
    used = engine.client(single_connection_client=True)
    for _ in range(3):
        ask(used, warm)
    return ask(engine.client(single_connection_client=True), command), ask(used, command)


def test_other_numbers_give_other_answers(client: redis.Redis, key: str) -> None:
    replies = [ask(client, product(key, blob(i, 2), blob(10, i))) for i in range(5)]

    assert [reply[3][5] for reply in replies] == [blob(10 * i, 2 * i) for i in range(5)]


@pytest.mark.parametrize(
    "data", [blob(1, 2), blob(1), b"", blob(np.nan, np.inf)], ids=["good", "short", "empty", "nan and inf"]
)
def test_a_known_form_answers_as_an_unknown_one(engine: Server, key: str, data: bytes) -> None:
    command = product(key, data, blob(3, 4))

    long, short = both_ways(engine, command, product(key, blob(5, 6), blob(7, 8)))

    assert long == short


def test_a_run_that_fails_answers_alike_both_ways(engine: Server, client: redis.Redis) -> None:
    """One element is the error, and those behind it are NA."""
    name = uuid.uuid4().hex
    client.execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", recorded_model("bad_reshape.onnx"))
    run: Command = ["|>", "AI.MODELEXECUTE", name, "INPUTS", 1, "x", "OUTPUTS", 1, "y"]
    get: Command = ["|>", "AI.TENSORGET", "y", "BLOB", "META"]
    command = prediction(name, tensorset("x", blob(1, 2, 3, 4, 5), 5), run, get)

    long, short = both_ways(engine, command, command)

    assert long == short
    assert short[0] == b"OK"
    assert short[2] == b"NA"


def test_text_goes_in_and_comes_out_both_ways(engine: Server, client: redis.Redis) -> None:
    name = uuid.uuid4().hex
    client.execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", recorded_model("string_identity.onnx"))
    run: Command = ["|>", "AI.MODELEXECUTE", name, "INPUTS", 1, "x", "OUTPUTS", 1, "y"]
    get: Command = ["|>", "AI.TENSORGET", "y", "META", "BLOB"]

    def command(data: bytes) -> Command:
        return prediction(name, tensorset("x", data, 2, dtype="STRING"), run, get)

    for data in (b"a\0\xc3\xb6\0", b"a\0b", b"one\0"):
        long, short = both_ways(engine, command(data), command(b"x\0y\0"))
        assert long == short


def test_an_output_that_is_no_tensor_answers_alike_both_ways(engine: Server, client: redis.Redis) -> None:
    name = uuid.uuid4().hex
    client.execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", recorded_model("iris_zipmap.onnx"))
    run: Command = ["|>", "AI.MODELEXECUTE", name, "INPUTS", 1, "x", "OUTPUTS", 2, "label", "maps"]
    gets: list[Command] = [["|>", "AI.TENSORGET", name, "META", "BLOB"] for name in ("label", "maps")]
    command = prediction(name, tensorset("x", blob(5.1, 3.5, 1.4, 0.2), 1, 4), run, *gets)

    long, short = both_ways(engine, command, command)

    assert long == short


def test_forms_that_differ_in_a_name_are_not_mixed_up(client: redis.Redis, key: str) -> None:
    command = product(key, blob(1, 2), blob(3, 4))
    unknown = [*command[:-3], "d", *command[-2:]]

    answers = [ask(client, command), ask(client, unknown), ask(client, command)]

    assert answers[0] == answers[2]
    assert answers[1] == "INPUT key cannot be found in DAG"


def test_inputs_in_another_order_than_they_were_set(client: redis.Redis) -> None:
    name = uuid.uuid4().hex
    client.execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", model_blob("Sub"))
    sets = [tensorset("subtrahend", blob(2), 1), tensorset("minuend", blob(7), 1)]
    run: Command = ["|>", "AI.MODELEXECUTE", name, "INPUTS", 2, "minuend", "subtrahend", "OUTPUTS", 1, "c"]
    command = prediction(name, *sets, run, ["|>", "AI.TENSORGET", "c", "META", "BLOB"])

    assert [ask(client, command)[3][5] for _ in range(4)] == [blob(5)] * 4


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_requests_in_pieces_of_any_size(engine: Server, key: str, size: int) -> None:
    """Other requests come between the predictions, and some predictions have blobs of another size."""
    requests = [
        encoded(tuple(command))
        for i in range(20)
        for command in (
            product(key, blob(i, 2), blob(10, i)),
            ["ECHO", f"{i}"],
            product(key, blob(i, 2), blob(10, i)),
            product(key, blob(i), blob(10, i)),
        )
    ]
    stream = b"".join(requests)

    with connected(engine) as used, connected(engine) as fresh:
        used.send(*requests)
        used.replies(len(requests))  # from here on the form is known
        for start in range(0, len(stream), size):
            used.send(stream[start : start + size])
        answers = used.replies(len(requests))
        expected = []
        for request in requests:
            fresh.send(request)
            expected.append(fresh.reply())

    assert answers == expected


def test_a_large_answer_is_whole(client: redis.Redis) -> None:
    name = uuid.uuid4().hex
    client.execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", model_blob("Add"))
    numbers = np.arange(300_000, dtype="<f4")
    run: Command = ["|>", "AI.MODELEXECUTE", name, "INPUTS", 2, "a", "b", "OUTPUTS", 1, "c"]
    sets = [tensorset(name, numbers.tobytes(), len(numbers)) for name in "ab"]
    command = prediction(name, *sets, run, ["|>", "AI.TENSORGET", "c", "META", "BLOB"])

    answers = [ask(client, command) for _ in range(4)]

    assert all(answer[3][5] == (2 * numbers).tobytes() for answer in answers)


def test_a_known_form_is_queued_by_multi_and_follows_select(engine: Server, key: str) -> None:
    request = encoded(tuple(product(key, blob(1, 2), blob(3, 4))))
    with connected(engine) as wire:
        for _ in range(4):
            wire.send(request)
            answer = wire.reply()
        wire.send("MULTI", request, "DISCARD", "SELECT 5", request, "SELECT 0", request)
        replies = wire.replies(7)

    assert replies[1] == b"+QUEUED\r\n"
    assert replies[4] != answer
    assert replies[6] == answer


def test_a_prediction_behind_a_read_never_uses_an_older_model(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server]
) -> None:
    """
    Another program replaces the model straight in Redis, again and again.

    A prediction behind a read, in one pipeline, uses the model that Redis holds by then.
    """
    server = new_redis()
    client = new_engine("--redis", server.url).client(single_connection_client=True)
    direct = server.client()
    dumps = []
    for name in ("mul.onnx", "two_outputs.onnx"):
        client.execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", recorded_model(name))
        dumps.append(direct.dump("m"))
    questions = [
        product("m", blob(2, 2), blob(3, 3)),
        prediction(
            "m",
            tensorset("a", blob(2, 2), 1, 2),
            ["|>", "AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 2, "c", "d"],
            ["|>", "AI.TENSORGET", "c", "BLOB"],
        ),
    ]

    stale = 0
    for version in range(200):
        direct.pipeline(transaction=True).restore("m", 0, dumps[version % 2], replace=True).execute()
        pipeline = client.pipeline(transaction=False)
        pipeline.get("other")
        pipeline.execute_command(*questions[version % 2])
        answer = pipeline.execute(raise_on_error=False)[1]
        stale += isinstance(answer, Exception)

    assert stale == 0


def test_a_model_that_was_deleted_elsewhere_is_gone_within_a_moment(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server]
) -> None:
    server = new_redis()
    client = new_engine("--redis", server.url).client(single_connection_client=True)
    client.execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", recorded_model("mul.onnx"))
    command = product("m", blob(1, 2), blob(3, 4))
    for _ in range(5):
        ask(client, command)

    server.client().delete("m")

    wait_until(lambda: ask(client, command) == "model key is empty", timeout_s=2, what="the end of the model")
