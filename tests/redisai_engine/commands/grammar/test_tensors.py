"""Tensors of many values are read so that others have their turns, compiled too."""

from __future__ import annotations

import threading

import numpy as np

from redisai_engine.commands.grammar.tensors import parse_tensor

CHUNKS, VALUES = 50, 50 * 16 * 1024


def test_others_have_their_turns_while_many_values_are_read() -> None:
    words = [b"FLOAT", b"%d" % VALUES, b"VALUES", *[b"%d" % (number % 7) for number in range(VALUES)]]
    blobs: list[bytes] = []
    work = threading.Thread(target=lambda: blobs.append(bytes(parse_tensor(words).tensor.blob)))

    work.start()
    turns = 0
    while work.is_alive():
        turns += 1
        work.join(1e-4)

    assert blobs == [(np.arange(VALUES) % 7).astype(np.float32).tobytes()]
    assert turns > CHUNKS // 10
