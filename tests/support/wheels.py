"""Small wheels, made on the spot, and a package index on this machine that has them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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


@contextlib.contextmanager
def package_index(folder: Path, *, login: str = "") -> Iterator[str]:
    """
    Serve the wheels of a folder as a package index does, with hashes. Yield its address, without the login.

    With `login`, "name:password", it answers no one else.
    """
    wanted = "Basic " + base64.b64encode(login.encode()).decode()

    class Index(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if login and self.headers.get("Authorization") != wanted:
                self._answer(401, b"")
            elif self.path.startswith("/simple/"):
                page = _index_page(folder, self.path.strip("/").rpartition("/")[2])
                self._answer(200 if page else 404, page.encode())
            else:
                path = folder / self.path.strip("/")
                self._answer(200, path.read_bytes())

        def do_HEAD(self) -> None:
            self._answer(405, b"")

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if self.path.startswith("/simple/") else "application/zip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _index_page(folder: Path, name: str) -> str:
    links = []
    for path in sorted(folder.glob(f"{name.replace('-', '_')}-*.whl")):
        with zipfile.ZipFile(path) as wheel:
            metadata = next(inside for inside in wheel.namelist() if inside.endswith("METADATA"))
            python = next(
                line.partition(": ")[2]
                for line in wheel.read(metadata).decode().splitlines()
                if line.startswith("Requires-Python")
            )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        links.append(
            f'<a href="/{path.name}#sha256={digest}" data-requires-python="{html.escape(python)}">{path.name}</a>'
        )
    return "\n".join(links)
