"""
From text to tokens, with the model's own tokenizer, for models whose pyfunc takes text. The mapping contains it.

RedisAI runs tensors and has no tokenizers.

Invariant: the tokens equal those of the model's own library. They were compared when the model was converted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from redisai_engine.codec.errors import DamagedMapping, InputMismatch, PackageNotInstalled
from redisai_engine.codec.mapping import Mapping, Text
from redisai_engine.codec.values import Array
from redisai_engine.protocol.tensor import Tensor

# Attention needs memory for rows x length x length. More rows at once need more of it, and don't run faster.
ROWS = 32

# The tensors that encoders take, by their names in the package transformers.
TENSORS = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}


class Tokenizer:
    """
    Turns texts into token ids. Building one takes milliseconds, so keep it. Many threads may use it.

    Raise PackageNotInstalled without the package tokenizers.
    """

    def __init__(self, text: Text) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise PackageNotInstalled("a deployment that takes text", "tokenizers", "transformers") from error
        self._text = text
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(text.tokenizer)
        except Exception as error:  # the package raises no other class
            raise DamagedMapping(f"its tokenizer can't be read: {str(error)[:200]}") from None
        self._tokenizer.no_padding()
        if text.cut:
            self._tokenizer.enable_truncation(text.max_length)
        else:
            self._tokenizer.no_truncation()

    def tokenize(self, texts: list[str]) -> list[Array]:
        """
        Return an int64 array of shape (texts, tokens of the longest text) for each of the model's inputs.

        Raise InputMismatch for a text that is too long, if the model doesn't cut texts.
        """
        text = self._text
        if text.first:
            texts = texts[:1]
        found = self._tokenizer.encode_batch([text.prefix + one for one in texts])
        _check_lengths(found, text)
        return [_padded(found, name, text) for name in text.tensors]


def trimmed(request: list[Tensor], mapping: Mapping) -> list[Tensor]:
    """
    Return a request without the columns that none of its texts reach.

    So a long text slows down only its own request.
    """
    text = mapping.text
    if text is None or "attention_mask" not in text.tensors:
        return request
    mask = request[text.tensors.index("attention_mask")].array()
    length = max(1, int(mask.any(axis=0).sum()))
    if length == mask.shape[1]:
        return request
    return [Tensor.from_array(np.ascontiguousarray(tensor.array()[:, :length])) for tensor in request]


def _check_lengths(found: list[Any], text: Text) -> None:
    for row, one in enumerate(found):
        if len(one.ids) > text.max_length:
            raise InputMismatch(
                f"the text in row {row} has {len(one.ids)} tokens, but the model reads at most {text.max_length}"
            )


def _padded(found: list[Any], name: str, text: Text) -> Array:
    # At least one token, because a tensor can't have an axis of length 0.
    length = max(1, *[len(one.ids) for one in found])
    filling = text.padding if name == "input_ids" else 0
    array = np.full((len(found), length), filling, np.int64)
    for row, one in enumerate(found):
        array[row, : len(one.ids)] = getattr(one, TENSORS[name])
    return array
