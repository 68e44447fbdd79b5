"""
Environments for client libraries that can't share the tests' own. They are made on first use in `.cache/clients`.

An environment is used as long as its interpreter and its requirements stay the same. If the packages can't be
installed, Unavailable says why.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "clients"
INSTALL_S = 120.0


class Unavailable(Exception):
    """The client can't be installed here. The message says why."""


def python_with(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of an environment with these requirements and nothing of the tests' own environment."""
    folder = CACHE / name
    python = folder / "bin" / "python"

    def install() -> None:
        if importlib.util.find_spec("pip") is None:
            raise Unavailable("this Python has no pip to install the client with")
        venv.create(folder, with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-input"]
        _run([*pip, "--disable-pip-version-check", "--retries", "1", "--only-binary", ":all:", *requirements])

    _make_once(folder, [sys.version, *requirements], install)
    return python


def node_with(name: str, packages: Sequence[str]) -> Path:
    """Return a folder whose `node_modules` has these packages."""
    folder = CACHE / name

    def install() -> None:
        folder.mkdir()
        (folder / "package.json").write_text(json.dumps({"private": True}))
        _run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *packages])

    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Unavailable("node and npm are not on the PATH")
    _make_once(folder, packages, install)
    return folder


def _make_once(folder: Path, made_from: Sequence[str], make: Callable[[], None]) -> None:
    """Call `make`, unless the folder was already made completely from the same things."""
    stamp = folder / "made-from.json"
    wanted = json.dumps(list(made_from))
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    make()
    stamp.write_text(wanted)


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"installing the client took more than {INSTALL_S:.0f} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise Unavailable(f"the client can't be installed: {' '.join(last)}")
