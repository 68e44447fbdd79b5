"""Ways to TorchScript: if a trace would hold only for the example, another way is used."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "mlflow-redisai[torch]"')

from mlflow_redisai.models.torch import torchscript  # noqa: E402  # it imports torch
from support import torch_models as models  # noqa: E402  # it imports torch
from support.torch_models import deploy_torch, save_torch  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch",  # torch deprecates TorchScript, the format of RedisAI's backend TORCH
    "ignore:`torch.jit:DeprecationWarning",
)


def test_a_branch_on_values_is_kept(table: Any, tmp_path: Path) -> None:
    """A trace would always take the example's branch."""
    frame, _ = models.cancer()
    module = models.Doubting(table).eval()
    path = save_torch(tmp_path / "m", module, input_example=frame[:2], serialization_format="pickle")

    deployed = deploy_torch(path)

    few, many = frame[:2], frame
    assert few.to_numpy().sum() < 30000 < many.to_numpy().sum()
    assert deployed.deployable.backend == "ONNX"
    deployed.assert_equals_pyfunc(few)
    deployed.assert_equals_pyfunc(many)


def entries(blob: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("make", [models.Images, models.Spectrum])
def test_archives_lack_what_only_debuggers_read(make: type[torch.nn.Module]) -> None:
    """Everything else is as torch writes it, and where torch places it."""
    program = torch.jit.trace(make().eval(), rows())
    written = io.BytesIO()
    torch.jit.save(program, written)

    blob = torchscript.to_blob(program)

    before, after = entries(written.getvalue()), entries(blob)
    assert [name for name in before if name.endswith(".debug_pkl")]
    assert after == {name: content for name, content in before.items() if not name.endswith(".debug_pkl")}
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert not [entry for entry in archive.infolist() if content_at(blob, entry) % 64]


def content_at(blob: bytes, entry: zipfile.ZipInfo) -> int:
    name, extra = struct.unpack("<HH", blob[entry.header_offset + 26 : entry.header_offset + 30])
    return int(entry.header_offset + 30 + name + extra)


def rows() -> torch.Tensor:
    return torch.from_numpy(models.digits()[0][:3])


@pytest.mark.parametrize("make", [models.Images, models.Spectrum])
def test_archives_without_debug_entries_answer_the_same(make: type[torch.nn.Module]) -> None:
    program = torch.jit.trace(make().eval(), rows())

    again = torch.jit.load(io.BytesIO(torchscript.to_blob(program)))

    with torch.no_grad():
        assert torch.equal(again(rows()), program(rows()))
