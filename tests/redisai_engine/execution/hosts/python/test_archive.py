"""Archives that are not those of a model: the engine reads little of them, the worker the rest."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redisai_engine.errors import ModelLoadError
from redisai_engine.execution.hosts.python import program
from redisai_engine.execution.hosts.python.archive import Wanted, wanted_by

ABOUT = {"format": 1, "environment": {"kind": "path", "path": "/x"}, "replicas": 3, "later": "unknown"}


def packed(*files: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content, method)
    return into.getvalue()


MODEL = ("model/MLmodel", b"flavors: {}")
GOOD = packed(MODEL, ("model/data/x", b"1" * 1000), ("redisai.json", json.dumps(ABOUT).encode()))


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def unpacked(blob: bytes, folder: Path, most: int = 1 << 20) -> Path:
    """Have the worker's program unpack an archive, and return where the model is."""
    with tempfile.TemporaryFile() as file:
        file.write(blob)
        file.flush()
        given = {"blob": os.dup(file.fileno()), "folder": str(folder), "unpacked": most}
        return Path(program._unpacked(given))


def test_what_an_archive_asks_for_is_read() -> None:
    assert wanted_by(GOOD) == Wanted({"kind": "path", "path": "/x"}, 3)
    assert wanted_by(packed(MODEL)) == Wanted({"kind": "local"}, 1)


def test_files_that_decide_about_an_environment_are_read() -> None:
    about = json.dumps({"environment": {"kind": "uv", "lock": True}}).encode()

    wanted = wanted_by(packed(MODEL, ("model/uv.lock", b"locked"), ("redisai.json", about)))

    assert wanted.files == {"uv.lock": b"locked"}


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        (b"{", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "is no JSON object"),
        (b'{"format": 2}', "has format 2; this engine knows format 1"),
        (b'{"environment": {"kind": "conda"}}', "its kind must be local, path or uv"),
        (b'{"environment": []}', "its kind must be local, path or uv"),
        (b'{"replicas": 0}', "has 0 replicas; allowed are whole numbers from 1 to 64"),
        (b'{"replicas": true}', "has True replicas"),
        (b'{"replicas": 65}', "has 65 replicas"),
    ],
)
def test_a_bad_description_is_named(about: bytes, problem: str) -> None:
    with pytest.raises(ModelLoadError, match=r"^ERR redisai.json in the archive ") as raised:
        wanted_by(packed(MODEL, ("redisai.json", about)))

    assert problem in str(raised.value)


def test_a_description_that_unpacks_to_much_is_refused() -> None:
    blob = packed(MODEL, ("redisai.json", bytes(50_000_000)), method=zipfile.ZIP_DEFLATED)

    with pytest.raises(ModelLoadError, match=r"redisai\.json in the archive is larger than 1048576 bytes"):
        wanted_by(blob)


def test_an_archive_of_too_many_files_is_refused_before_its_directory_is_read() -> None:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", *(20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))

    with pytest.raises(ModelLoadError, match="about 100001 files; at most 100000 are allowed"):
        wanted_by(entry * 100_001)


@pytest.mark.parametrize("blob", [b"", b"x" * 1000, b"PK\x05\x06" + bytes(18), GOOD[:-30]])
def test_what_is_no_archive_is_refused(blob: bytes) -> None:
    with pytest.raises(ModelLoadError, match=r"is not a whole ZIP archive|has no model/MLmodel"):
        wanted_by(blob)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_archive_is_read_or_refused(data: st.DataObject) -> None:
    """By the engine as by the worker."""
    blob = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))

    with contextlib.suppress(ModelLoadError):
        wanted_by(bytes(blob))
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(program.BadArchive, OSError):
            unpacked(bytes(blob), Path(folder) / "in")
        assert [path.name for path in Path(folder).iterdir()] in ([], ["in"])


def test_the_worker_unpacks_the_model_and_nothing_else(tmp_path: Path) -> None:
    folder = unpacked(GOOD, tmp_path)

    assert sorted(path.name for path in folder.rglob("*")) == ["MLmodel", "data", "x"]
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([("model/../../out", b"x"), MODEL], "leads out of its folder"),
        ([("model//etc/out", b"x"), MODEL], "leads out of its folder"),
        ([("model/a\\..\\out", b"x"), MODEL], "leads out of its folder"),
        ([(link("model/out"), b"/etc/passwd"), MODEL], "is neither a file nor a folder"),
        ([MODEL, ("model/large", bytes(2_000_000))], "is too large unpacked"),
        ([("model/MLmodel/inside", b"x")], "has no model/MLmodel"),
        ([("other/MLmodel", b"x")], "has no model/MLmodel"),
    ],
)
def test_the_worker_refuses_what_it_must_not_unpack(
    tmp_path: Path, files: list[tuple[Any, bytes]], problem: str
) -> None:
    with pytest.raises(program.BadArchive, match=problem):
        unpacked(packed(*files, method=zipfile.ZIP_DEFLATED), tmp_path / "in")

    assert {path.name for path in tmp_path.iterdir()} <= {"in"}


def test_the_worker_refuses_two_files_of_one_name(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        blob = packed(MODEL, ("model/x", b"1"), ("model/x", b"2"))

    with pytest.raises((program.BadArchive, FileExistsError)):
        unpacked(blob, tmp_path)
