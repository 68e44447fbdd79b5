"""
DAGs: what names mean, what runs after a failure, what is persisted, and which error comes first.

Random DAGs are asked in `test_dag_meaning.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from support.connection import Connection
from support.gateway import Pair, model_blob, run_count, store_onnx
from support.replies import NA, OK, TIMEDOUT, WRONGTYPE, array, bulks, error, integer, tensor
from support.tiny_models import product_and_sum
from support.transcripts import recorded_model
from support.waiting import wait_until


def row(*values: float) -> bytes:
    """What AI.TENSORGET answers for a row of FLOATs."""
    return tensor("FLOAT", (1, len(values)), np.array(values, "<f4").tobytes())


@pytest.fixture(scope="session")
def model(pair: Pair) -> Iterator[str]:
    """A model with two inputs of the same number of columns, and their product and sum as outputs."""
    key = "dag:product-and-sum"
    client = pair.engine.client()
    client.execute_command("AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    yield key
    client.delete(key)


@pytest.fixture
def add(wire: Connection, key: str) -> str:
    """A model of this test alone, which adds two vectors."""
    store_onnx(wire, key, model_blob("Add"))
    return key


# -- names ------------------------------------------------------------------------------------------


def test_a_name_means_what_was_given_last_before_it_is_read(wire: Connection, model: str):
    reply = wire.ask(
        f"AI.DAGEXECUTE ROUTING {model}"
        " |> AI.TENSORSET a FLOAT 1 1 VALUES 2 |> AI.TENSORGET a"
        f" |> AI.MODELEXECUTE {model} INPUTS 2 a a OUTPUTS 2 p a |> AI.TENSORGET a"
        f" |> AI.TENSORSET a FLOAT 1 1 VALUES 5 |> AI.MODELEXECUTE {model} INPUTS 2 a p OUTPUTS 2 a p"
        " |> AI.TENSORGET a |> AI.TENSORGET p"
    )

    assert reply == array([OK, row(2), OK, row(4), OK, OK, row(20), row(9)])


def test_two_outputs_of_one_name_are_the_second_one(wire: Connection, model: str):
    reply = wire.ask(
        f"AI.DAGEXECUTE ROUTING {model} |> AI.TENSORSET a FLOAT 1 1 VALUES 3"
        f" |> AI.MODELEXECUTE {model} INPUTS 2 a a OUTPUTS 2 y y |> AI.TENSORGET y"
    )

    assert reply == array([OK, OK, row(6)])


def test_both_outputs_of_a_model_go_on_into_others(wire: Connection, model: str):
    reply = wire.ask(
        f"AI.DAGEXECUTE_RO ROUTING {model} |> AI.TENSORSET a FLOAT 1 1 VALUES 2 |> AI.TENSORSET b FLOAT 1 1 VALUES 3"
        f" |> AI.MODELEXECUTE {model} INPUTS 2 a b OUTPUTS 2 p s"
        f" |> AI.MODELEXECUTE {model} INPUTS 2 p s OUTPUTS 2 pp ss"
        f" |> AI.MODELEXECUTE {model} INPUTS 2 s p OUTPUTS 2 x y"
        " |> AI.TENSORGET pp |> AI.TENSORGET ss |> AI.TENSORGET x |> AI.TENSORGET y"
    )

    assert reply == array([OK, OK, OK, OK, OK, row(30), row(11), row(30), row(11)])


def test_a_name_has_nothing_to_do_with_the_key_of_that_name(wire: Connection, key: str):
    """Neither is the key read unless LOAD says so, nor is it written unless PERSIST says so."""
    wire.ask(f"AI.TENSORSET {key} INT8 1 VALUES 7")

    assert wire.ask(f"AI.DAGEXECUTE ROUTING {key} |> AI.TENSORGET {key} VALUES") == error(
        "ERR INPUT key cannot be found in DAG"
    )
    reply = wire.ask(f"AI.DAGEXECUTE LOAD 1 {key} |> AI.TENSORSET {key} INT8 1 VALUES 8 |> AI.TENSORGET {key} VALUES")

    assert reply == array([OK, array([integer(8)])])
    assert wire.ask(f"AI.TENSORGET {key} VALUES") == array([integer(7)])


def test_names_may_have_any_bytes_and_be_named_like_keywords(wire: Connection, add: str):
    names = (b"\xff\0", b"OUTPUTS")
    sets = [("|>", "AI.TENSORSET", name, "FLOAT", 1, "VALUES", 1) for name in names]
    run = ("|>", "AI.MODELEXECUTE", add, "INPUTS", 2, *names, "OUTPUTS", 1, b"TIMEOUT")

    reply = wire.ask(
        *("AI.DAGEXECUTE", "ROUTING", add, *sets[0], *sets[1], *run, "|>", "AI.TENSORGET", "TIMEOUT", "VALUES")
    )

    assert reply == array([OK, OK, OK, bulks("2")])


def test_the_route_may_lead_to_a_key_that_is_not_there(wire: Connection, key: str):
    assert wire.ask(f"AI.DAGEXECUTE ROUTING {key} |> AI.TENSORSET a INT8 1") == array([OK])
    assert wire.ask(f"AI.DAGEXECUTE_RO ROUTING {key} |> AI.TENSORSET a INT8 1") == array([OK])
    assert wire.ask(f"EXISTS {key}") == integer(0)


def test_a_thousand_operations(wire: Connection, model: str):
    chain = f" |> AI.MODELEXECUTE {model} INPUTS 2 a one OUTPUTS 2 p a" * 1000

    reply = wire.ask(
        f"AI.DAGEXECUTE ROUTING {model} |> AI.TENSORSET a FLOAT 1 1 VALUES 0 |> AI.TENSORSET one FLOAT 1 1 VALUES 1"
        f"{chain} |> AI.TENSORGET a"
    )

    assert reply == array([*[OK] * 1002, row(1000)])


# -- persisting ---------------------------------------------------------------------------------------


def test_what_is_persisted_takes_the_place_of_any_tensor_and_its_time_to_live(wire: Connection, key: str):
    wire.ask(f"AI.TENSORSET {key} INT8 3 VALUES 1 2 3")
    wire.ask(f"EXPIRE {key} 100")

    reply = wire.ask(f"AI.DAGEXECUTE PERSIST 1 {key} |> AI.TENSORSET {key} FLOAT 1 1 VALUES 5")

    assert reply == array([OK])
    assert wire.ask(f"AI.TENSORGET {key}") == row(5)
    assert wire.ask(f"TTL {key}") == integer(-1)


@pytest.mark.parametrize("held", ["SET {} text", "HSET {} f v", "RPUSH {} x"])
def test_where_one_key_can_not_take_a_tensor_nothing_is_persisted(wire: Connection, key: str, held: str):
    """The operations' answers stand; the error is one more element."""
    wire.ask(held.format(f"{key}:foreign"))
    before = wire.ask(f"DUMP {key}:foreign")

    reply = wire.ask(
        f"AI.DAGEXECUTE PERSIST 3 {key}:x {key}:foreign {key}:y"
        f" |> AI.TENSORSET {key}:x INT8 1 |> AI.TENSORSET {key}:foreign INT8 1 |> AI.TENSORSET {key}:y INT8 1 VALUES 2"
        f" |> AI.TENSORGET {key}:y VALUES"
    )

    assert reply == array([OK, OK, OK, array([integer(2)]), WRONGTYPE])
    assert wire.ask(f"EXISTS {key}:x {key}:y") == integer(0)
    assert wire.ask(f"DUMP {key}:foreign") == before


