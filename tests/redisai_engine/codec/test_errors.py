"""The codec's errors are one tree that depends on no framework, and build their messages from facts."""

from __future__ import annotations

import inspect

import pytest

from redisai_engine.codec import errors
from redisai_engine.codec.errors import (
    AnswerMismatch,
    CodecError,
    DamagedMapping,
    InputMismatch,
    PackageNotInstalled,
    UnknownRecordFormat,
    UnreadableMapping,
    UnusableOutput,
)
from redisai_engine.protocol.dtypes import FLOAT
from redisai_engine.protocol.tensor import Tensor


def test_the_tree_has_one_root_and_its_drawing_every_class() -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]

    assert len(classes) > 1
    assert all(issubclass(kind, CodecError) for kind in classes)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in classes if kind is not CodecError)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InputMismatch("column 'a' is missing"), "column 'a' is missing"),
        (
            PackageNotInstalled("a deployment that takes text", "tokenizers", "transformers"),
            (
                "a deployment that takes text needs the package tokenizers, which isn't installed; "
                'pip install "mlflow-redisai[transformers]"'
            ),
        ),
        (
            UnreadableMapping(9, 1),
            "the record's mapping has format 9, but this version reads formats up to 1; upgrade mlflow-redisai",
        ),
        (
            UnknownRecordFormat("9", 1),
            (
                "the deployment's record has format '9', but this version reads only format 1; "
                "upgrade with pip install --upgrade mlflow-redisai"
            ),
        ),
        (
            DamagedMapping("fetch can't be right"),
            "the record's mapping is damaged: fetch can't be right; deploy the model again",
        ),
        (
            AnswerMismatch([Tensor(FLOAT, (2,), b"12345678")], "cannot reshape array"),
            "the server answered FLOAT (2,), which doesn't fit the deployment: cannot reshape array",
        ),
        (
            UnusableOutput("iris", "probabilities"),
            (
                "the model 'iris' can't be used for predictions: its output 'probabilities' is not a tensor; deploy it "
                "with "
                "mlflow-redisai, or convert it without ZipMap"
            ),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_facts_become_sentences(error: CodecError, sentence: str) -> None:
    assert str(error) == sentence
