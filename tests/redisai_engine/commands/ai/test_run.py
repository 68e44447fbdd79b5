"""AI.MODELEXECUTE and AI.MODELRUN: what they read before they run, what they leave behind, and in which order."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from support.connection import Connect, Connection
from support.gateway import Pair, model_blob, run_count, store_onnx
from support.replies import OK, TIMEDOUT, WRONGTYPE, bulk, bulks, error, integer, tensor
from support.tiny_models import product_and_sum
from support.transcripts import recorded_model
from support.waiting import wait_until

MODEL_MISSING = error("ERR model key is empty")
TENSOR_MISSING = error("ERR tensor key is empty or in a different shard")
INPUTS_MISMATCH = error("Number of keys given as INPUTS here does not match model definition")
OUTPUTS_MISMATCH = error("Number of keys given as OUTPUTS here does not match model definition")


def set_floats(wire: Connection, key: str, *values: float) -> None:
    assert wire.ask("AI.TENSORSET", key, "FLOAT", len(values), "VALUES", *map(str, values)) == OK


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


@pytest.fixture
def add(wire: Connection, key: str) -> str:
    """A model that adds two vectors, and the vectors KEY:a and KEY:b."""
    store_onnx(wire, key, model_blob("Add"))
    set_floats(wire, f"{key}:a", 1, 2)
    set_floats(wire, f"{key}:b", 10, 20)
    return key


# -- running --------------------------------------------------------------------------------------


def test_every_output_goes_to_its_key_in_the_models_order(wire: Connection, key: str):
    store_onnx(wire, key, product_and_sum("ONNX").blob)
    for name, blob in (("a", floats(2, 3)), ("b", floats(4, 5))):
        wire.ask("AI.TENSORSET", f"{key}:{name}", "FLOAT", 1, 2, "BLOB", blob)

    reply = wire.ask(f"AI.MODELEXECUTE {key} INPUTS 2 {key}:a {key}:b OUTPUTS 2 {key}:p {key}:s")

    assert reply == OK
    assert wire.ask(f"AI.TENSORGET {key}:p") == tensor("FLOAT", (1, 2), floats(8, 15))
    assert wire.ask(f"AI.TENSORGET {key}:s") == tensor("FLOAT", (1, 2), floats(6, 8))


def test_the_deprecated_form_does_the_same(wire: Connection, add: str):
    assert wire.ask(f"ai.modelrun {add} timeout 5000 inputs {add}:a {add}:b outputs {add}:c") == OK

    assert wire.ask(f"AI.TENSORGET {add}:c") == tensor("FLOAT", (2,), floats(11, 22))


def test_an_output_may_have_the_key_of_an_input(wire: Connection, add: str):
    for expected in ((11, 22), (21, 42)):
        assert wire.ask(f"AI.MODELEXECUTE {add} INPUTS 2 {add}:a {add}:b OUTPUTS 1 {add}:a") == OK
        assert wire.ask(f"AI.TENSORGET {add}:a BLOB") == bulk(floats(*expected))


def test_of_two_outputs_to_one_key_the_last_stays(wire: Connection, key: str):
    store_onnx(wire, key, product_and_sum("ONNX").blob)
    wire.ask(f"AI.TENSORSET {key}:a FLOAT 1 1 VALUES 3")

    assert wire.ask(f"AI.MODELEXECUTE {key} INPUTS 2 {key}:a {key}:a OUTPUTS 2 {key}:y {key}:y") == OK

    assert wire.ask(f"AI.TENSORGET {key}:y VALUES") == bulks("6")


def test_an_output_takes_the_place_of_a_tensor_of_another_kind_and_its_time_to_live(wire: Connection, add: str):
    wire.ask(f"AI.TENSORSET {add}:c INT8 3 VALUES 1 2 3")
    wire.ask(f"EXPIRE {add}:c 100")

    assert wire.ask(f"AI.MODELEXECUTE {add} INPUTS 2 {add}:a {add}:b OUTPUTS 1 {add}:c") == OK

    assert wire.ask(f"AI.TENSORGET {add}:c") == tensor("FLOAT", (2,), floats(11, 22))
    assert wire.ask(f"TTL {add}:c") == integer(-1)


def test_keys_may_be_named_like_keywords(wire: Connection, add: str):
    """The counts say which words are keys. The deprecated form has none, so it can't have such keys."""
    for name in ("OUTPUTS", "TIMEOUT"):
        set_floats(wire, name, 3)
    try:
        assert wire.ask(f"AI.MODELEXECUTE {add} INPUTS 2 OUTPUTS TIMEOUT OUTPUTS 1 INPUTS TIMEOUT 5000") == OK
        assert wire.ask("AI.TENSORGET INPUTS VALUES") == bulks("6")
        assert wire.ask(f"AI.MODELRUN {add} INPUTS OUTPUTS TIMEOUT OUTPUTS INPUTS") == INPUTS_MISMATCH
    finally:
        wire.ask("DEL INPUTS OUTPUTS TIMEOUT")


