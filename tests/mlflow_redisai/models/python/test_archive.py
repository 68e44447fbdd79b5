"""A model's folder becomes one file: the same bytes each time, with what is in the folder and nothing else."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.python import archive
from mlflow_redisai.models.python.archive import archived

ABOUT = {"format": 1, "environment": {"kind": "local"}, "replicas": 1, "inputs": "parcel"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    files = {"MLmodel": b"flavors: {}", "code/mine.py": b"X = 1", "data/weights.bin": os.urandom(3_000_000)}
    files |= {"code/__pycache__/mine.pyc": b"left out"}
    for name, content in files.items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(content)
    return model


def contents(blob: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(blob)) as found:
        assert found.testzip() is None
        return {name: found.read(name) for name in found.namelist()}


def test_everything_is_in_it_in_order(folder: Path):
    found = contents(archived(folder, ABOUT, "the model"))

    assert list(found) == ["redisai.json", "model/MLmodel", "model/code/mine.py", "model/data/weights.bin"]
    assert json.loads(found["redisai.json"]) == ABOUT
    assert found["model/data/weights.bin"] == (folder / "data" / "weights.bin").read_bytes()


def test_dates_and_rights_change_nothing(folder: Path):
    before = archived(folder, ABOUT, "the model")
    os.utime(folder / "MLmodel", (1_500_000_000, 1_500_000_000))
    (folder / "code" / "mine.py").chmod(0o600)

    assert archived(folder, ABOUT, "the model") == before


def test_links_within_the_folder_are_followed(folder: Path):
    (folder / "again").symlink_to("data/weights.bin")

    found = contents(archived(folder, ABOUT, "the model"))

    assert found["model/again"] == found["model/data/weights.bin"]


@pytest.mark.parametrize("target", ["/etc/hostname", "../../secret", "code"])
def test_links_that_lead_elsewhere_are_refused(folder: Path, target: str):
    (folder.parent / "secret").write_text("s")
    (folder / "data" / "link").symlink_to(target)
    says = "leads to no file" if target == "code" else "leads out of its folder"

    with pytest.raises(NotConvertible, match=f"^the model has a link, data/link, that {says}; put the file"):
        archived(folder, ABOUT, "the model")


def test_a_folder_that_leads_out_is_refused(folder: Path):
    (folder / "elsewhere").symlink_to(folder.parent)

    with pytest.raises(NotConvertible, match="has a link, elsewhere, that leads out of its folder"):
        archived(folder, ABOUT, "the model")


def test_a_model_that_is_too_large_is_told_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 2 << 20)

    with pytest.raises(NotConvertible) as error:
        archived(folder, ABOUT, "the model")

    assert error.value.message == (
        "the model has 2 MiB of files, and a model that is stored in Redis may have 2; log it without what it can "
        "fetch by itself"
    )