def test_a_model_that_is_run_can_not_be_persisted_over(wire: Connection, add: str):
    reply = wire.ask(
        f"AI.DAGEXECUTE PERSIST 1 {add} |> AI.TENSORSET {add} FLOAT 1 VALUES 1"
        f" |> AI.MODELEXECUTE {add} INPUTS 2 {add} {add} OUTPUTS 1 y |> AI.TENSORGET y VALUES"
    )

    assert reply == array([OK, OK, bulks("2"), WRONGTYPE])
    assert wire.ask(f"TYPE {add}") == b"+AI__MODEL\r\n"


def test_after_a_failure_nothing_is_persisted_though_it_is_there(wire: Connection, model: str, key: str):
    reply = wire.ask(
        f"AI.DAGEXECUTE PERSIST 1 {key} |> AI.TENSORSET {key} FLOAT 1 2 |> AI.TENSORSET b FLOAT 1 3"
        f" |> AI.MODELEXECUTE {model} INPUTS 2 {key} b OUTPUTS 2 p s |> AI.TENSORGET {key} VALUES"
    )

    assert reply.startswith(b"*4\r\n" + OK + OK + b"-")
    assert reply.endswith(bulks("0", "0"))
    assert wire.ask(f"EXISTS {key}") == integer(0)


def test_what_was_loaded_can_be_persisted_as_it_is(wire: Connection, direct: Connection, key: str):
    wire.ask(f"AI.TENSORSET {key} INT8 1 VALUES 7")
    before = direct.ask(f"GET {key}")

    assert wire.ask(f"AI.DAGEXECUTE LOAD 1 {key} PERSIST 1 {key} |> AI.TENSORGET {key} META") != WRONGTYPE

    assert direct.ask(f"GET {key}") == before


