"""A Docker daemon and images for it, for the tests of run-local."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import docker_images
from support.docker_daemon import NoDaemon, daemon

TAG = "mlflow-redisai-tests"


@pytest.fixture(scope="session")
def docker_daemon() -> Iterator[None]:
    """A Docker daemon that responds. If there is none, the tests are skipped with the reason."""
    # A short path, because the path of a unix socket may have at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="dockerd-", ignore_cleanup_errors=True) as folder:
        try:
            with daemon(Path(folder)) as environment, pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                yield
        except NoDaemon as reason:
            pytest.skip(f"RUN-LOCAL WITH DOCKER IS NOT TESTED HERE: {reason}")


@pytest.fixture(scope="session")
def image(docker_daemon: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """
    A function that builds an image once per session: `image("shell", "exit 3")`, `image("redis")`, `image("engine")`.
    """
    made: dict[tuple[str, ...], str] = {}

    def make(kind: str, script: str = "") -> str:
        if (kind, script) not in made:
            folder = tmp_path_factory.mktemp("root")
            tag = f"{TAG}-{kind}:{len(made)}"
            made[kind, script] = _make(folder, tag, kind, script)
        return made[kind, script]

    yield make
    for tag in made.values():
        subprocess.run(["docker", "rmi", "--force", tag], capture_output=True, check=False)


def _make(folder: Path, tag: str, kind: str, script: str) -> str:
    if kind == "shell":
        docker_images.shell_root(folder)
        return docker_images.import_image(folder, tag, ["/bin/sh", "-c", script])
    if kind == "no-program":
        docker_images.shell_root(folder)
        return docker_images.import_image(folder, tag, ["/no-such-program"])
    if kind == "redis":
        docker_images.redis_root(folder)
        return docker_images.import_image(folder, tag, ["/bin/redis-server", "--protected-mode", "no", "--save", ""])
    docker_images.engine_root(folder)
    command = ["/bin/python3", "-u", "-m", "redisai_engine", "--bind", "0.0.0.0", "--data-dir", "/data"]
    return docker_images.import_image(folder, tag, command, ["PYTHONPATH=/packages", "PATH=/bin", "HOME=/tmp"])
