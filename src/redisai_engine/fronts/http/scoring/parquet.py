"""
Parquet, read by a process of its own for each body (its program is `parquet_program.py`).

A few hundred bytes of Parquet can stand for gigabytes, and damaged ones end the process that reads them: pyarrow checks
neither. So it happens where it hurts nobody: in a process without files, sockets and rights, with limits of memory and
time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

from redisai_engine.execution.hosts.parent import passed_on, search_path
from redisai_engine.folders import new_file
from redisai_engine.fronts.http.access.failures import RequestRefused, not_a_frame
from redisai_engine.protocol import parcels

_SECONDS = 30.0
_TIMES = 4  # as batches, as a table, as a frame and as the parcel that is sent
_MORE = 64 * 2**20  # bytes
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from redisai_engine.fronts.http.scoring.parquet_program import main; main()"
)


def read_parquet(body: bytes, most: int) -> Any:
    """
    Return the frame in a body. `most` is how many bytes its columns may take.

    Raise RequestRefused: with status 413 for more than that, and with 400 for what can't be read.
    """
    memory = _TIMES * most + _MORE
    with new_file() as file:
        file.write(body)
        file.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM, *map(str, (os.getpid(), most, memory)), json.dumps(search_path())],
            env={**passed_on(), "ARROW_DEFAULT_MEMORY_POOL": "system"},
            cwd="/",
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must reach only the engine, which finishes its requests first
        )
    return _frame(_answer(process, 2 * most + _MORE), most)


def _answer(process: subprocess.Popen[bytes], most: int) -> bytes:
    """Return what a process has said: no more than `most` bytes, and not for long."""
    timer = threading.Timer(_SECONDS, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        with process.stdout:
            return process.stdout.read(most)
    finally:
        timer.cancel()
        process.kill()  # its answer is all that is wanted of it
        process.wait()


def _frame(said: bytes, most: int) -> Any:
    """Return the frame in what the process has said. Raise RequestRefused if there is none."""
    if parcels.is_parcel(said):
        try:
            return parcels.unpack(said)[0]
        except ValueError as error:
            raise _no_parquet(str(error)) from None
    if not said:
        raise RequestRefused(
            413,
            "the body can't be read as Parquet: the process that read it has ended. Either the body is damaged, or it "
            f"takes more than the {most} bytes that are allowed (see --tensor-limit) or than {_SECONDS:.0f} s",
        )
    status, text = json.loads(said)
    raise _no_parquet(text) if status == 400 else RequestRefused(status, text)


def _no_parquet(reason: str) -> RequestRefused:
    return not_a_frame("Parquet", "to_parquet", reason)
