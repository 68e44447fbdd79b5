"""Frames as Parquet: all that pandas writes is read, and what would inflate to any size is refused before it does."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.fronts.http.scoring.parquet import BrokenPages, read_parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

MOST = 64 << 20
FRAME = pd.DataFrame(
    {
        "number": np.arange(5000, dtype=np.float32),
        "whole": pd.array([None, *range(4999)], dtype="Int64"),
        "text": [f"row {number}" for number in range(5000)],
        "few": ["a", "b", None, "d", "e"] * 1000,
        "kind": pd.Categorical(["x", "y"] * 2500),
        "when": pd.date_range("2026-01-01", periods=5000, freq="h"),
        "yes": [True, False] * 2500,
        "list": [[1.5, 2.5], []] * 2500,
        "texts": [["a", "bc"], None] * 2500,
    }
)


def written(table: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("pages", [{}, {"use_dictionary": False}, {"data_page_size": 100, "row_group_size": 700}])
def test_what_pandas_writes_is_read_as_pandas_reads_it(compression: str, version: str, pages: dict[str, Any]) -> None:
    body = written(pa.Table.from_pandas(FRAME), compression=compression, data_page_version=version, **pages)

    pd.testing.assert_frame_equal(read_parquet(body, MOST), pd.read_parquet(io.BytesIO(body)))


def test_a_frame_without_rows() -> None:
    body = written(pa.Table.from_pandas(FRAME[:0]))

    assert list(read_parquet(body, MOST).columns) == list(FRAME.columns)


def dictionary(rows: int, text: str) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


LONG = "x" * (1 << 20)
BOMBS = {
    "a text in many rows": (pa.table({"a": dictionary(60_000, LONG)}), {"store_schema": False}),
    "a text in many rows, kept as categories": (pa.table({"a": dictionary(60_000, LONG)}), {}),
    "a text many times in one row": (
        pa.table({"a": pa.ListArray.from_arrays(pa.array([0, 60_000], pa.int32()), dictionary(60_000, LONG))}),
        {"store_schema": False},
    ),
    "texts that begin alike": (
        pa.table({"a": pa.array([LONG + str(number) for number in range(100)])}),
        {"use_dictionary": False, "column_encoding": {"a": "DELTA_BYTE_ARRAY"}},
    ),
    "nothing, of a fixed length": (pa.table({"a": pa.nulls(2_000, pa.binary(1 << 17))}), {}),
    "zeros": (pa.table({"a": np.zeros(10_000_000)}), {"use_dictionary": False}),
    "many rows of nothing": (pa.table({"a": pa.nulls(10_000_000)}), {}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_inflate_is_refused_before_it_does(name: str) -> None:
    table, options = BOMBS[name]
    body = written(table, compression="zstd", dictionary_pagesize_limit=1 << 30, **options)
    assert len(body) < 100_000

    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(RequestRefused, match="the frame takes more than the 67108864 bytes") as refusal:
            read_parquet(body, MOST)
    finally:
        pa.set_memory_pool(usual)
    assert refusal.value.status == 413
    assert pool.max_memory() < 3 * MOST


def test_a_page_that_is_larger_than_the_file_says() -> None:
    """What is written in front of the page counts, because pyarrow makes room for that."""
    body = bytearray(written(pa.table({"a": np.zeros(1000)}), use_dictionary=False, compression="zstd"))
    at = pq.ParquetFile(pa.BufferReader(bytes(body))).metadata.row_group(0).column(0).data_page_offset
    assert body[at : at + 3] == b"\x15\x00\x15"  # the kind of page, and the head of its size once decompressed
    lie = (1 << 30) << 1  # zigzag
    size = bytes([lie >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)]) + bytes([lie >> 28])
    end = at + 3
    while body[end] & 0x80:
        end += 1
    body[at + 3 : end + 1] = size
    padded = bytes(body)

    with pytest.raises((RequestRefused, BrokenPages)):
        read_parquet(padded, MOST)


PLAIN = written(pa.table({"a": ["x", "y", None], "b": [1, 2, 3]}))


@given(at=st.integers(0, len(PLAIN) - 1), piece=st.binary(max_size=6), gone=st.integers(0, 6))
@settings(max_examples=300)
def test_a_damaged_file_is_read_or_refused(at: int, piece: bytes, gone: int) -> None:
    damaged = PLAIN[:at] + piece + PLAIN[at + gone :]

    with contextlib.suppress(RequestRefused, BrokenPages, pa.ArrowException, OSError, ValueError, KeyError):
        read_parquet(damaged, 1 << 20)