def test_keys_may_have_any_bytes(wire: Connection, key: str):
    model, a, c = (f"{key}:".encode() + bytes(each) for each in ([0, 255], b"\r\n", [32]))
    wire.ask("AI.MODELSTORE", model, "ONNX", "CPU", "BLOB", model_blob("Add"))
    wire.ask("AI.TENSORSET", a, "FLOAT", 1, "VALUES", "2")

    assert wire.ask("AI.MODELEXECUTE", model, "INPUTS", 2, a, a, "OUTPUTS", 1, c) == OK

    assert wire.ask("AI.TENSORGET", c, "VALUES") == bulks("4")


def test_large_tensors_pass_through(wire: Connection, add: str):
    numbers = np.arange(1_000_000, dtype="<f4")
    wire.ask("AI.TENSORSET", f"{add}:a", "FLOAT", len(numbers), "BLOB", numbers.tobytes())

    assert wire.ask(f"AI.MODELEXECUTE {add} INPUTS 2 {add}:a {add}:a OUTPUTS 1 {add}:c") == OK

    assert wire.ask(f"AI.TENSORGET {add}:c BLOB") == bulk((2 * numbers).tobytes())


def test_runs_in_a_pipeline_see_what_those_before_them_wrote(wire: Connection, add: str):
    wire.send(
        *[f"AI.MODELEXECUTE {add} INPUTS 2 {add}:a {add}:b OUTPUTS 1 {add}:a"] * 20, f"AI.TENSORGET {add}:a VALUES"
    )

    assert wire.replies(21) == [*[OK] * 20, bulks("201", "402")]


# -- outputs that are no tensors --------------------------------------------------------------------


def test_an_output_that_is_no_tensor_is_left_out(wire: Connection, key: str):
    """As RedisAI does, without a word; what the key held stays."""
    store_onnx(wire, key, recorded_model("iris_zipmap.onnx"))
    wire.ask(f"AI.TENSORSET {key}:x FLOAT 1 4 VALUES 5.1 3.5 1.4 0.2")
    set_floats(wire, f"{key}:old", 7)

    run = f"AI.MODELEXECUTE {key} INPUTS 1 {key}:x OUTPUTS 2 {key}:label"
    replies = [wire.ask(f"{run} {key}:maps"), wire.ask(f"{run} {key}:old")]

    assert replies == [OK, OK]
    assert wire.ask(f"AI.TENSORGET {key}:label") == tensor("INT64", (1,), bytes(8))
    assert wire.ask(f"EXISTS {key}:maps") == integer(0)
    assert wire.ask(f"AI.TENSORGET {key}:old VALUES") == bulks("7")


# -- the first error is told ----------------------------------------------------------------------


