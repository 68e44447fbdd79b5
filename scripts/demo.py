"""
The main use case, one command after another: train, deploy, predict, retrain, update, delete, stop.

Every command is printed as a user would type it, then run, followed by its output. All files are in one temporary
folder. However the demo ends, with Ctrl-C too, it leaves no server and no files behind. With --keep, the server and its
deployment stay, and the last lines say how to stop it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MODEL = "models:/wine@champion"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--keep", action="store_true", help="leave the server and its folder")
    keep = arguments.parse_args().keep
    signal.signal(signal.SIGTERM, _leave)
    # A short path, because the embedded redis-server listens on a unix socket, whose path may have at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="mlflow-redisai-demo-"))
    stage = Stage(folder)
    finished = False
    try:
        play(stage, keep=keep)
        finished = True
    finally:
        if not (keep and finished):
            stage.stop_server()
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def play(stage: Stage, *, keep: bool) -> None:
    """Play the demo. Each step is a command that also works outside it."""
    deployments = ("mlflow", "deployments")

    stage.say("Train a classifier on the wine data and register it, with nothing but MLflow")
    stage.export("MLFLOW_TRACKING_URI", f"sqlite:///{stage.folder}/mlflow.db")
    stage.run("python", str(EXAMPLES / "train_wine.py"), "--regularization", "100")

    stage.say("Start a server on this machine and deploy the model to it (port 0: any free port)")
    local = ("-C", "port=0", "-C", f"data_dir={stage.data_dir}")
    stage.run(*deployments, "run-local", "-t", "redisai", "--name", "wine", "-m", MODEL, *local)
    target = ("-t", stage.target())

    stage.say("Look at the deployment")
    stage.run(*deployments, "get", *target, "--name", "wine")

    stage.say("Predict from the command line, with three rows in a JSON file")
    stage.run("cut", "-c", "1-100", "rows.json")
    stage.run(*deployments, "predict", *target, "--name", "wine", "-I", "rows.json")

    stage.say("Predict from Python, for all rows, and compare with mlflow.pyfunc")
    stage.run("python", str(EXAMPLES / "predict_wine.py"), stage.target(), MODEL)

    stage.say("Retrain the model and deploy the new version under the same name, while the old one keeps serving")
    stage.run("python", str(EXAMPLES / "train_wine.py"), "--regularization", "1")
    stage.run(*deployments, "update", *target, "--name", "wine", "-m", MODEL)
    stage.run(*deployments, "predict", *target, "--name", "wine", "-I", "all-rows.json", "-O", "answers.json")
    stage.run("python", str(EXAMPLES / "predict_wine.py"), stage.target(), MODEL, "answers.json")

    stage.say("List the deployments")
    stage.run(*deployments, "list", *target)
    if keep:
        print(f"\nThe server keeps running. Stop it with: kill {stage.server_pid()}; its files are in {stage.folder}")
    else:
        stage.say("Delete the deployment and stop the server")
        stage.run(*deployments, "delete", *target, "--name", "wine")
        print(f"$ kill {stage.server_pid()}")
        stage.stop_server()
    print("\nDone: every prediction, from the command line and from Python, equals mlflow.pyfunc's.")


class Stage:
    """A temporary folder in which commands are shown and run, and the server that one of them has started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.environment = {**os.environ}

    def say(self, sentence: str) -> None:
        print(f"\n# {sentence}", flush=True)

    def export(self, name: str, value: str) -> None:
        print(f"$ export {name}={shlex.quote(value)}", flush=True)
        self.environment[name] = value

    def run(self, *command: str) -> None:
        """Show and run a command. If it fails, the demo ends. A command that is interrupted may clean up first."""
        print(f"$ {shlex.join(command)}", flush=True)
        process = subprocess.Popen(command, cwd=self.folder, env=self.environment)
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if code != 0:
            raise SystemExit(f"the command above exited with code {code}")

    def server_pid(self) -> int:
        return int((self.data_dir / "engine.pid").read_text())

    def target(self) -> str:
        """Return the target, from the address in the ready line of the server's log."""
        log = (self.data_dir / "engine.log").read_text()
        address = next(line for line in log.splitlines() if line.startswith("ready: ")).removeprefix("ready: ")
        return f"redisai://{address}/0"

    def stop_server(self) -> None:
        """Stop the server if there is one, and wait until it has exited."""
        with contextlib.suppress(OSError, ValueError):
            pid = self.server_pid()
            os.kill(pid, signal.SIGTERM)
            while b"redisai_engine" in Path(f"/proc/{pid}/cmdline").read_bytes():
                time.sleep(0.05)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
