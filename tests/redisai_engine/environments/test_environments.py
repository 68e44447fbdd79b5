"""Environments, built by the real uv from small wheels: what is built, found again, and refused with which words."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from redisai_engine.config import Settings
from redisai_engine.environments.environments import Environments, environments_of
from redisai_engine.environments.uv import find_uv
from redisai_engine.errors import EngineClosing, EnvironmentFailure
from support.wheels import make_wheel, package_index

NEEDED = ["mlflow", "numpy"]
MINOR = f"3.{sys.version_info.minor}"
SECONDS = 120.0

Make = Callable[..., Environments]


def wanted(*requirements: str, python: str | None = None) -> dict[str, object]:
    return {"kind": "uv", "python": python, "requirements": [*NEEDED, *requirements]}


def built(environments: Environments, *requirements: str, python: str | None = None) -> str:
    return environments.interpreter(wanted(*requirements, python=python), {}, [].append, SECONDS)


def refusal(environments: Environments, wish: dict[str, object], files: dict[str, bytes] | None = None) -> str:
    with pytest.raises(EnvironmentFailure) as caught:
        environments.interpreter(wish, files or {}, [].append, SECONDS)
    return caught.value.wire.removeprefix("ERR no environment for the model: ")


def answer(interpreter: str, program: str) -> str:
    command = [interpreter, "-I", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env={}).stdout.strip()


def ready(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "environments" / "ready").glob("*"))


def in_progress(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "environments" / "new").glob("*"))


# -- built and found again -------------------------------------------------------------------------


def test_an_environment_has_what_was_wanted_and_works_where_it_lies(make_environments: Make, tmp_path: Path) -> None:
    """It was built in another folder. The scripts of packages name their interpreter, too."""
    interpreter = built(make_environments(), python=MINOR)

    prefix = Path(interpreter).parent.parent
    assert prefix.parent == tmp_path / "environments" / "ready"
    assert answer(interpreter, "import mlflow, numpy, sys; print(sys.prefix)") == str(prefix)
    script = subprocess.run([prefix / "bin" / "where-am-i"], capture_output=True, text=True, check=True, timeout=60)
    assert script.stdout.strip() == str(prefix)
    assert json.loads((prefix / "environment.json").read_text())["requirements"] == NEEDED
    assert in_progress(tmp_path) == []


def test_the_folder_is_private(make_environments: Make, tmp_path: Path) -> None:
    built(make_environments())

    assert stat.S_IMODE((tmp_path / "environments").stat().st_mode) == 0o700


def test_a_folder_that_others_may_change_is_refused(make_environments: Make, tmp_path: Path) -> None:
    """Whoever could put an environment there would choose what the engine runs."""
    folder = tmp_path / "environments"
    folder.mkdir()
    folder.chmod(0o777)

    assert refusal(make_environments(), wanted()) == (
        f"env-dir {folder} is another user's, or others may write into it"
    )


def test_it_is_built_once_and_found_by_the_next_engine_without_uv(make_environments: Make, tmp_path: Path) -> None:
    """Nothing is left to install from, and there is no uv, so building it again would fail."""
    told: list[str] = []
    interpreter = make_environments().interpreter(wanted(), {}, told.append, SECONDS)
    assert any("numpy" in line for line in told)
    built_at = Path(interpreter).lstat().st_mtime_ns

    again: list[str] = []
    next_one = make_environments(UV_FIND_LINKS=str(tmp_path / "nothing"), UV_OFFLINE="1")
    assert next_one.interpreter(wanted(), {}, again.append, SECONDS) == interpreter

    assert again == []
    assert Path(interpreter).lstat().st_mtime_ns == built_at


def test_another_patch_version_of_the_same_python_is_used_and_told(make_environments: Make) -> None:
    told: list[str] = []

    interpreter = make_environments().interpreter(wanted(python=f"{MINOR}.99"), {}, told.append, SECONDS)

    assert told[0].startswith(f"Python {MINOR}.99 is not on this machine, so this is used: /")
    assert answer(interpreter, "import sys; print(sys.version_info.minor)") == str(sys.version_info.minor)


def test_an_environment_whose_python_is_gone_is_built_again(make_environments: Make) -> None:
    environments = make_environments()
    interpreter = built(environments)
    environments.release(interpreter)
    Path(interpreter).unlink()
    Path(interpreter).symlink_to("/nowhere/python")

    assert built(environments) == interpreter
    assert answer(interpreter, "print(1)") == "1"


def test_the_environment_of_a_worker_knows_nothing_of_the_index(make_environments: Make, tmp_path: Path) -> None:
    """Neither in a file nor in the log, whose lines are those that were told."""
    told: list[str] = []
    environments = make_environments(UV_INDEX="https://somebody:geheim@127.0.0.1:1/simple")

    environments.interpreter(wanted("--extra-index-url https://me:geheim@host/"), {}, told.append, SECONDS)

    assert "left out: --extra-index-url https://***@host/; the engine's own package index is used" in told
    texts = [path.read_bytes() for path in (tmp_path / "environments").rglob("*") if path.is_file()]
    assert [text for text in texts if b"geheim" in text] == []
    logs = [path.read_text() for path in (tmp_path / "environments" / "logs").iterdir()]
    assert [log.splitlines()[1:-1] for log in logs] == [told]


def test_no_package_runs_code_while_it_is_installed(make_environments: Make, wheels: Path, tmp_path: Path) -> None:
    """What .pth files say runs at each start of their interpreter. The builder knows logins, a model doesn't."""
    witness = tmp_path / "witness"
    line = f"import os; open({str(witness)!r}, 'w').write(' '.join(os.environ))\n"
    make_wheel(wheels, "spy", files={"spy.pth": line})

    interpreter = built(make_environments(), "spy")

    assert not witness.exists()
    answer(interpreter, "print(1)")
    assert "UV_" not in witness.read_text()


