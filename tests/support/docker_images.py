"""
Makes images for a Docker daemon without pulling any, from folders with files of this machine (`docker import`).

Binaries are copied with the shared libraries that `ldd` names, so an image contains only what it runs.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from support.servers import redis_server_binary

NOT_COPIED = ("__pycache__", "test", "tests", "idlelib", "ensurepip", "site-packages", "tkinter", "lib2to3", "config-*")


def shell_root(folder: Path) -> None:
    """Create a root folder with sh and sleep."""
    for name in ("sh", "sleep"):
        found = shutil.which(name)
        assert found
        add_binary(folder, Path(found), f"bin/{name}")
    (folder / "tmp").mkdir(exist_ok=True)


def redis_root(folder: Path) -> None:
    """Create a root folder with a plain redis-server and nothing else."""
    add_binary(folder, Path(redis_server_binary()), "bin/redis-server")
    (folder / "tmp").mkdir(exist_ok=True)


def engine_root(folder: Path) -> None:
    """Create a root folder with this interpreter, the engine, what the engine needs, and a redis-server."""
    add_binary(folder, Path(redis_server_binary()), "bin/redis-server")
    add_binary(folder, Path(sys.executable).resolve(), "bin/python3")
    # The interpreter finds its library through its compiled-in prefix.
    library = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}))
    target = folder / library.relative_to("/")
    shutil.copytree(library, target, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
    packages = folder / "packages"
    copy_distributions(packages, ["hiredis", "redis", "numpy", "onnxruntime", "uvloop"])
    source = Path(__file__).parent.parent.parent / "src" / "redisai_engine"
    shutil.copytree(source, packages / "redisai_engine", ignore=shutil.ignore_patterns("__pycache__"))
    for library_file in [*target.rglob("*.so"), *packages.rglob("*.so*")]:
        add_libraries(folder, library_file)
    (folder / "tmp").mkdir(exist_ok=True)


def copy_distributions(folder: Path, names: Iterable[str]) -> None:
    """Copy installed distributions and everything that they require."""
    wanted, done = list(names), set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in done:
            continue
        done.add(name)
        distribution = importlib.metadata.distribution(name)
        for requirement in map(Requirement, distribution.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
        for file in distribution.files or []:
            if ".." in file.parts or "__pycache__" in file.parts or "tests" in file.parts:
                continue
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(file.locate()), target)


def add_binary(folder: Path, binary: Path, name: str) -> None:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(binary.resolve(), target)
    add_libraries(folder, binary)


def add_libraries(folder: Path, binary: Path) -> None:
    listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
    for path in re.findall(r"(?:=> )?(/\S+) \(0x", listed):
        target = folder / path.lstrip("/")
        inside = Path(path).resolve().is_relative_to(folder.resolve())  # a package's own library, found next to it
        if not inside and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(path).resolve(), target)


def import_image(folder: Path, tag: str, command: Sequence[str], environment: Sequence[str] = ()) -> str:
    """Import a root folder into the daemon as an image, and return its tag."""
    changes = [f"CMD {json.dumps(list(command))}", *(f"ENV {line}" for line in environment)]
    options = [option for change in changes for option in ("--change", change)]
    packed = subprocess.Popen(["tar", "--directory", str(folder), "--create", "."], stdout=subprocess.PIPE)
    result = subprocess.run(
        ["docker", "import", *options, "-", tag], stdin=packed.stdout, capture_output=True, text=True, check=False
    )
    assert packed.stdout is not None
    packed.stdout.close()
    assert packed.wait() == 0
    assert result.returncode == 0, result.stderr
    shutil.rmtree(folder)
    return tag
