"""
Replays the recorded conversations against a server and compares every reply.

Only the standard library is used, and nothing of the engine, whose mistakes would otherwise be made twice; the codec of
RESP2 and RESP3 is in this file. README.md beside it describes the form of the recordings and how to run this.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from compat.transcripts.comparing import Reply, match

FOLDER = Path(__file__).parent
RECEIVED = 1 << 16
SHOWN_COMMAND = 200

Step = dict[str, Any]
Scenario = dict[str, Any]


class Closed(Exception):
    """The connection ended, or what came is no RESP."""


class NoReply(Exception):
    """Nothing came in time."""


# -- protocol -------------------------------------------------------------------------------------


def readable(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def text_or_b64(kind: str, data: bytes) -> Reply:
    """Gives {"bulk": "..."} for utf-8 without control characters, {"bulk_b64": "..."} for anything else."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if any((ord(each) < 32 and each not in "\n\r\t") or ord(each) == 127 for each in text):
        return {f"{kind}_b64": base64.b64encode(data).decode()}
    return {kind: text}


# What a reply's first line says alone, by the line's first byte.
_LINES: dict[bytes, Callable[[bytes], Reply]] = {
    b"+": lambda rest: {"simple": readable(rest)},
    b"-": lambda rest: {"error": readable(rest)},
    b":": lambda rest: {"int": int(rest)},
    b"_": lambda _: {"nil": True},
    b",": lambda rest: {"double": rest.decode()},
    b"#": lambda rest: {"bool": rest == b"t"},
}
_STRINGS = {b"$": "bulk", b"=": "verbatim"}
_ARRAYS = {b"*": "array", b"~": "set", b">": "push"}


class Connection:
    """One client connection: sends commands as arrays of bulk strings, reads one reply at a time."""

    def __init__(self, host: str, port: int, timeout_s: float, *, protocol: int = 2):
        self.timeout_s = timeout_s
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""
        if protocol == 3:
            self.call([b"HELLO", b"3"])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def call(self, arguments: Sequence[bytes]) -> Reply:
        self.send(arguments)
        return self.read()

    def send(self, arguments: Sequence[bytes]) -> None:
        written = [b"$%d\r\n%s\r\n" % (len(argument), argument) for argument in arguments]
        try:
            self._socket.settimeout(self.timeout_s)
            self._socket.sendall(b"*%d\r\n" % len(arguments) + b"".join(written))
        except OSError as error:
            raise Closed(str(error)) from error

    def read(self) -> Reply:
        """Reads the next reply. Raises NoReply when it doesn't come in time."""
        self._socket.settimeout(self.timeout_s)
        return self._read()

    def is_quiet(self, seconds: float) -> bool:
        """Tells whether nothing arrives for that long."""
        if self._held:
            return False
        self._socket.settimeout(seconds)
        try:
            self._fill()
        except NoReply:
            return True
        return False

    def _fill(self) -> None:
        try:
            data = self._socket.recv(RECEIVED)
        except TimeoutError as error:
            raise NoReply from error
        except OSError as error:
            raise Closed(str(error)) from error
        if not data:
            raise Closed("connection closed by the server")
        self._held += data

    def _line(self) -> bytes:
        while b"\r\n" not in self._held:
            self._fill()
        line, _, self._held = self._held.partition(b"\r\n")
        return line

    def _exactly(self, length: int) -> bytes:
        while len(self._held) < length + 2:
            self._fill()
        data, self._held = self._held[:length], self._held[length + 2 :]
        return data

    def _read(self) -> Reply:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind in _LINES:
            return _LINES[kind](rest)
        if kind not in b"$=*~>%" or not rest.lstrip(b"-").isdigit():
            raise Closed(f"protocol error: {line[:60]!r}")
        return self._read_long(kind, int(rest))

    def _read_long(self, kind: bytes, length: int) -> Reply:
        if length < 0:
            return {"nil": True}
        if kind in _STRINGS:
            return text_or_b64(_STRINGS[kind], self._exactly(length))
        if kind in _ARRAYS:
            return {_ARRAYS[kind]: [self._read() for _ in range(length)]}
        return {"map": [[self._read(), self._read()] for _ in range(length)]}


