"""The form of a PyTorch or TensorFlow network's output: one tensor, a dict of tensors, or a list or tuple of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Structure:
    """The form of an output. `names` are those of its tensors, in order: a dict's keys as text, made up for a list."""

    kind: Literal["tensor", "dict", "list"]
    names: tuple[str, ...]

    def flat(self, answer: Any) -> tuple[Any, ...]:
        """Return the tensors of an output, in the order of `names`."""
        if self.kind == "tensor":
            return (answer,)
        if self.kind == "list":
            return tuple(answer)
        by_name = {str(name): value for name, value in answer.items()}
        return tuple(by_name[name] for name in self.names)
