"""Replies of AI.TENSORGET that are encoded in a thread leave the interpreter to others, compiled too."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from redisai_engine.commands.ai.tensor_reply import MANY, tensor_reply
from redisai_engine.commands.budget import Budget
from redisai_engine.protocol.tensor import Tensor

CHUNKS = 100
NUMBERS = np.zeros(CHUNKS * MANY, np.uint8)
TEXTS = np.full(CHUNKS * MANY // 2, b"a", object)


@pytest.mark.parametrize("array", [NUMBERS, NUMBERS.astype(np.float32), TEXTS], ids=["integers", "floats", "texts"])
def test_others_have_their_turns_while_many_values_are_encoded(array: np.ndarray) -> None:
    tensor = Tensor.from_array(array)
    pieces: list[int] = []
    work = threading.Thread(
        target=lambda: pieces.append(len(tensor_reply(tensor, frozenset((b"VALUES",)), 2, Budget(2**40, ""))))
    )

    work.start()
    turns = 0
    while work.is_alive():
        turns += 1
        work.join(1e-4)

    assert pieces == [CHUNKS + 1]
    assert turns > CHUNKS // 10