# -- outputs that are no tensors ----------------------------------------------------------------------


@pytest.fixture
def zipmap(wire: Connection, key: str) -> str:
    """A classifier, whose second output is no tensor, and a row for it under KEY:x."""
    store_onnx(wire, key, recorded_model("iris_zipmap.onnx"))
    wire.ask(f"AI.TENSORSET {key}:x FLOAT 1 4 VALUES 5.1 3.5 1.4 0.2")
    return key


def test_an_output_that_is_no_tensor_is_na_and_so_is_what_needs_it(wire: Connection, zipmap: str):
    reply = wire.ask(
        f"AI.DAGEXECUTE LOAD 1 {zipmap}:x |> AI.MODELEXECUTE {zipmap} INPUTS 1 {zipmap}:x OUTPUTS 2 label maps"
        f" |> AI.TENSORGET maps |> AI.MODELEXECUTE {zipmap} INPUTS 1 maps OUTPUTS 2 x y |> AI.TENSORGET label"
    )

    assert reply == array([OK, NA, NA, tensor("INT64", (1,), bytes(8))])


def test_of_the_outputs_that_are_persisted_the_tensors_are(wire: Connection, zipmap: str):
    run = f"|> AI.MODELEXECUTE {zipmap} INPUTS 1 {zipmap}:x OUTPUTS 2 {zipmap}:label {zipmap}:maps"

    reply = wire.ask(f"AI.DAGEXECUTE LOAD 1 {zipmap}:x PERSIST 2 {zipmap}:label {zipmap}:maps {run}")

    assert reply == array([OK])
    assert wire.ask(f"AI.TENSORGET {zipmap}:label") == tensor("INT64", (1,), bytes(8))
    assert wire.ask(f"EXISTS {zipmap}:maps") == integer(0)


def test_one_that_is_asked_for_and_is_no_tensor_keeps_all_from_being_persisted(wire: Connection, zipmap: str):
    """Its NA counts as a failure."""
    run = f"|> AI.MODELEXECUTE {zipmap} INPUTS 1 {zipmap}:x OUTPUTS 2 {zipmap}:label maps |> AI.TENSORGET maps"

    assert wire.ask(f"AI.DAGEXECUTE LOAD 1 {zipmap}:x PERSIST 1 {zipmap}:label {run}") == array([OK, NA])
    assert wire.ask(f"EXISTS {zipmap}:label") == integer(0)


# -- the first error is told ----------------------------------------------------------------------------

