"""A Python model that does what it is told, archives of models, and the workers that an engine has started."""

from __future__ import annotations

import io
import json
import tempfile
import textwrap
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from support.servers import Server
from support.waiting import is_running, wait_until

#: A model that does what its text says, one command for each row, and answers with text.
OBEDIENT = """
    import ctypes, os, signal, subprocess, sys, time
    import mlflow
    from mlflow.pyfunc import PythonModel

    class Obedient(PythonModel):
        def predict(self, context, model_input, params=None):
            return [str(self.obey(*text.split(" ", 1))) for text in model_input]

        def obey(self, command, argument=""):
            if command == "exit":
                os._exit(int(argument))
            if command == "leave":
                sys.exit(int(argument))
            if command == "kill":
                os.kill(os.getpid(), int(argument))
            if command == "hang":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                while True:
                    pass
            if command == "wait":
                time.sleep(float(argument))
            if command == "eat":
                return len(bytearray(int(argument)))
            if command == "print":
                print("the model says", argument)
            if command == "flood":
                for number in range(int(argument)):
                    print("x" * 100)
            if command == "run":
                return eval(argument, {"os": os, "sys": sys, "subprocess": subprocess})
            if command == "start":
                return subprocess.Popen(["sleep", "1000"], start_new_session=argument == "alone").pid
            return f"{command} {argument}"

    mlflow.models.set_model(Obedient())
"""


def archive(folder: Path, about: dict[str, Any] | None = None, **more: bytes) -> bytes:
    """Return the archive of a saved model. `about` is redisai.json, `more` are other files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.writestr(f"model/{path.relative_to(folder)}", path.read_bytes())
        if about is not None:
            file.writestr("redisai.json", json.dumps({"format": 1, **about}))
        for name, content in more.items():
            file.writestr(name, content)
    return packed.getvalue()


@cache
def saved_code(code: str) -> Path:
    """Save a model that a program defines, and return its folder."""
    import mlflow

    folder = Path(tempfile.mkdtemp())
    (folder / "code.py").write_text(textwrap.dedent(code))
    mlflow.pyfunc.save_model(folder / "model", python_model=str(folder / "code.py"), pip_requirements=[])
    return folder / "model"


def obedient(**about: Any) -> bytes:
    """Return the archive of a model that obeys."""
    return archive(saved_code(OBEDIENT), about)


def forerunners_of(engine: Server) -> list[psutil.Process]:
    """Return the processes from which the guards of an engine's workers are forked."""
    return [child for child in _programs(engine) if '"control"' in _arguments(child)[-1]]


def guards_of(engine: Server) -> list[psutil.Process]:
    """Return the guards of an engine's workers, but those whose forerunner has ended."""
    forerunners = forerunners_of(engine)
    alone = [child for child in _programs(engine) if child not in forerunners]
    return [*alone, *(guard for each in forerunners for guard in _children(each))]


def workers_of(engine: Server) -> list[psutil.Process]:
    """Return an engine's workers of Python models."""
    return [worker for guard in guards_of(engine) for worker in _children(guard)]


def only_worker_of(engine: Server) -> psutil.Process:
    """Return an engine's only worker. One that another test has ended may take a while to go."""
    (worker,) = wait_until(lambda: found if len(found := workers_of(engine)) == 1 else [], what="one worker")
    return worker


def _programs(engine: Server) -> list[psutil.Process]:
    children = _children(psutil.Process(engine.process.pid))
    return [each for each in children if any("python/program.py" in word for word in _arguments(each))]


# A process may end while it is looked at.


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [child for child in process.children() if is_running(child.pid)]
    except psutil.NoSuchProcess:
        return []


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline()) or [""]
    except psutil.NoSuchProcess:
        return [""]
