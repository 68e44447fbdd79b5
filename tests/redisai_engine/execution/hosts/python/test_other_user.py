"""Workers with another user's rights, which an engine of root's gives them."""

from __future__ import annotations

import os
import pwd
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import redisai_engine
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.users import ModelUser
from support.obedient import obedient, workers_of
from support.servers import Server, start_engine
from support.waiting import is_running, wait_until
from support.wire import Wire

WAIT_S = 240.0  # importing MLflow may take a minute on a busy machine
OTHER = "nobody"


@pytest.fixture(scope="module")
def serving() -> Iterator[Server]:
    """An engine of root's in a folder that others may enter."""
    if os.getuid():
        pytest.skip("only root may start processes of other users")
    user = ModelUser.named(OTHER)
    assert user is not None
    for needed in (sys.executable, *redisai_engine.__path__, str(Path(os.__file__).parent)):
        if (obstacle := user.obstacle(needed)) is not None:
            pytest.skip(f"{OTHER} may not enter {obstacle}, where Python or the engine is")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        engine = start_engine(Path(folder) / "engine", "--python-models", "--worker-user", OTHER)
        yield engine
        engine.stop()


def told(wire: Wire, command: str) -> str:
    """Have the model do something, and return its answer."""
    text = ("AI.TENSORSET", "x", "STRING", 1, "VALUES", command)
    run = ("AI.MODELEXECUTE", "{m}", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    reply = wire.ask("AI.DAGEXECUTE", "ROUTING", "{m}", "|>", *text, "|>", *run, "|>", "AI.TENSORGET", "y", "VALUES")
    assert isinstance(reply, list)
    errors = [part.text for part in reply if isinstance(part, ReplyError)]
    return errors[0] if errors else reply[-1][0].decode()


def test_a_worker_has_the_rights_of_that_user_alone(serving: Server, tmp_path: Path) -> None:
    other = pwd.getpwnam(OTHER)
    secret = tmp_path / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)

    with Wire(serving.port, timeout_s=WAIT_S) as wire:
        assert wire.ask("AI.MODELSTORE", "{m}", "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"

        assert told(wire, "run __import__('os').getresuid()") == str((other.pw_uid,) * 3)
        assert told(wire, "run __import__('os').getresgid()") == str((other.pw_gid,) * 3)
        assert told(wire, "run 0 in __import__('os').getgroups()") == "False"
        assert "Permission denied" in told(wire, f"run open({str(secret)!r}).read()")
        (worker,) = workers_of(serving)
        wire.ask("DEL", "{m}")
        wait_until(lambda: not is_running(worker.pid), what="the end of the worker, whose user isn't the engine's")
