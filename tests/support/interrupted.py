"""
Creates and updates in separate processes that stop at a known point, so that a test can interrupt them there.

The processes are forked from one that has already imported MLflow (a forkserver), because importing takes longer than
the test.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

# The time that a create needs until it stops.
PRELOADED = [
    "mlflow.pyfunc",
    "mlflow.onnx",
    "onnx",
    "onnxruntime",
    "redis",
    "mlflow.deployments.cli",
    "mlflow_redisai.deploy.prepare",
    "support.interrupted",
]


#: As the method: the arguments are a file for standard error, and words after `mlflow deployments`.
COMMAND_LINE = "command line"


class Stopping:
    """A process that makes one call of a client and stops at `point`, a key of _POINTS."""

    def __init__(self, point: str, target: str, method: str, *arguments: str, **environment: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._pipe, other = context.Pipe()
        self.process: ForkServerProcess = context.Process(
            target=_work, args=(other, point, target, method, arguments, environment), daemon=True
        )
        self.process.start()
        other.close()

    def wait(self) -> None:
        """Return when the point is reached. Fail the test if the process ends without reaching it."""
        assert self._pipe.poll(90), "the process did not get to the point"
        assert self._pipe.recv() == "stopped"

    def go_on(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send("go on")

    def ended(self) -> int | None:
        """Wait for the end and return the exit code, which is negative for a signal."""
        self.process.join(60)
        assert self.process.exitcode is not None
        return self.process.exitcode

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self._pipe.close()


@contextlib.contextmanager
def stopping(point: str, target: str, method: str, *arguments: str) -> Iterator[Stopping]:
    """Start such a process and wait for the point."""
    process = Stopping(point, target, method, *arguments)
    try:
        process.wait()
        yield process
    finally:
        process.close()


def _work(  # noqa: PLR0917  # passed on by multiprocessing
    pipe: Connection, point: str, target: str, method: str, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    from mlflow_redisai import RedisAIClient

    os.environ.update(environment)
    _POINTS[point](pipe)
    if method == COMMAND_LINE:
        _run_command(*arguments)
    getattr(RedisAIClient(target), method)(*arguments)


def _run_command(errors: str, *words: str) -> None:
    """Do what `mlflow deployments ...` does, with its standard error in a file. It ends the process."""
    from mlflow.deployments.cli import commands

    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    commands(list(words), prog_name="mlflow deployments")


def _stop(pipe: Connection) -> None:
    pipe.send("stopped")
    pipe.recv()


def _stop_in_verify(pipe: Connection) -> None:
    """Stop when the model is staged, but not yet compared."""
    from mlflow_redisai.deploy import prepare as deploying

    verify = deploying.verify

    def stop_and_verify(*arguments: Any) -> Any:
        _stop(pipe)
        return verify(*arguments)

    deploying.verify = stop_and_verify


def _stop_in_exec(pipe: Connection) -> None:
    """Stop when EXEC has been sent for the change itself, but its reply hasn't been read."""
    from mlflow_redisai.server.connection import WatchedTransaction

    execute = WatchedTransaction.execute
    queue = WatchedTransaction.queue
    sent: list[Any] = []

    def watch_queue(self: WatchedTransaction, commands: Any, **options: Any) -> None:
        sent[:] = [command[0] for command in commands]
        queue(self, commands, **options)

    def send_and_stop(self: WatchedTransaction) -> Any:
        if "HSET" not in sent:  # this transaction only stages the model
            return execute(self)
        self._connection.send_command("EXEC")
        _stop(pipe)
        return self._connection.read_response()

    WatchedTransaction.queue = watch_queue  # type: ignore[method-assign]
    WatchedTransaction.execute = send_and_stop  # type: ignore[method-assign]


def _stop_in_upload(pipe: Connection, number: int) -> None:
    """
    Stop when the first bytes of a large model have been sent.

    A server that can't rename it gets it twice: for the trial and under its name.
    """
    from mlflow_redisai.server import connection
    from mlflow_redisai.server.deployments import Deployments

    if number == 2:
        Deployments._kept_trial = lambda self, prepared: None  # type: ignore[method-assign]

    counted = connection._counted
    uploads: list[int] = []

    def stop_in_the_middle(*arguments: Any) -> Iterator[Any]:
        uploads.append(1)
        for index, blob in enumerate(counted(*arguments)):
            yield blob
            if (len(uploads), index) == (number, 10):
                _stop(pipe)

    connection._counted = stop_in_the_middle


def _stop_by_itself(pipe: Connection) -> None:
    """Never stop here: the model that is deployed hangs while it is converted."""


_POINTS = {
    "conversion": _stop_by_itself,
    "verify": _stop_in_verify,
    "exec": _stop_in_exec,
    "upload on trial": partial(_stop_in_upload, number=1),
    "upload under the name": partial(_stop_in_upload, number=2),
}
