"""
Run a program in a network namespace that has nothing but a loopback device, and write down the names that it looks up.

`python -m support.sealed REPORT COMMAND...`, started by `unshare -rnm`. The name server is a thread here. It says of
every name that it doesn't exist.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

UNSHARE = ["unshare", "--map-root-user", "--net", "--mount"]

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def refusal() -> str | None:
    """Return why the kernel allows no namespaces here, or None if it does."""
    try:
        tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return tried.stderr.strip() if tried.returncode else None


def names_looked_up(report: Path, command: list[str], environment: dict[str, str]) -> list[str]:
    """Run a command without a network, which must succeed, and return the names that it and its children look up."""
    sealed = [*UNSHARE, sys.executable, "-m", "support.sealed", str(report), *command]
    shown = subprocess.run(sealed, env=environment, capture_output=True, text=True, timeout=580)
    assert shown.returncode == 0, f"{shown.stdout}\n{shown.stderr}"
    found: list[str] = json.loads(report.read_text())
    return found


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        _, flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _ask_this_process() -> None:
    """Make this process the name server, and have names looked up there alone."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False) as file:
        file.write("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", file.name, "/etc/resolv.conf"], check=True)


def _answer(server: socket.socket, names: list[str]) -> None:
    while True:
        query, asker = server.recvfrom(512)
        names.append(_name_in(query))
        # The same question, as a reply whose code is NXDOMAIN.
        server.sendto(query[:2] + b"\x81\x83" + query[4:], asker)


def _name_in(query: bytes) -> str:
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    return ".".join(labels)


def main(report: str, *command: str) -> int:
    _loopback_up()
    _ask_this_process()
    names: list[str] = []
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=_answer, args=(server, names), daemon=True).start()
    code = subprocess.run(command).returncode
    Path(report).write_text(json.dumps(names))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