def test_mending_one_error_after_the_other_shows_them_in_redisais_order(wire: Connection, add: str):
    """Each line mends what the one before it was told: the model, then the words, then the keys, inputs first."""
    a, none = f"{add}:a", f"{add}:none"
    steps = [
        (f"{none} x y", error("ERR wrong number of arguments for 'AI.MODELEXECUTE' command")),
        (f"{none} x y 1 {none} z 9", MODEL_MISSING),
        (f"{add} x y 1 {none} z 9", error("ERR INPUTS not specified")),
        (f"{add} INPUTS y {none} z 9 x", error("ERR Invalid argument for input_count")),
        (f"{add} INPUTS 0 {none} z 9 x", error("ERR Input count must be a positive integer")),
        (f"{add} INPUTS 1 {none} z 9 x", INPUTS_MISMATCH),
        (f"{add} INPUTS 2 {none} {none} z 9 x", error("ERR OUTPUTS not specified")),
        (f"{add} INPUTS 2 {none} {none} OUTPUTS x x", error("ERR Invalid argument for output_count")),
        (f"{add} INPUTS 2 {none} {none} OUTPUTS -1 x", error("ERR Output count must be a positive integer")),
        (f"{add} INPUTS 2 {none} {none} OUTPUTS 2 {add} x", OUTPUTS_MISMATCH),
        (f"{add} INPUTS 2 {none} {none} OUTPUTS 1 {add} TIMEOUT", error("ERR No value provided for TIMEOUT")),
        (f"{add} INPUTS 2 {none} {none} OUTPUTS 1 {add} TIMEOUT 0", error("ERR Invalid value for TIMEOUT")),
        (f"{add} INPUTS 2 {none} {none} OUTPUTS 1 {add} TIMEOUT 9 x", error("Invalid argument: x")),
        (f"{add} INPUTS 2 {none} {none} OUTPUTS 1 {add} x", error("Invalid argument: x")),
        (f"{add} INPUTS 2 {add} {none} OUTPUTS 1 {add}", WRONGTYPE),
        (f"{add} INPUTS 2 {a} {none} OUTPUTS 1 {add}", TENSOR_MISSING),
        (f"{add} INPUTS 2 {a} {a} OUTPUTS 1 {add}", WRONGTYPE),
    ]

    assert [wire.ask(f"AI.MODELEXECUTE {words}") for words, _ in steps] == [told for _, told in steps]
    assert run_count(wire, add) == 0


def test_the_deprecated_form_has_its_own_order(wire: Connection, add: str):
    none = f"{add}:none"
    steps = [
        (f"{none} x y", error("ERR wrong number of arguments for 'AI.MODELRUN' command")),
        (f"{none} TIMEOUT x INPUTS a", MODEL_MISSING),
        (f"{add} TIMEOUT x INPUTS a OUTPUTS", error("ERR Invalid value for TIMEOUT")),
        (f"{add} TIMEOUT 9 a OUTPUTS b", error("ERR INPUTS not specified")),
        (f"{add} INPUTS {none} OUTPUTS b c", INPUTS_MISMATCH),
        (f"{add} INPUTS {none} b OUTPUTS", OUTPUTS_MISMATCH),
        (f"{add} INPUTS {none} b OUTPUTS c TIMEOUT 9", OUTPUTS_MISMATCH),
        (f"{add} INPUTS {none} b OUTPUTS {add}", TENSOR_MISSING),
    ]

    assert [wire.ask(f"AI.MODELRUN {words}") for words, _ in steps] == [told for _, told in steps]
    assert run_count(wire, add) == 0


@pytest.mark.parametrize("held", ["SET {} text", "HSET {} f v", "RPUSH {} x", "AI.TENSORSET {} FLOAT 1"])
@pytest.mark.parametrize("name", ["AI.MODELEXECUTE", "AI.MODELRUN"])
def test_a_key_that_is_no_model_is_told_before_anything_else(wire: Connection, key: str, name: str, held: str):
    wire.ask(held.format(key))

    assert wire.ask(f"{name} {key} and then six words of no sense") == WRONGTYPE


@pytest.mark.parametrize("held", ["SET {} text", "HSET {} f v", "RPUSH {} x"])
def test_an_output_key_of_another_kind_is_refused_before_the_model_runs(wire: Connection, add: str, held: str):
    wire.ask(held.format(f"{add}:c"))
    before = wire.ask(f"DUMP {add}:c")

    assert wire.ask(f"AI.MODELEXECUTE {add} INPUTS 2 {add}:a {add}:b OUTPUTS 1 {add}:c") == WRONGTYPE

    assert wire.ask(f"DUMP {add}:c") == before
    assert run_count(wire, add) == 0


def test_a_second_output_key_of_another_kind_keeps_the_first_from_being_written(wire: Connection, key: str):
    store_onnx(wire, key, product_and_sum("ONNX").blob)
    wire.ask(f"AI.TENSORSET {key}:a FLOAT 1 1 VALUES 3")
    wire.ask(f"SET {key}:s text")

    reply = wire.ask(f"AI.MODELEXECUTE {key} INPUTS 2 {key}:a {key}:a OUTPUTS 2 {key}:p {key}:s")

    assert reply == WRONGTYPE
    assert wire.ask(f"EXISTS {key}:p") == integer(0)


