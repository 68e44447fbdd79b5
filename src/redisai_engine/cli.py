"""The command line: `redisai-engine` and `python -m redisai_engine`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from redisai_engine.config import load_settings
from redisai_engine.errors import EngineError
from redisai_engine.process.output import WorkerOutput
from redisai_engine.process.server import serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the engine and return the exit code: 0 after a clean shutdown, 1 with the error on standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("redisai_engine").setLevel(logging.INFO)
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except EngineError as error:
        print(f"redisai-engine: {error}", file=sys.stderr)
        return 1
    return 0


def _run(arguments: Sequence[str]) -> None:
    settings = load_settings(arguments)
    with WorkerOutput() as output:
        _run_loop(serve(settings, output))


def _run_loop(work: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        import asyncio

        asyncio.run(work)
    else:
        uvloop.run(work)
