"""
The plugin's TorchScript archives against a real RedisAI: they have no `*.debug_pkl`.

libtorch 1.11 can't read those of newer versions. It tries to when it reports an operator or a version that it lacks,
and then ends the server's process. Without these entries it refuses the archive.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "mlflow-redisai[torch]"')

from contract.forms import name_of  # noqa: E402
from mlflow_redisai import RedisAIClient  # noqa: E402
from support import torch_models as models  # noqa: E402  # it imports torch
from support.recording import recorded  # noqa: E402
from support.servers import Server  # noqa: E402
from support.torch_models import save_torch  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning:torch",  # torch deprecates TorchScript, the format of RedisAI's backend TORCH
        "ignore:`torch.jit:DeprecationWarning",
    ),
]


def archives(commands: list[list[bytes]]) -> list[list[str]]:
    """Return the names of the entries in every TorchScript archive among the commands."""
    found = []
    for command in commands:
        if name_of(command) == "AI.MODELSTORE" and command[2] == b"TORCH":
            blob = b"".join(command[command.index(b"BLOB") + 1 :])
            with zipfile.ZipFile(io.BytesIO(blob)) as archive:
                found.append(archive.namelist())
    return found


@pytest.mark.parametrize(
    ("make", "options"),
    [(models.Images, {"backend": "TORCH"}), (models.Spectrum, {}), (models.Spectrum, {"verify": "off"})],
    ids=["asked for", "because ONNX lacks an operator", "without verification"],
)
def test_no_archive_has_debug_entries(
    new_engine: Callable[..., Server], make: type[Any], options: dict[str, Any], tmp_path: Path
) -> None:
    """Neither where it is tried, under a temporary key that then becomes its name, nor when only options change."""
    path = save_torch(tmp_path / "m", make().eval(), input_example=models.digits()[0][:4])
    with recorded(new_engine()) as recording:
        client = RedisAIClient(recording.target)
        created = client.create_deployment("m", str(path), config=options)
        client.update_deployment("m", config={"tag": "v2"})

    sent = archives(recording.in_order)
    assert created["backend"] == "TORCH"
    assert len(sent) == 2
    assert not [name for names in sent for name in names if name.endswith(".debug_pkl")]
    assert all(any(name.endswith("/data.pkl") for name in names) for names in sent)
