"""The arguments of AI.MODELSTORE and AI.MODELSET: what is read, and which error comes first."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisai_engine.commands.grammar.models import ModelOptions, parse_modelset, parse_modelstore
from redisai_engine.errors import CommandError

Parse = Callable[[list[bytes]], tuple[ModelOptions, bytes]]

# Each option with a value, in the order in which AI.MODELSTORE takes them.
OPTIONS = {"TAG": "v1", "BATCHSIZE": 8, "MINBATCHSIZE": 2, "MINBATCHTIMEOUT": 10}
NEEDS = {"MINBATCHSIZE": "BATCHSIZE", "MINBATCHTIMEOUT": "MINBATCHSIZE"}


def words(line: str) -> list[bytes]:
    return line.encode().split()


def error_of(parse: Parse, line: str) -> str:
    with pytest.raises(CommandError) as raised:
        parse(words(line))
    return raised.value.wire


# -- AI.MODELSTORE --------------------------------------------------------------------------------

names = st.binary(min_size=1, max_size=5).map(lambda name: name.decode("utf-8", "surrogateescape"))
sizes = st.integers(1, 2**63 - 1)


@st.composite
def model_options(draw: st.DrawFn) -> ModelOptions:
    """Any options that AI.MODELSTORE takes; names and tag are any bytes."""
    options = ModelOptions(
        draw(st.sampled_from(["ONNX", "TORCH", "TF", "TFLITE"])),
        draw(st.from_regex(r"\A([cC][pP][uU]|[gG][pP][uU])(:[0-9]{0,5})?\Z")),
        draw(names | st.just("")),
    )
    if draw(st.booleans()):
        options.batch_size = draw(sizes)
        options.min_batch_size = draw(sizes | st.just(0))
        options.min_batch_timeout_ms = draw(sizes) if options.min_batch_size and draw(st.booleans()) else 0
    options.isolate = draw(st.booleans())
    if options.backend == "TF":
        options.inputs = draw(st.lists(names, min_size=1, max_size=3))
        options.outputs = draw(st.lists(names, min_size=1, max_size=3))
    return options


def written(options: ModelOptions, chunks: list[bytes], *, counts: bool) -> list[bytes | str]:
    """The arguments that say this, options that are not set left out."""
    set_ones = [("TAG", options.tag), ("BATCHSIZE", options.batch_size)]
    set_ones += [("MINBATCHSIZE", options.min_batch_size), ("MINBATCHTIMEOUT", options.min_batch_timeout_ms)]
    listed = [("INPUTS", options.inputs), ("OUTPUTS", options.outputs)] if options.backend == "TF" else []
    return [
        *(options.backend, options.device),
        *(str(word) for pair in set_ones if pair[1] for word in pair),
        *(("ISOLATE",) if options.isolate else ()),
        *(word for keyword, some in listed for word in (keyword, *([str(len(some))] if counts else []), *some)),
        *("BLOB", *chunks),
    ]


def as_bytes(arguments: list[bytes | str]) -> list[bytes]:
    return [each if isinstance(each, bytes) else each.encode("utf-8", "surrogateescape") for each in arguments]


@given(model_options(), st.lists(st.binary(max_size=6), min_size=1, max_size=4))
def test_modelstore_reads_what_was_written(options: ModelOptions, chunks: list[bytes]):
    """Property: every option comes through, and the chunks are one blob."""
    assert parse_modelstore(as_bytes(written(options, chunks, counts=True))) == (options, b"".join(chunks))


@pytest.mark.parametrize("chosen", [some for size in range(5) for some in combinations(OPTIONS, size)], ids=" ".join)
def test_an_option_needs_the_one_that_it_is_about(chosen: tuple[str, ...]):
    """All sixteen choices of options: the first that lacks another is told."""
    line = " ".join(f"{name} {OPTIONS[name]}" for name in chosen)
    lacking = [name for name in chosen if NEEDS.get(name, "TAG") not in (*chosen, "TAG")]

    if lacking:
        expected = f"ERR {lacking[0]} specified without {NEEDS[lacking[0]]}"
        assert error_of(parse_modelstore, f"ONNX CPU {line} BLOB x") == expected
    else:
        options, blob = parse_modelstore(words(f"ONNX CPU {line} BLOB x"))
        given_ones = {name: value for name, value in OPTIONS.items() if name in chosen}
        assert blob == b"x"
        assert options == ModelOptions(
            "ONNX",
            "CPU",
            str(given_ones.get("TAG", "")),
            *(int(given_ones.get(name, 0)) for name in ("BATCHSIZE", "MINBATCHSIZE", "MINBATCHTIMEOUT")),
        )


@pytest.mark.parametrize("order", [some for some in permutations(OPTIONS) if some != tuple(OPTIONS)], ids=" ".join)
def test_options_in_another_order_are_refused(order: tuple[str, ...]):
    line = " ".join(f"{name} {OPTIONS[name]}" for name in order)

    assert error_of(parse_modelstore, f"ONNX CPU {line} BLOB x") in {
        "ERR Invalid argument, expected BLOB",
        "ERR MINBATCHSIZE specified without BATCHSIZE",
        "ERR MINBATCHTIMEOUT specified without MINBATCHSIZE",
    }


@given(st.text("0123456789+-. e", max_size=20))
def test_a_batch_size_is_a_whole_number_in_any_form(word: str):
    """Property: RedisAI reads it as a double if it is no integer. It has no spaces, and fits into 64 bits."""
    arguments = [b"ONNX", b"CPU", b"BATCHSIZE", word.encode(), b"BLOB", b"x"]
    try:
        number = int(word) if word.isdigit() else float(word.replace(" ", "?"))
    except ValueError:
        number = -1

    if number == int(min(number, 2**63)) and 0 <= number < 2**63:
        assert parse_modelstore(arguments)[0].batch_size == int(number)
    else:
        with pytest.raises(CommandError, match=r"^ERR Invalid argument for BATCHSIZE$"):
            parse_modelstore(arguments)


@pytest.mark.parametrize("line", ["BATCHSIZE 0", "MINBATCHSIZE 0", "BATCHSIZE 0 MINBATCHSIZE 0 MINBATCHTIMEOUT 0"])
def test_zero_is_as_if_an_option_were_not_there(line: str):
    assert parse_modelstore(words(f"ONNX CPU {line} BLOB x")) == (ModelOptions("ONNX", "CPU"), b"x")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", "ERR unsupported backend"),
        ("ONNXX CPU TAG", "ERR unsupported backend"),
        ("ONNX", "ERR Invalid DEVICE"),
        ("ONNX CPU:1234567", "ERR Invalid DEVICE"),  # ten characters
        ("ONNX CPU1", "ERR Invalid DEVICE"),
        ("ONNX TAG v CPU", "ERR Invalid DEVICE"),
        ("ONNX CPU", "ERR Insufficient arguments, missing model BLOB"),
        ("ONNX CPU TAG", "ERR Insufficient arguments, missing model BLOB"),
        ("ONNX CPU TAG BLOB x", "ERR Invalid argument, expected BLOB"),  # the tag is BLOB
        ("ONNX CPU BATCHSIZE", "ERR Invalid argument for BATCHSIZE"),
        ("ONNX CPU BATCHSIZE 2 MINBATCHSIZE", "ERR Invalid argument for MINBATCHSIZE"),
        ("ONNX CPU BATCHSIZE 2 MINBATCHSIZE 1 MINBATCHTIMEOUT", "ERR Invalid argument for MINBATCHTIMEOUT"),
        ("ONNX CPU BATCHSIZE 2", "ERR Insufficient arguments, missing model BLOB"),
        ("ONNX CPU BATCHSIZE x MINBATCHSIZE y", "ERR Invalid argument for BATCHSIZE"),
        ("ONNX CPU BATCHSIZE -1", "ERR Invalid argument for BATCHSIZE"),
        ("ONNX CPU MINBATCHSIZE x", "ERR Invalid argument for MINBATCHSIZE"),  # before what it is about
        ("ONNX CPU MINBATCHSIZE 2 MINBATCHTIMEOUT x", "ERR MINBATCHSIZE specified without BATCHSIZE"),
        ("ONNX CPU MINBATCHTIMEOUT 2 INPUTS", "ERR MINBATCHTIMEOUT specified without MINBATCHSIZE"),
        ("ONNX CPU INPUTS", "ERR INPUTS argument should not be specified for this backend"),
        ("TFLITE CPU INPUTS 1 a", "ERR INPUTS argument should not be specified for this backend"),
        ("ONNX CPU OUTPUTS 1 a BLOB x", "ERR Invalid argument, expected BLOB"),
        ("ONNX CPU BLOB", "ERR Insufficient arguments, missing model BLOB"),
        ("ONNX CPU x", "ERR Invalid argument, expected BLOB"),
        ("TF CPU", "ERR Insufficient arguments, missing model BLOB"),
        ("TF CPU TAG t", "ERR Insufficient arguments, missing model BLOB"),
        ("TF CPU x", "ERR INPUTS not specified for TF"),
        ("TF CPU BLOB x", "ERR INPUTS not specified for TF"),
        ("TF CPU INPUTS", "ERR Invalid argument for input_count"),
        ("TF CPU INPUTS 0 OUTPUTS 0", "ERR Invalid argument for input_count"),
        ("TF CPU INPUTS 2 a", "ERR number of model inputs does not match the number of given arguments"),
        ("TF CPU INPUTS 2 a OUTPUTS 1 b BLOB x", "ERR OUTPUTS not specified for TF"),  # OUTPUTS is an input
        ("TF CPU INPUTS 1 a BLOB x", "ERR OUTPUTS not specified for TF"),
        ("TF CPU INPUTS 1 a OUTPUTS x", "ERR Invalid argument for output_count"),
        (
            "TF CPU INPUTS 1 a OUTPUTS 3 b BLOB",
            "ERR number of model outputs does not match the number of given arguments",
        ),
        ("TF CPU INPUTS 1 a", "ERR OUTPUTS not specified for TF"),
        ("TF CPU INPUTS 1 a OUTPUTS", "ERR Invalid argument for output_count"),
        ("TF CPU INPUTS 1 a OUTPUTS 0", "ERR Invalid argument for output_count"),
        ("TF CPU INPUTS 1 a OUTPUTS 1", "ERR number of model outputs does not match the number of given arguments"),
        ("TF CPU INPUTS 1 a OUTPUTS 1 b", "ERR Invalid argument, expected BLOB"),
        ("TF CPU INPUTS 1 a OUTPUTS 2 b BLOB", "ERR Invalid argument, expected BLOB"),  # BLOB is an output
        ("TF CPU INPUTS 1 a OUTPUTS 1 b BLOB", "ERR Insufficient arguments, missing model BLOB"),
        ("TF CPU INPUTS 1 a OUTPUTS 1 b x", "ERR Invalid argument, expected BLOB"),
    ],
)
def test_the_first_error_from_left_to_right_is_told(line: str, error: str):
    assert error_of(parse_modelstore, line) == error


# -- AI.MODELSET ----------------------------------------------------------------------------------

_KEYWORDS = ("BLOB", "OUTPUTS")
plain_names = names.filter(lambda name: name.upper() not in _KEYWORDS)


@given(model_options(), st.lists(plain_names, max_size=3), st.lists(plain_names, max_size=3), st.binary(max_size=6))
def test_modelset_reads_what_was_written(options: ModelOptions, inputs: list[str], outputs: list[str], blob: bytes):
    """Property: names stand there without a count, and any number of them, none too. It has no ISOLATE."""
    options.isolate = False
    if options.backend == "TF":
        options.inputs, options.outputs = inputs, outputs
    if options.backend == "TFLITE":
        options.batch_size = options.min_batch_size = options.min_batch_timeout_ms = 0

    assert parse_modelset(as_bytes(written(options, [blob], counts=False))) == (options, blob)


@given(st.lists(plain_names.filter(lambda name: name.upper() not in {"TAG", "INPUTS"}), max_size=4), st.binary())
def test_modelset_skips_what_it_does_not_know(unknown: list[str], blob: bytes):
    """Options that come too late are among that."""
    line = as_bytes(["ONNX", "CPU", "TAG", "v", "x", *unknown, "BATCHSIZE", "8", "BLOB", blob])

    assert parse_modelset(line) == (ModelOptions("ONNX", "CPU", "v"), blob)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("NONE CPU BLOB x", "ERR unsupported backend"),
        ("ONNX TAG v BLOB x", "ERR Invalid DEVICE"),
        ("ONNX FPGA:12345 BLOB x", "ERR Invalid DEVICE"),  # too long
        ("ONNX FPGA BATCHSIZE x BLOB x", "ERR Invalid argument for BATCHSIZE"),
        ("ONNX FPGA INPUTS a OUTPUTS b", "ERR Insufficient arguments, missing model BLOB"),
        ("ONNX FPGA BLOB x", "ERR unsupported device"),  # told last of all
        ("ONNX CPU", "ERR Insufficient arguments, missing model BLOB"),
        ("ONNX CPU INPUTS", "ERR Insufficient arguments, missing model BLOB"),
        ("ONNX CPU BLOB", "ERR Insufficient arguments, missing model BLOB"),
        ("ONNX CPU MINBATCHSIZE 2 BLOB x", "ERR MINBATCHSIZE specified without BATCHSIZE"),
        ("TF CPU", "ERR Insufficient arguments, missing model BLOB"),
        ("TF CPU BATCHSIZE 2", "ERR Insufficient arguments, missing model BLOB"),
        ("TF CPU BLOB x", "ERR Insufficient arguments, INPUTS and OUTPUTS not specified"),
        ("TF CPU BLOB", "ERR Insufficient arguments, INPUTS and OUTPUTS not specified"),
        ("TF CPU x", "ERR INPUTS not specified"),
        ("TF CPU OUTPUTS b INPUTS a BLOB x", "ERR INPUTS not specified"),
        ("TF CPU INPUTS", "ERR OUTPUTS not specified"),
        ("TF CPU INPUTS a b BLOB x", "ERR OUTPUTS not specified"),
        ("TF CPU INPUTS a OUTPUTS b", "ERR Insufficient arguments, missing model BLOB"),
        ("TF CPU INPUTS a OUTPUTS b BLOB", "ERR Insufficient arguments, missing model BLOB"),
    ],
)
def test_the_first_error_of_modelset(line: str, error: str):
    assert error_of(parse_modelset, line) == error


# -- anything -------------------------------------------------------------------------------------

any_words = st.lists(
    st.sampled_from(
        words("ONNX TF CPU GPU:0 TAG BATCHSIZE MINBATCHSIZE MINBATCHTIMEOUT INPUTS OUTPUTS BLOB 0 1 2 -1 a")
    )
    | st.binary(max_size=4),
    max_size=14,
)


@given(st.sampled_from([parse_modelstore, parse_modelset]), any_words)
def test_whatever_comes_gives_options_or_an_error(parse: Parse, arguments: list[bytes]):
    """Fuzz: no other exception comes out, and the text is one for the wire."""
    try:
        _, blob = parse([b"ONNX", *arguments])
    except CommandError as raised:
        blob, error = b"", raised.wire
    else:
        error = "ERR none"

    assert error.startswith("ERR ")
    assert blob == b"" or blob.endswith(arguments[-1])


def test_counts_of_names_are_whole_numbers_in_any_form():
    options, _ = parse_modelstore(words("TF CPU BATCHSIZE 1e3 INPUTS 2.0 a b OUTPUTS 0x1 c BLOB x"))

    assert (options.batch_size, options.inputs, options.outputs) == (1000, ["a", "b"], ["c"])
