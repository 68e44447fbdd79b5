"""Storing, reading and deleting models: every option in META, every form of a blob, and what a failure leaves."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.connection import Connection
from support.gateway import Pair, model_blob, predict, store_model
from support.replies import OK, WRONGTYPE, array, bulk, bulks, error, integer
from support.tiny_models import product_and_sum

MISSING = error("ERR model key is empty")
ADD = model_blob("Add")
OPTIONS = {"TAG": "v1", "BATCHSIZE": 8, "MINBATCHSIZE": 2, "MINBATCHTIMEOUT": 10}
BATCHING = ("BATCHSIZE", "MINBATCHSIZE", "MINBATCHTIMEOUT")  # each needs the one before it
FIELDS = 4  # of a model's hash: marker, id, what META tells, and a blob of less than 64 MiB


def store(wire: Connection, key: str, *options: object, blob: bytes = ADD) -> bytes:
    return wire.ask("AI.MODELSTORE", key, "ONNX", "CPU", *map(str, options), "BLOB", blob)


def meta(*, device: str = "CPU", outputs: tuple[str, ...] = ("y",), **options: int | bytes | str) -> list[bytes]:
    """The elements of what AI.MODELGET answers with META for a model of ONNX with the inputs a and b."""
    return [
        *(bulk("backend"), bulk("ONNX")),
        *(bulk("device"), bulk(device)),
        *(bulk("tag"), bulk(options.get("TAG", ""))),  # type: ignore[arg-type]
        *(bulk("batchsize"), integer(options.get("BATCHSIZE", 0))),  # type: ignore[arg-type]
        *(bulk("minbatchsize"), integer(options.get("MINBATCHSIZE", 0))),  # type: ignore[arg-type]
        *(bulk("inputs"), bulks("a", "b")),
        *(bulk("outputs"), bulks(*outputs)),
        *(bulk("minbatchtimeout"), integer(options.get("MINBATCHTIMEOUT", 0))),  # type: ignore[arg-type]
    ]


def large_model(size: int) -> bytes:
    """A model that adds, of somewhat more bytes than `size`: it has a long description."""
    import onnx

    model = onnx.load_from_string(ADD)
    model.doc_string = "x" * size
    return bytes(model.SerializeToString())


# -- storing and reading ----------------------------------------------------------------------------


@pytest.mark.parametrize("batching", range(4))
@pytest.mark.parametrize("tag", [(), ("TAG",)], ids=["no tag", "tag"])
def test_every_option_shows_in_meta(wire: Connection, key: str, tag: tuple[str, ...], batching: int):
    """All eight choices in which no option lacks the one that it is about."""
    given_ones = {name: OPTIONS[name] for name in (*tag, *BATCHING[:batching])}

    assert store(wire, key, *(word for pair in given_ones.items() for word in pair)) == OK

    assert wire.ask(f"AI.MODELGET {key} META") == array(meta(**given_ones))


@pytest.mark.parametrize("words", ["", "META BLOB", "BLOB META", "meta blob", "FORM", "FORM x"])
def test_meta_and_blob_come_together_unless_one_is_asked_for(wire: Connection, key: str, words: str):
    """Words that are none are not looked at."""
    store(wire, key)

    assert wire.ask(f"AI.MODELGET {key} {words}") == array([*meta(), bulk("blob"), bulk(ADD)])


@pytest.mark.parametrize("words", ["BLOB", "blob FORM"])
def test_a_blob_alone(wire: Connection, key: str, words: str):
    store(wire, key)

    assert wire.ask(f"AI.MODELGET {key} {words}") == bulk(ADD)


@pytest.mark.parametrize("protocol", [2, 3])
def test_meta_is_an_array_in_resp3_too(wire: Connection, key: str, protocol: int):
    store(wire, key)
    wire.ask(f"HELLO {protocol}")

    assert wire.ask(f"AI.MODELGET {key} META") == array(meta())


@pytest.mark.parametrize("device", ["CPU", "cpu", "Cpu:0", "CPU:", "CPU:12345"])
def test_a_device_is_told_as_it_was_given(wire: Connection, key: str, device: str):
    assert wire.ask("AI.MODELSTORE", key, "onnx", device, "blob", ADD) == OK

    assert wire.ask(f"AI.MODELGET {key} META") == array(meta(device=device))
    assert predict(wire, key, 2, 3) == 5.0


@pytest.mark.parametrize("tag", [b"two words", "größer".encode(), b"\xff\xfe", b"\0\r\n", b"BLOB"])
def test_a_tag_may_have_any_bytes(wire: Connection, key: str, tag: bytes):
    assert wire.ask("AI.MODELSTORE", key, "ONNX", "CPU", "TAG", tag, "BLOB", ADD) == OK

    assert wire.ask(f"AI.MODELGET {key} META") == array(meta(TAG=tag))
    assert array([bulk(key), bulk(tag)]) in wire.ask("AI._MODELSCAN")


def test_a_model_of_several_outputs_names_them_in_its_own_order(wire: Connection, key: str):
    store(wire, key, blob=product_and_sum("ONNX").blob)

    assert wire.ask(f"AI.MODELGET {key} META") == array(meta(outputs=("product", "sum")))


def test_the_deprecated_form_stores_the_same(wire: Connection, key: str):
    line = f"AI.MODELSET {key} ONNX CPU TAG v1 BATCHSIZE 8 INPUTS x OUTPUTS z and more BLOB"

    assert wire.ask(*line.split(), ADD) == OK

    expected = [*meta(TAG="v1", BATCHSIZE=8), bulk("blob"), bulk(ADD)]  # names are the model's own
    assert wire.ask(f"AI.MODELGET {key}") == array(expected)


# -- chunks -----------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.lists(st.integers(0, len(ADD)), max_size=8).map(sorted))
def test_a_blob_may_come_in_any_pieces(wire: Connection, key: str, cuts: list[int]):
    """Property: empty ones too."""
    ends = [0, *cuts, len(ADD)]
    pieces = [ADD[start:end] for start, end in pairwise(ends)]

    assert wire.ask("AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", *pieces) == OK

    assert wire.ask(f"AI.MODELGET {key} BLOB") == bulk(ADD)
    assert predict(wire, key, 2, 3) == 5.0


def test_a_blob_goes_out_in_chunks_of_the_size_that_is_set(
    new_pair: Callable[..., Pair], connect: Callable[..., Connection]
):
    """One that is just as long as a chunk comes as an array, whose last chunk is empty: so RedisAI counts."""
    wire = connect(new_pair().engine)
    store(wire, "m")
    size = len(ADD)

    for chunk in (1, 7, size // 2, size - 1, size, size + 1):
        assert wire.ask(f"AI.CONFIG MODEL_CHUNK_SIZE {chunk}") == OK
        expected = [ADD[start : start + chunk] for start in range(0, size + 1, chunk)]
        blob = bulk(ADD) if chunk > size else bulks(*expected)
        assert wire.ask("AI.MODELGET m BLOB") == blob
        assert wire.ask("AI.MODELGET m") == array([*meta(), bulk("blob"), blob])
        assert wire.ask("AI.MODELGET m META") == array(meta())

    assert expected == [ADD]


@pytest.mark.slow
def test_a_model_larger_than_a_hash_field_is_whole_and_leaves_nothing_behind(
    wire: Connection, direct: Connection, key: str
):
    """It is kept in fields of 64 MiB. Once a small one has taken its place, none of those is left."""
    large = large_model(64 * 1024 * 1024)

    assert store(wire, key, blob=large) == OK
    assert direct.ask(f"HLEN {key}") == integer(FIELDS + 1)
    assert wire.ask(f"AI.MODELGET {key} BLOB") == bulk(large)

    assert store(wire, key) == OK
    assert direct.ask(f"HLEN {key}") == integer(FIELDS)
    assert wire.ask(f"AI.MODELGET {key} BLOB") == bulk(ADD)


# -- storing over something -------------------------------------------------------------------------


def test_a_new_version_has_none_of_the_old_ones_options_and_no_time_to_live(wire: Connection, key: str):
    store(wire, key, "TAG", "v1", "BATCHSIZE", 8)
    wire.ask(f"EXPIRE {key} 100")

    assert store(wire, key, blob=model_blob("Mul")) == OK

    assert wire.ask(f"AI.MODELGET {key} META") == array(meta())
    assert wire.ask(f"TTL {key}") == integer(-1)
    assert predict(wire, key, 2, 3) == 6.0


def test_a_version_that_can_not_be_stored_changes_nothing(wire: Connection, direct: Connection, key: str):
    store(wire, key, "TAG", "v1")
    wire.ask(f"EXPIRE {key} 100")
    before = direct.ask(f"HGETALL {key}")

    assert store(wire, key, blob=b"no model").startswith(b"-")
    assert store(wire, key, "BATCHSIZE", "x") == error("ERR Invalid argument for BATCHSIZE")

    assert direct.ask(f"HGETALL {key}") == before
    assert wire.ask(f"TTL {key}") == integer(100)
    assert predict(wire, key, 2, 3) == 5.0


FOREIGN = ["SET {} text", "HSET {} f v", "RPUSH {} x", "AI.TENSORSET {} FLOAT 1", "SADD {} x", "ZADD {} 1 x"]


@pytest.mark.parametrize("held", FOREIGN)
def test_another_kind_of_key_stays_as_it_is(wire: Connection, direct: Connection, key: str, held: str):
    wire.ask(held.format(key))
    before = direct.ask(f"DUMP {key}")

    assert store(wire, key) == WRONGTYPE
    assert wire.ask(f"AI.MODELGET {key}") == WRONGTYPE
    assert wire.ask(f"AI.MODELGET {key} META") == WRONGTYPE
    assert wire.ask(f"AI._MODELID {key}") == WRONGTYPE
    assert wire.ask(f"AI.MODELDEL {key}") == WRONGTYPE

    assert direct.ask(f"DUMP {key}") == before


def test_the_words_come_before_the_key_and_the_key_before_the_model(wire: Connection, key: str):
    """Unlike AI.TENSORSET, which looks at the key first."""
    wire.ask(f"SET {key} text")

    assert wire.ask("AI.MODELSTORE", key, "NONE", "CPU", "BLOB", "x") == error("ERR unsupported backend")
    assert wire.ask("AI.MODELSTORE", key, "ONNX", "FPGA", "BLOB", "x") == error("ERR Invalid DEVICE")
    assert wire.ask("AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", "x") == WRONGTYPE
    assert wire.ask("AI.MODELSET", key, "ONNX", "CPU", "BLOB", "x") == WRONGTYPE


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("AI.MODELSTORE {} ONNX CPU BLOB", "ERR wrong number of arguments for 'ai.modelstore' command"),
        ("AI.MODELSET {} ONNX", "ERR wrong number of arguments for 'ai.modelset' command"),
        ("AI.MODELGET", "ERR wrong number of arguments for 'ai.modelget' command"),
        ("AI.MODELGET {} META BLOB more", "ERR wrong number of arguments for 'ai.modelget' command"),
        ("AI.MODELDEL {} more", "ERR wrong number of arguments for 'ai.modeldel' command"),
        ("AI._MODELSCAN more", "ERR wrong number of arguments for 'ai._modelscan' command"),
        ("AI._MODELID", "ERR wrong number of arguments for 'ai._modelid' command"),
    ],
)
def test_a_number_of_arguments_that_can_not_be(wire: Connection, key: str, line: str, text: str):
    assert wire.ask(line.format(key)) == error(text)


# -- deleting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["AI.MODELDEL {}", "DEL {}", "UNLINK {}", "RENAME {} {}:moved"])
def test_a_model_that_is_gone_is_gone_for_every_command(wire: Connection, key: str, how: str):
    store(wire, key, "TAG", "v1")
    predict(wire, key, 1, 1)

    assert wire.ask(how.format(key, key)) in (OK, integer(1))

    assert wire.ask(f"AI.MODELGET {key}") == MISSING
    assert wire.ask(f"AI.MODELGET {key} META") == MISSING
    assert wire.ask(f"AI._MODELID {key}") == MISSING
    assert wire.ask(f"AI.MODELDEL {key}") == MISSING
    assert predict(wire, key, 1, 1) == MISSING
    assert array([bulk(key), bulk("v1")]) not in wire.ask("AI._MODELSCAN")


def test_fields_that_somebody_added_outlive_the_model(wire: Connection, direct: Connection, key: str):
    """Deleting takes a model's own fields only, so that it can't hurt another hash."""
    store(wire, key)
    direct.ask(f"HSET {key} note mine")

    assert predict(wire, key, 2, 3) == 5.0
    assert wire.ask(f"AI.MODELDEL {key}") == OK

    assert direct.ask(f"HGETALL {key}") == bulks("note", "mine")
    assert wire.ask(f"AI.MODELGET {key}") == WRONGTYPE


# -- between MULTI and EXEC -------------------------------------------------------------------------


def test_inside_a_transaction_each_command_sees_those_before_it(wire: Connection, key: str):
    get, delete = f"AI.MODELGET {key} META", f"AI.MODELDEL {key}"
    storing = ("AI.MODELSTORE", key, "ONNX", "CPU", "TAG", "v1", "BLOB", ADD)

    wire.send("MULTI", get, storing, get, delete, get, delete, "EXEC")
    replies = wire.replies(8)

    assert replies[-1] == array([MISSING, OK, array(meta(TAG="v1")), OK, MISSING, MISSING])
    assert wire.ask(f"EXISTS {key}") == integer(0)


def test_inside_a_transaction_a_foreign_hash_gets_back_what_it_was(wire: Connection, direct: Connection, key: str):
    """It can't be looked at before EXEC."""
    direct.ask(f"HSET {key} field value")
    direct.ask(f"EXPIRE {key} 100")

    wire.send("MULTI", ("AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", ADD), "EXEC")
    replies = wire.replies(3)

    assert replies[-1] == array([WRONGTYPE])
    assert direct.ask(f"HGETALL {key}") == bulks("field", "value")
    assert direct.ask(f"TTL {key}") == integer(100)


def test_inside_a_transaction_a_model_that_is_stored_twice_is_the_last_one(wire: Connection, key: str):
    stores = [("AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", model_blob(name)) for name in ("Add", "Mul")]

    wire.send("MULTI", *stores, "EXEC")

    assert wire.replies(4)[-1] == array([OK, OK])
    assert predict(wire, key, 2, 3) == 6.0


# -- beside tensors -----------------------------------------------------------------------------------


def test_neither_of_a_model_and_a_tensor_is_taken_for_the_other(wire: Connection, key: str):
    store_model(wire, f"{key}:m")
    wire.ask(f"AI.TENSORSET {key}:t FLOAT 1")

    assert wire.ask(f"AI.TENSORGET {key}:m") == WRONGTYPE
    assert wire.ask(f"AI.TENSORSET {key}:m FLOAT 1") == WRONGTYPE
    assert predict(wire, f"{key}:t", 1, 1) == WRONGTYPE
