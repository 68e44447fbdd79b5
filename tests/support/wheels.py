"""Small wheels, made on the spot, and the variables with which uv installs from them alone."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    python: str = ">=3.9",
    tag: str = "py3-none-any",
    files: Mapping[str, str] | None = None,
    command: str = "",
) -> str:
    """
    Write a wheel into a folder and return its SHA-256.

    It contains an importable package of its name, besides `files`. `command` is the name of a script that prints where
    its interpreter is.
    """
    contents = {
        f"{name}/__init__.py": f"__version__ = '{version}'\n\n\ndef main():\n    import sys\n\n    print(sys.prefix)\n",
        **(files or {}),
        f"{name}-{version}.dist-info/METADATA": "".join(
            f"{line}\n"
            for line in (
                "Metadata-Version: 2.1",
                f"Name: {name}",
                f"Version: {version}",
                f"Requires-Python: {python}",
                *(f"Requires-Dist: {other}" for other in requires),
            )
        ),
        f"{name}-{version}.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if command:
        contents[f"{name}-{version}.dist-info/entry_points.txt"] = f"[console_scripts]\n{command} = {name}:main\n"
    record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in contents.items())
    contents[f"{name}-{version}.dist-info/RECORD"] = record + f"{name}-{version}.dist-info/RECORD,,\n"
    path = folder / f"{name}-{version}-{tag}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in contents.items():
            wheel.writestr(inside, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
