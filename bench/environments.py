"""
The rivals' virtual environments, in `.cache/bench/<name>` of the checkout. They are made on first use and kept.

The pins are the newest versions of the day when they were written. An environment is made again when they change.
Results say what was installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".cache" / "bench"
_INSTALL_S = 900


class NotInstalled(Exception):
    """pip could not install a rival. The text is pip's last line."""


def python_with(name: str, requirements: tuple[str, ...]) -> Path:
    """Return the interpreter of an environment that has these packages. Raise NotInstalled."""
    folder = FOLDER / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = " ".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", *requirements])
        stamp.write_text(wanted)
    return python


def versions(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of packages that an environment has."""
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    found = subprocess.run([str(python), "-c", code, *packages], capture_output=True, text=True, check=True)
    return dict(json.loads(found.stdout))


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["no message"]
        raise NotInstalled(lines[-1]) from None
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"not installed within {_INSTALL_S} s") from None