# -- playing --------------------------------------------------------------------------------------


class Played(NamedTuple):
    """A step that was played; `place` is its number, inside `parallel` three of them."""

    place: tuple[int, ...]
    step: Step
    reply: Reply | None = None
    trouble: str | None = None  # why there is no reply where one belongs
    milliseconds: float = 0.0

    def mismatch(self) -> str | None:
        """Gives None when the step came out as recorded, else what differs."""
        if self.trouble or self.reply is None:
            return self.trouble
        mode = self.step.get("compare", "exact")
        found = [match(wanted, self.reply, mode) for wanted in (self.step["reply"], *self.step.get("also", ()))]
        if all(found):
            return found[0]
        if self.milliseconds < self.step.get("min_ms", 0):
            return f"reply came after {self.milliseconds:.0f} ms, expected at least {self.step['min_ms']} ms"
        if self.milliseconds > self.step.get("max_ms", math.inf):
            return f"reply came after {self.milliseconds:.0f} ms, expected at most {self.step['max_ms']} ms"
        return None


class Server:
    """Where scenarios are played."""

    def __init__(self, host: str, port: int, *, timeout_s: float):
        self.host, self.port, self.timeout_s = host, port, timeout_s

    def connect(self, protocol: int = 2) -> Connection:
        return Connection(self.host, self.port, self.timeout_s, protocol=protocol)

    def mismatches(self, scenario: Scenario) -> list[str]:
        """Plays a scenario, and gives a sentence for every reply that is not the recorded one."""
        try:
            played = self._play(scenario)
        except (Closed, NoReply, OSError) as error:
            return [f"cannot talk to the server: {error or 'no reply'}"]
        return [
            f"step {'.'.join(map(str, each.place))}: {command_text(each.step)}\n    {mismatch}"
            for each in played
            if (mismatch := each.mismatch())
        ]

    def _play(self, scenario: Scenario) -> list[Played]:
        self._send_alone([[b"FLUSHALL"]])
        conversation = Conversation(self, scenario.get("protocol", 2))
        try:
            conversation.play(scenario["steps"])
        finally:
            conversation.close()
        with contextlib.suppress(Closed, NoReply, OSError):
            self._send_alone([list(map(argument_bytes, command)) for command in scenario.get("cleanup", ())])
        return conversation.played

    def _send_alone(self, commands: Sequence[Sequence[bytes]]) -> None:
        """Sends commands on a connection of their own; what they answer is not looked at."""
        if commands:
            with contextlib.closing(self.connect()) as connection:
                for command in commands:
                    connection.call(command)


def _pause_before(step: Step) -> None:
    """Let time pass as it did when RedisAI was recorded. Timeouts are what such scenarios are about."""
    time.sleep(step.get("sleep_ms_before", 0) / 1000)


