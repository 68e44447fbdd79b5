"""The user who runs models: what keeps it from an interpreter."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from redisai_engine.environments.environments import Environments
from redisai_engine.errors import EnvironmentFailure
from redisai_engine.users import ModelUser

STRANGER = ModelUser("stranger", 54321, 54321)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, as far as this machine's temporary folder is one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve()
        path.chmod(0o755)
        yield path


def program(folder: Path) -> Path:
    (folder / "a" / "bin").mkdir(parents=True)
    path = folder / "a" / "bin" / "python"
    path.touch(0o755)
    path.chmod(0o755)
    return path


def test_a_user_is_known_by_its_name() -> None:
    own = pwd.getpwuid(os.getuid())

    assert ModelUser.named("") is None
    assert ModelUser.named(own.pw_name) == ModelUser(own.pw_name, own.pw_uid, own.pw_gid)


def test_nothing_keeps_a_user_from_what_is_open(open_folder: Path) -> None:
    assert STRANGER.obstacle(str(program(open_folder))) is None


@pytest.mark.parametrize("closed", [".", "a", "a/bin", "a/bin/python"])
def test_what_is_closed_to_others_is_found(open_folder: Path, closed: str) -> None:
    path = program(open_folder)
    (open_folder / closed).chmod(0o700)
    owner = ModelUser("owner", os.getuid(), os.getgid())

    assert STRANGER.obstacle(str(path)) == open_folder / closed
    assert owner.obstacle(str(path)) is None


def test_what_a_link_leads_to_counts(open_folder: Path) -> None:
    path = program(open_folder)
    (open_folder / "a").chmod(0o700)
    link = open_folder / "python"
    link.symlink_to(path)

    assert STRANGER.obstacle(str(link)) in (open_folder / "a", link)


def test_an_environment_that_the_user_can_not_reach_is_refused(open_folder: Path, variables: dict[str, str]) -> None:
    (open_folder / "closed").mkdir(mode=0o700)
    environments = Environments(open_folder / "closed" / "environments", 0, user=STRANGER, variables=variables)

    with pytest.raises(EnvironmentFailure) as caught:
        environments.interpreter({"kind": "uv", "requirements": ["mlflow", "numpy"]}, {}, [].append, 120.0)

    assert caught.value.wire == (
        f"ERR no environment for the model: worker-user stranger may not enter or execute {open_folder / 'closed'}"
    )
    environments.close()


def test_the_folder_may_be_passed_but_not_read_by_the_user(open_folder: Path, variables: dict[str, str]) -> None:
    folder = open_folder / "environments"
    environments = Environments(folder, 0, user=ModelUser("owner", os.getuid(), os.getgid()), variables=variables)
    before = os.umask(0o077)
    try:
        interpreter = environments.interpreter(
            {"kind": "uv", "requirements": ["mlflow", "numpy"]}, {}, [].append, 120.0
        )
    finally:
        os.umask(before)

    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in (".", "ready", "new", "logs", "locks")}
    assert modes == {".": 0o711, "ready": 0o711, "new": 0o700, "logs": 0o700, "locks": 0o700}
    assert STRANGER.obstacle(os.path.dirname(interpreter)) is None
    environments.close()
