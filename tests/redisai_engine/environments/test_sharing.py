"""Several processes use one folder: built once, never removed from under anybody, and nothing left by the killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redisai_engine.environments.environments import Environments
from redisai_engine.environments.wanted import read_wanted
from redisai_engine.errors import EnvironmentFailure
from support.waiting import wait_until
from support.wheels import make_wheel

PROGRAM = Path(__file__).with_name("building_process.py")
NEEDED = ["mlflow", "numpy"]
SECONDS = 120.0

Start = Callable[..., "subprocess.Popen[str]"]
Make = Callable[..., Environments]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "environments"


@pytest.fixture
def start(folder: Path, variables: dict[str, str]) -> Iterator[Start]:
    """A function that starts a process which wants an environment. All are killed at the end."""
    started: list[subprocess.Popen[str]] = []
    source = str(Path(sys.modules["redisai_engine"].__path__[0]).parent)

    def start_one(*requirements: str, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, PROGRAM, folder, *NEEDED, *requirements],
            env={**variables, **more, "PYTHONPATH": source},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """Return the interpreter that a process has got, and what it was told before."""
    assert process.stdout is not None
    told: list[str] = []
    for line in process.stdout:
        if line.startswith("ready "):
            return line.split()[1], told
        told.append(line.strip())
    raise AssertionError(f"no interpreter, but {told}")


def get(environments: Environments, *requirements: str) -> str:
    return environments.interpreter({"kind": "uv", "requirements": [*NEEDED, *requirements]}, {}, [].append, SECONDS)


def name_of(*requirements: str) -> str:
    return read_wanted({"requirements": [*NEEDED, *requirements]}, {}).name()


def ready(folder: Path) -> set[str]:
    return set(os.listdir(folder / "ready"))


def size_of(folder: Path, name: str) -> int:
    paths = (folder / "ready" / name).rglob("*")
    return sum(path.lstat().st_size for path in paths if path.is_symlink() or path.is_file())


def test_processes_that_want_the_same_at_once_build_it_once(start: Start, folder: Path) -> None:
    answers = [said(process) for process in [start(), start(), start()]]

    assert len({interpreter for interpreter, _ in answers}) == 1
    assert sum(any("numpy" in line for line in told) for _, told in answers) == 1
    assert ready(folder) == {name_of()}


def test_a_builder_that_is_killed_leaves_nothing_that_is_used(
    start: Start, folder: Path, make_environments: Make, wheels: Path
) -> None:
    """The index answers nothing any more, so uv waits when its engine is killed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        process = start(UV_NO_INDEX="", UV_DEFAULT_INDEX=address)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(2**16)  # what uv asks
            wait_until(lambda: any((folder / "new").iterdir()))
            process.kill()
            process.wait()
            while connection.recv(2**16):  # until the end of uv, which ends with its engine
                pass
    assert ready(folder) == set()
    assert list((folder / "new").iterdir())

    interpreter = get(make_environments())

    assert Path(interpreter).exists()
    assert list((folder / "new").iterdir()) == []


def test_what_killed_builders_of_others_have_left_is_removed(make_environments: Make, folder: Path) -> None:
    left = folder / "new" / f"{name_of('other')}.abcdefgh"
    left.mkdir(parents=True)
    folder.chmod(0o700)
    (left / "half").touch()

    get(make_environments())

    assert not left.exists()


def test_beyond_the_limit_those_go_whose_last_use_is_longest_ago(
    make_environments: Make, folder: Path, wheels: Path
) -> None:
    for name in "abcd":
        make_wheel(wheels, name)
    environments = make_environments()
    for name in "abc":
        environments.release(get(environments, name))
    environments.release(get(environments, "a"))  # used again
    limit = sum(size_of(folder, name) for name in ready(folder)) + 100

    get(make_environments(limit), "d")

    assert ready(folder) == {name_of("a"), name_of("c"), name_of("d")}
    assert not (folder / "logs" / f"{name_of('b')}.log").exists()
    assert not (folder / "locks" / name_of("b")).exists()


def test_one_that_another_process_uses_stays(start: Start, make_environments: Make, folder: Path, wheels: Path) -> None:
    make_wheel(wheels, "a")
    make_wheel(wheels, "b")
    user = start("a")
    used, _ = said(user)
    size = size_of(folder, name_of("a"))

    with pytest.raises(EnvironmentFailure, match=rf"bytes; env-limit allows {size + 100}, of which \d+ are in use"):
        get(make_environments(size + 100), "b")
    assert Path(used).exists()

    user.kill()
    user.wait()
    get(make_environments(size + 100), "b")
    assert ready(folder) == {name_of("b")}


def test_it_stays_until_all_models_have_released_it(make_environments: Make, folder: Path, wheels: Path) -> None:
    make_wheel(wheels, "a")
    make_wheel(wheels, "b")
    environments = make_environments()
    used = get(environments, "a")
    assert get(environments, "a") == used
    other = make_environments(size_of(folder, name_of("a")) + 100)

    environments.release(used)
    with pytest.raises(EnvironmentFailure):
        get(other, "b")
    environments.release(used)
    get(other, "b")

    assert ready(folder) == {name_of("b")}


def test_one_that_is_larger_than_the_limit_is_refused_and_removed(make_environments: Make, folder: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"it takes \d+ bytes; env-limit allows 1000, of which 0 are in use"):
        get(make_environments(1000))

    assert ready(folder) == set()
    assert list((folder / "new").iterdir()) == []


def test_the_traces_of_what_could_not_be_built_are_bounded(make_environments: Make, folder: Path) -> None:
    get(make_environments())
    for number in range(60):
        (folder / "locks" / f"failed-{number}").touch()
        (folder / "logs" / f"failed-{number}.log").touch()
        os.utime(folder / "locks" / f"failed-{number}", (number, number))

    get(make_environments(), "mlflow==1.0")

    assert len(list((folder / "locks").iterdir())) == 52
    assert {path.name for path in (folder / "logs").iterdir() if path.name.startswith("failed")} == {
        f"failed-{number}.log" for number in range(10, 60)
    }