# -- a uv.lock -------------------------------------------------------------------------------------


@pytest.fixture
def index(wheels: Path) -> Iterator[str]:
    """A package index, whose packages have hashes."""
    make_wheel(wheels, "extra", requires=["extra_of_extra"])
    make_wheel(wheels, "extra_of_extra")
    with package_index(wheels) as address:
        yield address


@pytest.fixture
def locked(index: str, variables: dict[str, str], tmp_path: Path) -> dict[str, bytes]:
    """A uv.lock and its pyproject.toml, written by uv, of a project that needs one more package."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        f'[project]\nname = "mine"\nversion = "1"\nrequires-python = ">={MINOR}"\n'
        'dependencies = ["mlflow", "numpy", "extra"]\n'
    )
    command = [find_uv(), "lock", "--quiet", "--default-index", index]
    environment = {name: value for name, value in variables.items() if name != "UV_FIND_LINKS"}
    subprocess.run(command, cwd=project, env=environment, check=True, timeout=60)
    return {name: (project / name).read_bytes() for name in ("uv.lock", "pyproject.toml")}


LOCKED = {"kind": "uv", "lock": True}


def test_a_lock_decides_what_is_installed(make_environments: Make, locked: dict[str, bytes], wheels: Path) -> None:
    """It comes from the engine's index, not from where the lock says."""
    make_wheel(wheels, "extra", "2.0")  # newer than the lock

    interpreter = make_environments().interpreter(LOCKED, locked, [].append, SECONDS)

    assert answer(interpreter, "import extra, extra_of_extra; print(extra.__version__)") == "1.0"


def test_a_package_that_is_not_the_locked_one_is_refused(
    make_environments: Make, locked: dict[str, bytes], wheels: Path
) -> None:
    make_wheel(wheels, "extra", files={"more.py": ""})

    text = refusal(make_environments(), LOCKED, locked)

    assert text.startswith("what the package index has as extra==1.0 isn't what the hashes say (uv: ")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ('git = "https://host/x?rev=a#0123456789012345678901234567890123456789"', "its requirement 'extra @ git+https"),
        ('editable = "/etc"', "its requirement '-e /etc'"),
        ('directory = "/etc"', "its requirement 'file:///etc'"),
        ('url = "https://host/extra-1.0-py3-none-any.whl"', "its requirement 'extra @ https://host/extra-1.0-py3"),
    ],
)
def test_a_lock_may_not_name_other_sources(
    make_environments: Make, locked: dict[str, bytes], source: str, shown: str
) -> None:
    head, _, tail = locked["uv.lock"].decode().partition('name = "extra"\nversion = "1.0"\nsource = ')
    wheels = tail.index("wheels = [")
    text = f'{head}name = "extra"\nversion = "1.0"\nsource = {{ {source} }}\n' + tail[tail.index("]\n", wheels) + 2 :]

    assert refusal(make_environments(), LOCKED, {**locked, "uv.lock": text.encode()}).startswith(shown)