def test_a_run_that_fails_has_the_runtimes_text_and_writes_nothing(wire: Connection, add: str):
    set_floats(wire, f"{add}:b", 1, 2, 3)
    set_floats(wire, f"{add}:c", 7)

    reply = wire.ask(f"AI.MODELEXECUTE {add} INPUTS 2 {add}:a {add}:b OUTPUTS 1 {add}:c")

    assert reply.startswith(b"-")
    assert b"Add" in reply
    assert reply.count(b"\r\n") == 1
    assert wire.ask(f"AI.TENSORGET {add}:c VALUES") == bulks("7")
    assert bulk("errors") + integer(1) in wire.ask(f"AI.INFO {add}")


def test_a_tensor_of_another_dtype_is_the_models_own_error(wire: Connection, add: str):
    wire.ask(f"AI.TENSORSET {add}:b STRING 2 VALUES x y")

    reply = wire.ask(f"AI.MODELEXECUTE {add} INPUTS 2 {add}:a {add}:b OUTPUTS 1 {add}:c")

    assert reply.startswith(b"-Unexpected input data type. Actual: (tensor(string)) , expected: (tensor(float))")


# -- time and versions ------------------------------------------------------------------------------


@pytest.fixture
def waiting(pair: Pair, connect: Connect) -> Connection:
    """A second connection to the engine."""
    return connect(pair.engine)


@pytest.mark.parametrize(
    "words",
    [
        "MODELEXECUTE {0} INPUTS 2 {0}:a {0}:b OUTPUTS 1 {0}:c TIMEOUT 1",
        "MODELRUN {0} TIMEOUT 1 INPUTS {0}:a {0}:b OUTPUTS {0}:c",
    ],
)
def test_a_run_that_waits_too_long_times_out_and_writes_nothing(
    wire: Connection, add: str, busy: Callable[[], Connection], words: str
):
    slow = busy()

    def times_out() -> bool:
        wire.ask(f"DEL {add}:c")
        return wire.ask(f"AI.{words.format(add)}") == TIMEDOUT

    wait_until(times_out, timeout_s=8, what="a run behind the slow one")  # which may not have begun yet

    assert wire.ask(f"EXISTS {add}:c") == integer(0)
    assert slow.reply() == OK


def test_a_time_limit_that_is_long_enough_changes_nothing(wire: Connection, add: str):
    assert wire.ask(f"AI.MODELEXECUTE {add} INPUTS 2 {add}:a {add}:b OUTPUTS 1 {add}:c TIMEOUT {2**62}") == OK


def test_a_run_reads_its_inputs_when_it_comes_not_when_it_begins(
    wire: Connection, waiting: Connection, direct: Connection, add: str, busy: Callable[[], Connection]
):
    """What others write while it waits for the device is of no concern; the model may be gone, too."""

    def reads() -> int:
        return int(re.findall(rb"cmdstat_get:calls=(\d+)", direct.ask("INFO commandstats"))[0])

    direct.ask(f"GET {add}")  # so that there is a figure
    before = reads()
    slow = busy()
    wait_until(lambda: reads() == before + 2, what="the slow one's inputs are read")
    waiting.send(f"AI.MODELEXECUTE {add} INPUTS 2 {add}:a {add}:b OUTPUTS 1 {add}:c", "PING")
    wait_until(lambda: reads() == before + 4, what="the waiting one's inputs are read")

    set_floats(wire, f"{add}:a", 500, 500)
    assert wire.ask(f"AI.MODELDEL {add}") == OK

    assert waiting.replies(2) == [OK, b"+PONG\r\n"]
    assert wire.ask(f"AI.TENSORGET {add}:c BLOB") == bulk(floats(11, 22))
    assert slow.reply() == OK


def test_the_model_is_the_one_that_the_key_holds_now(wire: Connection, add: str):
    run = f"AI.MODELEXECUTE {add} INPUTS 2 {add}:a {add}:b OUTPUTS 1 {add}:c"
    wire.ask(run)

    store_onnx(wire, add, model_blob("Mul"))
    assert wire.ask(run) == OK
    assert wire.ask(f"AI.TENSORGET {add}:c BLOB") == bulk(floats(10, 40))

    wire.ask(f"RENAME {add} {add}:moved")
    assert wire.ask(run) == MODEL_MISSING
    assert wire.ask(run.replace(add, f"{add}:moved", 1)) == OK