NO_INPUT = "ERR INPUT key cannot be found in DAG"
NO_TENSOR = "ERR tensor key is empty or in a different shard"
NO_COUNT = "ERR invalid or negative value found in number of keys to"
TOO_FEW = "does not match the number of given arguments"
UNEXPECTED = "ERR Invalid DAG command. Unexpected argument: "
ARITY = "wrong number of arguments for '{}' command"
MISMATCH = "Number of keys given as {} here does not match model definition"
TIMEOUT_INSIDE = "ERR TIMEOUT not allowed within a DAG command"
WRONG_KIND = "WRONGTYPE Operation against a key holding the wrong kind of value"

ERRORS = {
    # The scopes, from left to right. LOAD reads its keys at once, before what is behind it is looked at.
    "LOAD x {none} |> AI.NONE": f"{NO_COUNT} LOAD",
    "LOAD 0 {none} |> AI.NONE x": f"{NO_COUNT} LOAD",
    "LOAD 99 {t} {t} {t}": f"ERR number of keys to LOAD into DAG {TOO_FEW}",
    "LOAD 99 {none} PERSIST x |> x": NO_TENSOR,
    "LOAD 99 {t} {text} PERSIST x |> x": WRONG_KIND,
    "LOAD 1 {none} PERSIST x |> AI.NONE": NO_TENSOR,
    "LOAD 1 {none} TIMEOUT x |> AI.NONE": NO_TENSOR,
    "LOAD 2 {none} {text} |> AI.NONE x": NO_TENSOR,
    "LOAD 2 {text} {none} |> AI.NONE x": WRONG_KIND,
    "LOAD 1 {none} no separator at all": NO_TENSOR,
    "PERSIST x LOAD 1 {none} |> AI.NONE": f"{NO_COUNT} PERSIST",
    "PERSIST 2 x x LOAD 1 {none} |> x": "ERR PERSIST keys must be unique",
    "PERSIST 99 x LOAD 1 {none} |> x": "ERR PERSIST keys must be unique",  # the x at the end, too
    "PERSIST 99 x LOAD 1 {none} |> y": f"ERR number of keys to PERSIST after DAG execution {TOO_FEW}",
    "TIMEOUT x LOAD 1 {none} |> AI.NONE": "ERR Invalid value for TIMEOUT",
    "LOAD 1 {t} LOAD 1 {none} |> AI.NONE": f"{UNEXPECTED} LOAD",
    "LOAD 1 {t} PERSIST 1 x PERSIST 1 y |> x": f"{UNEXPECTED} PERSIST",
    "ROUTING a TIMEOUT 1 TIMEOUT 1 |> x": f"{UNEXPECTED} TIMEOUT",
    "LOAD 1 {t} PERSIST 1 {none} ROUTING": "ERR Missing ROUTING value",
    "LOAD 1 {t} PERSIST 1 {none} TIMEOUT": "ERR No value provided for TIMEOUT",
    "LOAD 1 {t} PERSIST 1 {none}": "ERR DAG is empty",
    "LOAD 1 {t} PERSIST 1 {none} |>": f"{UNEXPECTED} |>",
    "TIMEOUT 5 |> AI.TENSORSET x INT8": (
        "ERR AI.DAGEXECUTE and AI.DAGEXECUTE_RO commands must contain at least one out of ROUTING, LOAD, PERSIST"
        " keywords"
    ),
    # The operations, from left to right; a name that can't be persisted comes last of all.
    "PERSIST 1 {none} |> AI.NONE x |> |>": f"{UNEXPECTED} |>",
    "PERSIST 1 {none} |> AI.NONE x y": "Unsupported command within DAG",
    "PERSIST 1 {none} |> |> AI.TENSORSET": "Unsupported command within DAG",
    "PERSIST 1 {none} |> AI.TENSORSET x": ARITY.format("AI.TENSORSET"),
    "PERSIST 1 {none} |> ai.tensorget x META BLOB x": ARITY.format("AI.TENSORGET"),
    "PERSIST 1 {none} |> AI.TENSORSET x HALF 1 |> AI.NONE": "ERR invalid data type",
    "PERSIST 1 {none} |> AI.TENSORGET x FORM": "ERR unsupported data format",
    "LOAD 1 {t} PERSIST 1 {none} |> AI.TENSORGET {t} FORM": "ERR unsupported data format",
    "PERSIST 1 {none} |> AI.TENSORGET x |> AI.TENSORSET x INT8 1": NO_INPUT,
    "PERSIST 1 {none} |> AI.TENSORSET x INT8 1": "ERR PERSIST key cannot be found in DAG",
    # A model: the number of words, the key, the words' sense, then the names.
    "PERSIST 1 {none} |> AI.MODELEXECUTE {none} INPUTS 9": f"ERR {ARITY.format('AI.MODELEXECUTE')}",
    "PERSIST 1 {none} |> AI.MODELEXECUTE {none} INPUTS 9 x x x x": "ERR model key is empty",
    "PERSIST 1 {none} |> AI.MODELEXECUTE {text} INPUTS 9 x x x x": WRONG_KIND,
    "PERSIST 1 {none} |> AI.MODELEXECUTE {m} x 9 x x x x": "ERR INPUTS not specified",
    "PERSIST 1 {none} |> AI.MODELEXECUTE {m} INPUTS 9 x x x x": MISMATCH.format("INPUTS"),
    "PERSIST 1 {none} |> AI.MODELEXECUTE {m} INPUTS 2 x y OUTPUTS 2 z z": MISMATCH.format("OUTPUTS"),
    "ROUTING x |> AI.MODELEXECUTE {m} INPUTS 2 x y OUTPUTS 1 z TIMEOUT 5": TIMEOUT_INSIDE,
    "ROUTING x |> AI.MODELEXECUTE {m} INPUTS 2 x y OUTPUTS 1 z TIMEOUT x": "ERR Invalid value for TIMEOUT",
    "ROUTING x |> AI.MODELEXECUTE {m} INPUTS 2 {t} y OUTPUTS 1 z |> AI.NONE": "Unsupported command within DAG",
    "LOAD 1 {t} |> AI.MODELEXECUTE {m} INPUTS 2 {t} {t} OUTPUTS 1 z |> x": "Unsupported command within DAG",
    "LOAD 1 {t} |> AI.MODELRUN {none} INPUTS {t} {t} OUTPUTS z": (
        "Deprecated AI.MODELRUN cannot be used in AI.DAGEXECUTE command"
    ),
}