def test_a_lock_that_is_none_is_refused(make_environments: Make) -> None:
    text = refusal(make_environments(), LOCKED, {"pyproject.toml": b"[project]", "uv.lock": b"version = [["})

    assert text.startswith("uv can't build it: ")


def test_a_package_that_does_not_run_on_this_python_is_named(make_environments: Make, wheels: Path, index: str) -> None:
    make_wheel(wheels, "modern", python=">=3.99")

    text = refusal(make_environments(UV_NO_INDEX="", UV_FIND_LINKS="", UV_DEFAULT_INDEX=index), wanted("modern"))

    assert text.startswith(f"modern doesn't run on Python {MINOR}.")


def test_an_index_that_wants_a_login_gets_the_operators(make_environments: Make, wheels: Path, tmp_path: Path) -> None:
    with package_index(wheels, login="me:geheim") as address:
        without = make_environments(UV_NO_INDEX="", UV_FIND_LINKS="", UV_DEFAULT_INDEX=address)
        assert refusal(without, wanted()).startswith(
            "the package index refuses the engine: a login belongs into the index's URL or UV_INDEX_NAME_PASSWORD (uv: "
        )
        login = address.replace("http://", "http://me:geheim@")
        built(make_environments(UV_NO_INDEX="", UV_FIND_LINKS="", PIP_INDEX_URL=login))

    texts = [path.read_bytes() for path in (tmp_path / "environments").rglob("*") if path.is_file()]
    assert [text for text in texts if b"geheim" in text] == []


# -- refused, with what would help ----------------------------------------------------------------


def test_nothing_half_built_is_left_of_a_failure(make_environments: Make, tmp_path: Path) -> None:
    refusal(make_environments(), wanted("nosuch==1"))

    assert ready(tmp_path) == in_progress(tmp_path) == []


NOT_THERE = ": UV_INDEX, or PIP_EXTRA_INDEX_URL, names another index (uv: "


@pytest.mark.parametrize(
    ("requirements", "text"),
    [
        (["nosuch==1"], "the package index has no nosuch" + NOT_THERE),
        (["numpy==7"], "the package index has no numpy==7" + NOT_THERE),
        (["numpy>7"], "the package index has no numpy>7" + NOT_THERE),
        (["needy"], "the package index has no numpy>=8" + NOT_THERE),
        (["numpy==1.0", "numpy==2.0"], "its requirements exclude each other (uv: "),
    ],
)
def test_the_package_that_is_missing_is_named(
    make_environments: Make, wheels: Path, requirements: list[str], text: str
) -> None:
    make_wheel(wheels, "needy", requires=["numpy>=8"])

    assert refusal(make_environments(), wanted(*requirements)).startswith(text)


@pytest.mark.parametrize("tag", ["cp39-cp39-manylinux_2_17_x86_64", "cp311-cp311-win_amd64", "py2-none-any"])
def test_a_package_without_a_wheel_for_this_python_is_named(make_environments: Make, wheels: Path, tag: str) -> None:
    make_wheel(wheels, "other", tag=tag)

    text = refusal(make_environments(), wanted("other"))

    assert text.startswith(f"other==1.0 has no wheel for Python {MINOR}.")
    assert ": an index that has one is needed, or --env-source-builds (uv: " in text


@pytest.mark.parametrize("missing", NEEDED)
def test_what_serves_the_model_must_be_among_the_packages(make_environments: Make, missing: str) -> None:
    requirements = [name for name in NEEDED if name != missing]

    assert refusal(make_environments(), {"kind": "uv", "requirements": requirements}) == (
        f"its requirements don't bring {missing}: add it to the model's requirements"
    )


