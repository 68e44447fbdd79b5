"""
What one command may take: bytes of tensors, and bytes of its reply.

Sizes are counted where they are known anyway, before the bytes are made, so a small request can't take all memory.
"""

from __future__ import annotations

from redisai_engine.config import Settings
from redisai_engine.errors import CommandError
from redisai_engine.protocol import texts
from redisai_engine.protocol.tensor import Tensor, element_count

_TEXT_BYTES = 64  # what an element of a STRING tensor takes as an object, besides its characters


class Budget:
    """A limit in bytes, and how much of it is used. `text` is the error for more, with places for both."""

    __slots__ = ("_limit", "_text", "used")

    def __init__(self, limit: int, text: str) -> None:
        self.used = 0
        self._limit = limit
        self._text = text

    def take(self, size: int) -> None:
        """Use `size` bytes. Raise CommandError if that is more than is left."""
        self.used += size
        if self.used > self._limit:
            raise CommandError(self._text % (self.used, self._limit))

    def take_array_of(self, tensor: Tensor) -> None:
        """Use what the array of a tensor takes besides the tensor: nothing, except for text."""
        if tensor.dtype.is_string:
            self.take(_TEXT_BYTES * element_count(tensor.shape))


def tensor_budget(settings: Settings) -> Budget:
    return Budget(settings.tensor_limit, texts.TENSORS_TOO_LARGE)


def reply_budget(settings: Settings) -> Budget:
    return Budget(settings.reply_limit, texts.REPLY_TOO_LARGE)