class Conversation:
    """The connections of one scenario, and what came out of its steps."""

    def __init__(self, server: Server, protocol: int):
        self.played: list[Played] = []
        self._server, self._protocol = server, protocol
        self._connections: dict[str, Connection] = {}
        self._lock = threading.Lock()

    def play(self, steps: Sequence[Step]) -> None:
        for number, step in enumerate(steps):
            if "parallel" in step:
                _pause_before(step)
                self._play_at_once(number, step["parallel"])
            else:
                self.played.append(self._step((number,), step, step.get("conn", "a")))

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def _play_at_once(self, number: int, lists: Sequence[Sequence[Step]]) -> None:
        """Plays each list in a thread; all connections are open before the first step."""
        for lane, steps in enumerate(lists):
            with contextlib.suppress(Closed, OSError):
                self._connection(steps[0].get("conn", f"p{lane}"))
        start = threading.Barrier(len(lists))

        def play(lane: int, steps: Sequence[Step]) -> None:
            start.wait()
            for position, step in enumerate(steps):
                self.played.append(self._step((number, lane, position), step, step.get("conn", f"p{lane}")))

        threads = [threading.Thread(target=play, args=each) for each in enumerate(lists)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _step(self, place: tuple[int, ...], step: Step, name: str) -> Played:
        _pause_before(step)
        started = time.monotonic()
        try:
            reply = self._carry_out(step, name)
            return Played(place, step, reply, milliseconds=(time.monotonic() - started) * 1000)
        except NoReply as error:
            self._drop(name)
            return Played(place, step, trouble=str(error) or f"no reply within {self._server.timeout_s:g} s")
        except (Closed, OSError) as error:
            self._drop(name)
            return Played(place, step, trouble=f"connection lost: {error}")

    def _carry_out(self, step: Step, name: str) -> Reply | None:
        connection = self._connection(name)
        if step.get("close"):
            self._drop(name)
            return None
        if "send" in step:
            connection.send([argument_bytes(argument) for argument in step["send"]])
        if (quiet_ms := step.get("quiet_ms")) and not connection.is_quiet(quiet_ms / 1000):
            raise NoReply(f"a reply came while none was expected for {quiet_ms} ms")
        if step.get("defer") or not ("send" in step or step.get("recv")):
            return None
        return connection.read()

    def _connection(self, name: str) -> Connection:
        with self._lock:
            if name not in self._connections:
                self._connections[name] = self._server.connect(self._protocol)
            return self._connections[name]

    def _drop(self, name: str) -> None:
        with self._lock:
            connection = self._connections.pop(name, None)
        if connection:
            connection.close()


# -- reading the recordings -----------------------------------------------------------------------


def argument_bytes(argument: str | dict[str, Any]) -> bytes:
    """A recorded argument as it is sent."""
    if isinstance(argument, str):
        return argument.encode()
    if "b64" in argument:
        return base64.b64decode(argument["b64"])
    return (FOLDER / argument["file"]).read_bytes()[argument.get("from", 0) : argument.get("to")]


def command_text(step: Step) -> str:
    """A step's command for people."""
    if "send" not in step:
        return "(waiting for the reply)"
    return " ".join(map(_argument_text, step["send"]))[:SHOWN_COMMAND]


def _argument_text(argument: str | dict[str, Any]) -> str:
    if isinstance(argument, dict):
        return f"<{argument.get('file', 'binary')}>"
    return argument if argument and " " not in argument else json.dumps(argument)


def families() -> dict[str, list[Scenario]]:
    """All scenarios, by the name of their family."""
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        for path in sorted(FOLDER.glob("*.jsonl"))
    }


# -- the program ----------------------------------------------------------------------------------


def main() -> int:
    """Prints `passed/total` for each family and the first mismatches; 1 when something did not match."""
    options = _options()
    server = Server(options.host, options.port, timeout_s=options.timeout)
    total = failed = 0
    for family, scenarios in families().items():
        if options.family and family not in options.family.split(","):
            continue
        chosen = [scenario for scenario in scenarios if _is_wanted(scenario, options)]
        passed = 0
        for scenario in chosen:
            mismatches = server.mismatches(scenario)
            passed += not mismatches
            failed += bool(mismatches)
            if mismatches and failed <= options.show:
                print(f"FAIL {family}/{scenario['name']}: {scenario.get('about')}", *mismatches[:3], sep="\n  ")
        total += len(chosen)
        print(f"{family:12} {passed}/{len(chosen)}", flush=True)
    print(f"{'total':12} {total - failed}/{total}")
    return int(failed > 0)


def _is_wanted(scenario: Scenario, options: argparse.Namespace) -> bool:
    backends = scenario.get("needs", []) if options.needs is None else options.needs.upper().split(",")
    return options.name in scenario["name"] and set(scenario.get("needs", ())) <= set(backends)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--needs", help="backends that the server has; scenarios that need others are left out")
    parser.add_argument("--family", help="one or several families, with commas between")
    parser.add_argument("--name", default="", help="only scenarios whose name contains this")
    parser.add_argument("--show", type=int, default=10, help="how many scenarios' mismatches are printed")
    parser.add_argument("--timeout", type=float, default=15.0, help="seconds to wait for a reply")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