@pytest.mark.parametrize(("words", "text"), ERRORS.items(), ids=ERRORS)
def test_the_first_error_is_told_and_nothing_is_run(wire: Connection, add: str, words: str, text: str):
    wire.ask(f"AI.TENSORSET {add}:t FLOAT 1 VALUES 1")
    wire.ask(f"SET {add}:text text")
    names = {"m": add, "t": f"{add}:t", "text": f"{add}:text", "none": f"{add}:none"}

    assert wire.ask(f"AI.DAGEXECUTE {words.format(**names)}") == error(text)
    assert run_count(wire, add) == 0
    assert wire.ask(f"EXISTS {add}:none") == integer(0)


DEPRECATED_ERRORS = {
    "AI.MODELEXECUTE {} INPUTS 2 a b OUTPUTS 1 c": "AI.MODELEXECUTE cannot be used in a deprecated AI.DAGRUN command",
    "AI.SCRIPTEXECUTE {} f INPUTS 1 a": "AI.SCRIPTEXECUTE cannot be used in a deprecated AI.DAGRUN command",
    "AI.MODELRUN {} INPUTS a": f"ERR {ARITY.format('AI.MODELRUN')}",
    "AI.MODELRUN {}:none INPUTS a OUTPUTS b": "ERR model key is empty",
    "AI.MODELRUN {} INPUTS a OUTPUTS b": MISMATCH.format("INPUTS"),
    "AI.MODELRUN {} INPUTS a b OUTPUTS c d": MISMATCH.format("OUTPUTS"),
    "AI.MODELRUN {} TIMEOUT 5 INPUTS a b OUTPUTS c": TIMEOUT_INSIDE,
    "AI.MODELRUN {} INPUTS a b OUTPUTS c": NO_INPUT,
}


