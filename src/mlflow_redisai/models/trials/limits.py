"""
The numbers that a converted network takes: those for which it answers as the network itself does, and no others.

Sums of squares overflow, and libraries disagree on what NaN does to a maximum. Whole numbers are often indices, and the
network raises an error for those that it lacks. A deployment refuses such input in words, and `get` shows the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mlflow_redisai.models.trials.variations import FEW, exchanged, with_last
from redisai_engine.codec.mapping import Field, Input, Schema
from redisai_engine.codec.values import Array

# Sizes of numbers, in order, that no network is made for.
_SIZES = (1e3, 1e4, 1e6, 1e10, 1e20, 1e30, 3e38, 1e300)

# By how much the largest number of an example is multiplied in other trials, which a conversion must pass.
_PASSED = 100

# A network that takes this index takes any. A larger one may be the length of a loop.
_ANY_INDEX = 100_000


@dataclass(frozen=True)
class NumberLimits:
    """
    `gaps` is whether NaN is taken, `infinite` infinity. No number may be larger than `largest`, whatever its sign.

    `whole` has the least and the largest index that the network takes, by the position of the input. None: any.
    """

    gaps: bool = True
    infinite: bool = True
    largest: float | None = None
    whole: Mapping[int, tuple[int | None, int | None]] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What `get` says about numbers that only the network itself answers."""
        refused = [
            *(["missing numbers (NaN)"] if not self.gaps else []),
            *(["infinite numbers"] if not self.infinite else []),
            *([f"numbers beyond {self.largest:g}"] if self.largest is not None else []),
        ]
        if not refused:
            return ()
        listed = f"{', '.join(refused[:-1])} and {refused[-1]}" if len(refused) > 1 else refused[0]
        return (f"{listed} are refused, because for these the conversion answers differently",)

    def applied(self, schema: Schema, inputs: Sequence[Input]) -> Schema:
        """Return the schema with these limits. `inputs` are those of the conversion, in the order of the trials."""
        fields = [self._of_number(item) if item.dtype.is_float else item for item in schema.fields]
        for index, (least, largest) in self.whole.items():
            for at in inputs[index].fields or (index,):
                fields[at] = _of_index(fields[at], least, largest)
        return replace(schema, fields=tuple(fields))

    def _of_number(self, item: Field) -> Field:
        return replace(item, gaps=self.gaps, infinite=self.infinite, largest=self.largest)


def _of_index(item: Field, least: int | None, largest: int | None) -> Field:
    # The largest number counts whatever its sign.
    size = None if largest is None else float(max(largest, -(least or 0)))
    return replace(item, least=None if least is None else float(least), largest=size)


def odd_numbers(start: Sequence[Array], *, huge: bool = True) -> Iterator[tuple[float, list[Array]]]:
    """
    Yield few rows with an odd number in one number each, and in a whole row. The number comes first.

    It is NaN or infinity or, with `huge`, of some size: not for a network that may count up to it.
    """
    few = [array[:FEW] for array in start]
    for index, array in enumerate(few):
        if array.dtype.kind != "f":
            continue
        finite = float(np.finfo(array.dtype).max)
        sizes = [size for size in _SIZES if size <= finite] if huge else []
        for size in (np.nan, *sizes, np.inf):
            for value in (size, -size) if not np.isnan(size) else (size,):
                one, whole = array.copy(), array.copy()
                one.reshape(len(array), -1)[:, :1] = value
                whole[:1] = value
                yield size, exchanged(few, index, one)
                yield size, exchanged(few, index, whole)


def limits_of(start: Sequence[Array], answered: Iterable[tuple[float, bool]]) -> NumberLimits:
    """Return the limits that follow from whether a conversion has answered numbers of each size as the network."""
    failed = {size for size, right in answered if not right}
    sizes = sorted(size for size in failed if not np.isnan(size))
    if not sizes or np.isinf(sizes[0]):
        return NumberLimits(gaps=not any(map(np.isnan, failed)), infinite=not sizes)
    known = max(float(np.abs(array).max()) for array in start if array.dtype.kind == "f" and array.size)
    passed = [size for size in _SIZES if size < sizes[0]]
    return NumberLimits(
        not any(map(np.isnan, failed)), infinite=False, largest=passed[-1] if passed else _PASSED * known
    )


def indices(start: Sequence[Array], answers: Callable[[list[Array]], bool]) -> dict[int, tuple[int | None, int | None]]:
    """Return the least and the largest whole number that a network answers, by input; None where it answers any."""
    few = [array[:FEW] for array in start]
    found = {}
    for index, array in enumerate(few):
        if array.dtype.kind not in "iu":
            continue

        def takes(value: int, index: int = index, array: Array = array) -> bool:
            return answers(exchanged(few, index, with_last(array, value)))

        limits = np.iinfo(array.dtype)
        least = _last(int(array.min()), max(-_ANY_INDEX, int(limits.min)), takes)
        largest = _last(int(array.max()), min(_ANY_INDEX, int(limits.max)), takes)
        if (least, largest) != (None, None):
            found[index] = (least, largest)
    return found


def _last(taken: int, far: int, takes: Callable[[int], bool]) -> int | None:
    """Return the last number from `taken` towards `far` that is taken, None if `far` is."""
    if takes(far):
        return None
    while abs(far - taken) > 1:
        middle = (taken + far) // 2
        if takes(middle):
            taken = middle
        else:
            far = middle
    return taken
