"""Parquet in a body: exact frames, and nothing that a body holds harms the process that has received it."""

from __future__ import annotations

import io
import random

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.fronts.http.scoring.parquet import read_parquet

MOST = 2**20

FRAME = pd.DataFrame(
    {
        "text": ["a", None, "\N{SNOWMAN}"],
        "number": [1.5, np.nan, -0.0],
        "small": np.array([1, 2, 3], np.int8),
        "flag": [True, False, True],
        "kind": pd.Categorical(["x", "y", "x"]),
        "day": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
        "list": [[1, 2], [], [3]],
    }
)


def written(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def test_a_frame_is_what_pandas_reads() -> None:
    body = written(FRAME)

    pd.testing.assert_frame_equal(read_parquet(body, MOST), pd.read_parquet(io.BytesIO(body)))


def test_a_few_bytes_that_stand_for_gigabytes_are_refused() -> None:
    """The text stands once in the file, for every row. Its columns would take 20 GB."""
    rows = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * 2**20]))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": rows}), buffer, store_schema=False)
    assert len(buffer.getvalue()) < 2**20

    with pytest.raises(RequestRefused) as caught:
        read_parquet(buffer.getvalue(), 2**26)

    assert caught.value.status == 413
    assert "67108864 bytes that are allowed" in str(caught.value)


def test_rows_without_a_byte_of_their_own_are_refused() -> None:
    body = written(pd.DataFrame({"a": np.zeros(2**20)}))
    assert len(body) < 2**15

    with pytest.raises(RequestRefused, match="takes more than the 1048576 bytes") as caught:
        read_parquet(body, MOST)

    assert caught.value.status == 413


@pytest.mark.parametrize("seed", range(8))
def test_what_is_damaged_is_a_frame_or_refused(seed: int) -> None:
    """pyarrow ends the process for some of these."""
    chance = random.Random(seed)
    body = bytearray(written(FRAME))
    for _ in range(3):
        at = chance.randrange(len(body))
        body[at : at + chance.randrange(6)] = chance.randbytes(chance.randrange(6))

    try:
        status = 200 if isinstance(read_parquet(bytes(body), MOST), pd.DataFrame) else 500
    except RequestRefused as refused:
        status = refused.status

    assert status in (200, 400, 413)
