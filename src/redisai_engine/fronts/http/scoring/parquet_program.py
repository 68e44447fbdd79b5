"""
The program of a process that reads one body of Parquet: from standard input, to a parcel on standard output.

Where it can't, it says so as JSON: a status of HTTP and a text. What it runs out of memory for ends it without a word.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from redisai_engine.execution.hosts import limits
from redisai_engine.protocol import parcels

_BATCH_ROWS = 1024  # read at once, each of which may have the longest text of a dictionary


class _TooMuch(Exception):
    """The columns take more memory than they may."""


def main() -> None:
    """Read a body for the engine's process, whose number is the first argument, and end with it."""
    parent, most, memory = map(int, sys.argv[1:4])
    limits.end_with_parent(parent)
    sys.stdout.buffer.write(_read(most, memory))
    sys.stdout.buffer.flush()
    os._exit(0)  # pandas takes long to be taken apart


def _read(most: int, memory: int) -> bytes:
    try:
        import pandas  # noqa: F401  # before the files are out of reach
        import pyarrow.parquet
    except ImportError:
        return _refusal(415, "Parquet needs the package pyarrow, which isn't installed on the server")
    limits.restrict(limits.readable_folders(), memory, gpu=False)
    try:
        return parcels.pack(_frame(pyarrow, sys.stdin.buffer.read(), most))
    except (_TooMuch, MemoryError):  # pyarrow's is one, too
        return _refusal(413, f"the frame takes more than the {most} bytes that are allowed (see --tensor-limit)")
    except Exception as error:  # pyarrow raises many kinds
        return _refusal(400, str(error).strip().partition("\n")[0][:200])


def _frame(pa: Any, body: bytes, most: int) -> Any:
    """Return the frame, read part by part, because a few bytes of Parquet may stand for any number of rows."""
    file = pa.parquet.ParquetFile(pa.BufferReader(body), memory_map=False)
    if file.metadata.num_rows * max(1, file.metadata.num_columns) * 8 > most:
        raise _TooMuch
    parts, size = [], 0
    for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
        size += batch.nbytes
        if size > most:
            raise _TooMuch
        parts.append(batch)
    return pa.Table.from_batches(parts, file.schema_arrow).to_pandas(use_threads=False)


def _refusal(status: int, text: str) -> bytes:
    return json.dumps([status, text]).encode()
