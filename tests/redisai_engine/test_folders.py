"""Temporary files and folders are private, and made where Python makes its own."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from redisai_engine.folders import PrivateFolder, new_file


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_file_has_no_name_and_is_nobody_elses(place: Path) -> None:
    with new_file() as file:
        file.write(b"content")
        file.seek(0)
        status = os.fstat(file.fileno())

        assert file.read() == b"content"
        assert (status.st_nlink, stat.S_IMODE(status.st_mode)) == (0, 0o600)
        assert status.st_dev == place.stat().st_dev
        assert not os.get_inheritable(file.fileno())
    assert list(place.iterdir()) == []


def test_each_file_is_another(place: Path) -> None:
    with new_file() as one, new_file() as other:
        one.write(b"1")
        one.flush()

        assert other.read() == b""


def test_a_file_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/shm is another device than /tmp on every Linux."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm")
    monkeypatch.setenv("TMPDIR", "/dev/shm")

    with new_file() as file:
        assert os.fstat(file.fileno()).st_dev == Path("/dev/shm").stat().st_dev


@pytest.mark.parametrize("named", [None, "", "/nowhere", __file__])
def test_what_is_no_folder_is_passed_over_as_python_does(monkeypatch: pytest.MonkeyPatch, named: str | None) -> None:
    for variable in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(variable, raising=False)
    if named is not None:
        monkeypatch.setenv("TMPDIR", named)
    monkeypatch.setattr(tempfile, "tempdir", None)  # where it keeps what it has found

    folder = PrivateFolder()
    parent = folder.path.parent
    folder.remove()

    assert str(parent) == tempfile.gettempdir()


def test_a_folder_is_nobody_elses(place: Path) -> None:
    folder = PrivateFolder()

    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700

    (folder.path / "below").mkdir()
    folder.remove()
    assert not folder.path.exists()


def test_names_differ(place: Path) -> None:
    folders = [PrivateFolder() for _ in range(3)]

    assert len({folder.path for folder in folders}) == 3

    for folder in folders:
        folder.remove()