@pytest.mark.parametrize(("words", "text"), DEPRECATED_ERRORS.items(), ids=DEPRECATED_ERRORS)
def test_the_deprecated_form_has_errors_of_its_own(wire: Connection, add: str, words: str, text: str):
    """It needs no scope."""
    assert wire.ask(f"AI.DAGRUN |> {words.format(add)}") == error(text)
    assert wire.ask(f"AI.DAGRUN_RO |> {words.format(add)}") == error(text)


def test_a_read_only_dag_persists_nothing(wire: Connection, key: str):
    """That PERSIST stands there is the error, whatever follows it."""
    for words in (f"PERSIST 1 {key} |> AI.TENSORSET {key} INT8 1", f"PERSIST x LOAD 1 {key} |> x"):
        for name in ("AI.DAGEXECUTE_RO", "AI.DAGRUN_RO"):
            assert wire.ask(f"{name} {words}") == error("ERR PERSIST cannot be specified in a read-only DAG")


# -- time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run", ["", "|> AI.MODELEXECUTE {} INPUTS 2 {}:t {}:t OUTPUTS 1 y"], ids=["tensors", "a model"]
)
@pytest.mark.parametrize("scope", ["ROUTING", "PERSIST 1"])
def test_a_dag_that_waits_too_long_times_out_and_persists_nothing(
    wire: Connection, add: str, busy: Callable[[], Connection], scope: str, run: str
):
    """One that only sets tensors waits for its turn as well."""
    dag = f"AI.DAGEXECUTE {scope} {add}:t TIMEOUT 1 |> AI.TENSORSET {add}:t FLOAT 1 {run.format(add, add, add)}"
    slow = busy()

    def times_out() -> bool:
        wire.ask(f"DEL {add}:t")
        return wire.ask(dag) == TIMEDOUT

    wait_until(times_out, timeout_s=8, what="a DAG behind the slow run")  # which may not have begun yet

    assert wire.ask(f"EXISTS {add}:t") == integer(0)
    assert slow.reply() == OK


@pytest.mark.parametrize("timeout", [0, -1, -(2**63), 2**62])
def test_a_time_limit_that_is_none_or_long_enough_changes_nothing(wire: Connection, add: str, timeout: int):
    reply = wire.ask(
        f"AI.DAGEXECUTE ROUTING {add} TIMEOUT {timeout} |> AI.TENSORSET t FLOAT 1 VALUES 1"
        f" |> AI.MODELEXECUTE {add} INPUTS 2 t t OUTPUTS 1 y |> AI.TENSORGET y VALUES"
    )

    assert reply == array([OK, OK, bulks("2")])


# -- in a pipeline ----------------------------------------------------------------------------------------


def test_what_a_dag_persisted_is_there_for_the_next_command(wire: Connection, add: str):
    dag = (
        f"AI.DAGEXECUTE LOAD 1 {add}:t PERSIST 1 {add}:t |> AI.MODELEXECUTE {add} INPUTS 2 {add}:t {add}:t"
        f" OUTPUTS 1 {add}:t"
    )
    wire.ask(f"AI.TENSORSET {add}:t FLOAT 1 VALUES 1")

    wire.send(*[dag, f"AI.TENSORGET {add}:t VALUES"] * 5)

    assert wire.replies(10) == [each for i in range(1, 6) for each in (array([OK]), bulks(str(2**i)))]


def test_dags_are_refused_inside_a_transaction(wire: Connection, key: str):
    text = error("ERR Cannot run RedisAI command within a transaction or a LUA script")
    names = ("AI.DAGEXECUTE", "AI.DAGEXECUTE_RO", "AI.DAGRUN", "AI.DAGRUN_RO")

    wire.send("MULTI", *(f"{name} ROUTING {key} |> AI.TENSORSET {key} INT8 1" for name in names), "EXEC")

    assert wire.replies(6)[-1] == array([text] * 4)
