"""Finds a Docker daemon that responds, or starts one for the tests if that is permitted."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.waiting import wait_until

START_S = 60.0


class NoDaemon(Exception):
    """No daemon responds and none can be started. The message says why."""


def answers(environment: dict[str, str] | None = None) -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"],
        capture_output=True,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    return asked.returncode == 0


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the variables with which `docker` reaches a daemon: the machine's, or else one that ends with the block."""
    if answers():
        yield {}
        return
    if shutil.which("docker") is None:
        raise NoDaemon("there is no `docker` command on the PATH")
    binary = shutil.which("dockerd") or shutil.which("dockerd", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise NoDaemon("no Docker daemon responds, and there is no `dockerd` to start one")
    if os.geteuid() != 0:
        raise NoDaemon("no Docker daemon responds, and only root may start one")
    address = f"unix://{folder}/docker.sock"
    with (folder / "dockerd.log").open("w") as log:
        process = subprocess.Popen(
            [
                *(binary, "--host", address, "--pidfile", str(folder / "pid")),
                *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        environment = {"DOCKER_HOST": address}
        wait_until(lambda: process.poll() is not None or answers(environment), timeout_s=START_S, what="dockerd")
        if process.poll() is not None:
            last = (folder / "dockerd.log").read_text().strip().splitlines()[-1:]
            raise NoDaemon(f"no Docker daemon responds, and dockerd exited at once: {last}")
        yield environment
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder / "data", ignore_errors=True)
