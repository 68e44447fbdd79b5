"""How many rows a model takes at a time: what its inputs say, and what the user is told of it."""

from __future__ import annotations

from redisai_engine.codec.mapping import Input


def fixed_batch(inputs: tuple[Input, ...]) -> int | None:
    """Return the number of rows that all inputs have; None if any number goes or they don't agree."""
    lengths = {item.shape[0] if item.shape else None for item in inputs}
    return lengths.pop() if len(lengths) == 1 else None


def batch_notes(batch: int | None) -> tuple[str, ...]:
    """Return the note on a model that takes exactly `batch` rows; none for a model that takes any number."""
    if batch is None:
        return ()
    if batch == 1:
        return ("the model takes exactly one row at a time: predict sends each row by itself",)
    note = (
        f"the model takes exactly {batch} rows at a time: predict splits what it is given, "
        "and fills the last request up with copies of its last row"
    )
    return (note,)
