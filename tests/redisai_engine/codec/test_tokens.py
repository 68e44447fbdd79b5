"""Texts become the token ids of the mapping's tokenizer, padded to the longest text of a request."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import tokenizers

from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.errors import InputMismatch, PackageNotInstalled
from redisai_engine.codec.mapping import Answer, Field, Input, Mapping, Schema, Text
from redisai_engine.codec.prediction import split
from redisai_engine.codec.tokens import ROWS, Tokenizer, trimmed
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.tensor import Tensor

WORDS = {"[PAD]": 9, "[UNK]": 0, "one": 1, "two": 2, "three": 3}


def words() -> str:
    """Return a tokenizer of whole words, as JSON."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return str(made.to_str())


def text(**changes: object) -> Text:
    made = Text(max_length=4, tokenizer=words(), padding=9, tensors=("input_ids", "attention_mask"))
    return replace(made, **changes)  # type: ignore[arg-type]


def mapping(**changes: object) -> Mapping:
    how = text(**changes)
    inputs = tuple(Input(name, dtypes.INT64, (None, None), (0,)) for name in how.tensors)
    schema = Schema("columns", (Field(None, "string", dtypes.STRING),))
    return Mapping(inputs, (), (), Answer("list", ()), schema, text=how)


def ids(texts: list[str], **changes: object) -> list[list[int]]:
    rows: list[list[int]] = Tokenizer(text(**changes)).tokenize(texts)[0].tolist()
    return rows


def test_shorter_texts_are_padded_and_masked() -> None:
    found = Tokenizer(text()).tokenize(["one two three", "two"])

    assert [array.tolist() for array in found] == [[[1, 2, 3], [2, 9, 9]], [[1, 1, 1], [1, 0, 0]]]
    assert {array.dtype for array in found} == {np.dtype(np.int64)}


def test_the_arrays_go_with_the_models_inputs_in_order() -> None:
    found = Tokenizer(text(tensors=("attention_mask", "token_type_ids", "input_ids"))).tokenize(["three two"])

    assert [array.tolist() for array in found] == [[[1, 1]], [[0, 0]], [[3, 2]]]


def test_a_text_without_tokens_is_one_of_padding() -> None:
    """A tensor can't have an axis of length 0."""
    assert ids([""]) == [[9]]


def test_long_texts_are_cut() -> None:
    assert ids(["one two three one two three"]) == [[1, 2, 3, 1]]


def test_long_texts_are_refused_where_the_model_does_not_cut() -> None:
    with pytest.raises(InputMismatch) as caught:
        ids(["one", "one two three one two"], cut=False)

    assert str(caught.value) == "the text in row 1 has 5 tokens, but the model reads at most 4"


def test_a_prefix_is_put_before_each_text() -> None:
    assert ids(["one", "two"], prefix="three ") == [[3, 1], [3, 2]]


def test_only_the_first_text_is_answered_where_the_model_does_so() -> None:
    assert ids(["one", "two"], first=True) == [[1]]


def test_without_tokenizers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    with pytest.raises(PackageNotInstalled) as caught:
        Tokenizer(text())

    assert str(caught.value) == (
        "a deployment that takes text needs the package tokenizers, which isn't installed; "
        'pip install "mlflow-redisai[transformers]"'
    )


def test_an_encoder_of_a_text_model_makes_tokens() -> None:
    encoder = Encoder(mapping())

    assert [tensor.array().tolist() for tensor in encoder.encode(["one two"])] == [[[1, 2]], [[1, 1]]]
    assert [tensor.shape for tensor in encoder.encode({"any name": ["one", "two"]})] == [(2, 1), (2, 1)]


def test_a_request_is_as_wide_as_its_longest_text() -> None:
    """All rows are encoded at once. So a long text among the first rows must not slow down the next request."""
    how = mapping()
    tensors = Encoder(how).encode(["one two three"] + ["one"] * (2 * ROWS - 1))

    requests = split(tensors, how)

    assert [[tensor.shape for tensor in request] for request in requests] == [[(ROWS, 3)] * 2, [(ROWS, 1)] * 2]


def test_a_request_without_a_mask_stays_as_it_is() -> None:
    request = [Tensor.from_array(np.array([[1, 9]]))]

    assert trimmed(request, mapping(tensors=("input_ids",))) is request
