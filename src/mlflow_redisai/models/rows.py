"""The number of rows that a model takes at a time: read from its inputs, and explained to the user."""

from __future__ import annotations

from redisai_engine.codec.mapping import Input


def fixed_batch(inputs: tuple[Input, ...]) -> int | None:
    """Return the number of rows that all inputs are fixed to, or None if an input takes any number or they disagree."""
    lengths = {item.shape[0] if item.shape else None for item in inputs}
    return lengths.pop() if len(lengths) == 1 else None


def batch_notes(batch: int | None) -> tuple[str, ...]:
    """Return a note on a model that takes exactly `batch` rows, or () for a model that takes any number."""
    if batch is None:
        return ()
    if batch == 1:
        return ("the model takes exactly one row at a time; predict sends each row in a request of its own",)
    note = (
        f"the model takes exactly {batch} rows at a time; predict splits its input into requests of that size "
        "and pads the last one with copies of its last row"
    )
    return (note,)