def test_a_wrong_hash_is_told(make_environments: Make, wheels: Path) -> None:
    hashes = [make_wheel(wheels, name) for name in NEEDED]
    lines = [f"{name}==1.0 --hash=sha256:{digest}" for name, digest in zip(NEEDED, reversed(hashes), strict=True)]

    text = refusal(make_environments(), {"kind": "uv", "requirements": lines})

    assert text.startswith("what the package index has as ")
    assert "isn't what the hashes say" in text


def test_an_index_that_does_not_answer_is_told_without_its_password(make_environments: Make, tmp_path: Path) -> None:
    told: list[str] = []
    environments = make_environments(UV_NO_INDEX="", UV_DEFAULT_INDEX="http://me:geheim@127.0.0.1:9/simple")

    with pytest.raises(EnvironmentFailure) as caught:
        environments.interpreter(wanted("other"), {}, told.append, SECONDS)

    text = caught.value.wire.partition("model: ")[2]
    assert text.startswith("the package index can't be reached: UV_DEFAULT_INDEX, or PIP_INDEX_URL, names the one ")
    assert "127.0.0.1:9" in text
    assert "geheim" not in text + "".join(told)
    assert "geheim" not in "".join(path.read_text() for path in (tmp_path / "environments" / "logs").iterdir())


def test_a_python_that_is_not_there_is_told(make_environments: Make) -> None:
    assert refusal(make_environments(), wanted(python="3.77.1")).startswith(
        "this machine has no Python 3.77, and uv doesn't download one (uv: "
    )


def test_building_ends_with_its_time(make_environments: Make, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="building it takes longer than env-timeout allows"):
        make_environments().interpreter(wanted(), {}, [].append, 0.0)

    assert ready(tmp_path) == in_progress(tmp_path) == []


def test_building_ends_with_the_engine(make_environments: Make, tmp_path: Path) -> None:
    environments = make_environments()

    def close_at_once(line: str) -> None:
        environments.close()

    begun = monotonic()
    with pytest.raises(EngineClosing):
        environments.interpreter(wanted(), {}, close_at_once, SECONDS)

    assert monotonic() - begun < SECONDS / 2
    assert ready(tmp_path) == in_progress(tmp_path) == []


def test_without_uv_it_is_said_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(EnvironmentFailure) as caught:
        find_uv()

    assert caught.value.wire == (
        "ERR no environment for the model: the engine needs uv to build it: pip install 'mlflow-redisai[engine]'"
    )


def test_a_disk_without_space_is_told(make_environments: Make, tmp_path: Path, wheels: Path) -> None:
    """A file system of a megabyte, where this user may mount one."""
    folder = tmp_path / "environments"
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        make_wheel(wheels, "large", files={"large/data": "x" * 2**20})

        assert refusal(make_environments(), wanted("large")).startswith("there is no space left on the disk of env-dir")
        assert in_progress(tmp_path) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# -- other kinds -----------------------------------------------------------------------------------


def test_local_is_the_engines_own(make_environments: Make, tmp_path: Path) -> None:
    assert make_environments().interpreter({"kind": "local"}, {}, print, 1.0) == sys.executable
    assert not (tmp_path / "environments").exists()


@pytest.mark.parametrize("kind", ["conda", None, 7])
def test_another_kind_is_refused(make_environments: Make, kind: object) -> None:
    assert refusal(make_environments(), {"kind": kind}) == f"{str(kind)!r} isn't local, path or uv"


def test_a_path_is_used_as_it_is(make_environments: Make) -> None:
    environments = make_environments()
    interpreter = built(environments)

    assert environments.interpreter({"kind": "path", "path": interpreter}, {}, print, 1.0) == interpreter
    environments.release("/usr/bin/python")


# -- settings --------------------------------------------------------------------------------------


def test_the_folder_is_in_the_users_cache_unless_it_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def folder(**settings: str) -> Path:
        return environments_of(Settings(**settings)).folder

    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert folder() == Path("/home/me/.cache/redisai-engine/environments")
    assert folder(env_dir="~/mine") == Path("/home/me/mine")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert folder() == Path("/cache/redisai-engine/environments")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    assert folder(data_dir="data") == Path(os.getcwd()) / "data" / "environments"
