"""
The build hook that compiles the engine's hot modules with mypyc into the wheel, or leaves the wheel pure Python.

The source is not changed: a compiled module lies next to its source, and Python imports it first. Without a C compiler,
or with MLFLOW_REDISAI_PURE=1 in the environment, the wheel has no compiled modules; everything works, only slower. The
list of modules is in pyproject.toml.

`python hatch_build.py FOLDER` puts a compiled copy of the engine into FOLDER, for use on PYTHONPATH, unless an
up-to-date copy exists. `scripts/test --compiled` and `scripts/bench` use it.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
PACKAGE = "redisai_engine"
SWITCH = "MLFLOW_REDISAI_PURE"

#: What level 3 adds makes it no faster.
LEVELS = {"MYPYC_DEBUG_LEVEL": "0", "MYPYC_OPT_LEVEL": "2"}

#: Added to those of the environment. Where nothing but its entry is visible, the compiled code is smaller and calls
#: itself directly, which is faster. Linux's linkers leave gaps between code and data, which take memory.
FLAGS = {"CPPFLAGS": "-fvisibility=hidden"}
if sys.platform == "linux":
    FLAGS["LDFLAGS"] = "-Wl,-z,noseparate-code"


class CompileFailed(Exception):
    """The compiler is missing or failed."""


def compile_engine(folder: Path, modules: list[str]) -> list[Path]:
    """Copy the engine into `folder`, compile it there and return the compiled files. Raise CompileFailed."""
    shutil.copytree(ROOT / "src" / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    # No config file: mypy would find the checkout's, whose strict checks fail where imports aren't followed.
    command = [sys.executable, "-m", "mypyc", "--config-file=", "--follow-imports=skip", "--ignore-missing-imports"]
    files = [f"{PACKAGE}/{module.replace('.', '/')}.py" for module in modules]
    flags = {name: f"{os.environ.get(name, '')} {flag}".strip() for name, flag in FLAGS.items()}
    environment = {**os.environ, **LEVELS, **flags, "MYPYPATH": str(folder)}
    done = subprocess.run(
        [*command, "--explicit-package-bases", *files],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CompileFailed(done.stdout[-2000:])
    shutil.rmtree(folder / "build")
    shutil.rmtree(folder / ".mypy_cache", ignore_errors=True)
    return sorted(folder.rglob("*.so"))


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, where hatchling need not be installed
    BuildHookInterface = object


class CompiledModules(BuildHookInterface):  # type: ignore[misc, valid-type]
    """Hatchling's hook, which adds the compiled modules to a wheel. An editable installation runs the source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or os.environ.get(SWITCH) == "1":
            return
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        try:
            built = compile_engine(folder, self.config["modules"])
        except (CompileFailed, OSError) as error:
            self.app.display_warning(f"The engine is not compiled and will be slower: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update({str(path): str(path.relative_to(folder)) for path in built})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def _modules() -> list[str]:
    try:
        import tomllib
    except ImportError:  # Python 3.10, where hatchling depends on tomli
        import tomli as tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[str] = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    return found


def _fingerprint() -> str:
    """Return one hash of everything that the compiled copy depends on: Python, this file, the list, the sources."""
    parts = [sys.version.encode()]
    sources = sorted((ROOT / "src" / PACKAGE).rglob("*.py"))
    parts += [path.read_bytes() for path in (ROOT / "pyproject.toml", Path(__file__), *sources)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def main(folder: Path) -> None:
    """Make the compiled copy, unless one exists and nothing has changed since."""
    stamp = folder / "stamp"
    if stamp.exists() and stamp.read_text() == _fingerprint():
        return
    print(f"Compiling the engine into {folder} (takes half a minute) ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        compile_engine(folder, _modules())
    except CompileFailed as failed:
        sys.exit(f"The engine can't be compiled here:\n{failed}")
    # As pip does for what it installs. Else each start compiles the rest, where Python may not write that down.
    compileall.compile_dir(folder, quiet=1)
    stamp.write_text(_fingerprint())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
