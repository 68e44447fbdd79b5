"""redis-cli and redis-benchmark, the tools that come with Redis, against the engine."""

from __future__ import annotations

import csv
import shutil
import struct
import subprocess

import pytest

from support.connection import encoded
from support.gateway import model_blob, prediction
from support.servers import Server

TOOL_S = 60.0
ROUNDS = 2000


def run(server: Server, tool: str, *arguments: str, data: bytes = b"") -> str:
    """Return what a tool prints. If it fails or hangs, the test fails."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"there is no {tool} on the PATH")
    command = [path, "-h", server.host, "-p", str(server.port), *arguments]
    done = subprocess.run(command, input=data, capture_output=True, timeout=TOOL_S, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout.decode()


def cli(server: Server, *arguments: str, data: bytes = b"") -> str:
    return run(server, "redis-cli", *arguments, data=data)


def store_model(server: Server, key: str) -> None:
    """Store a model with `-x`, which reads the last argument from standard input."""
    stored = cli(server, "-x", "AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", data=model_blob("Add"))
    assert stored == "OK\n"


class TestCli:
    """redis-cli with one command per call, with a command per line, in RESP3, and with --pipe."""

    def test_a_command_a_call(self, clients_engine: Server):
        assert cli(clients_engine, "AI.TENSORSET", "cli:x", "FLOAT", "2", "VALUES", "1.5", "2") == "OK\n"
        assert cli(clients_engine, "AI.TENSORGET", "cli:x", "VALUES") == "1.5\n2\n"
        assert cli(clients_engine, "--raw", "AI.TENSORGET", "cli:x", "META") == "dtype\nFLOAT\nshape\n2\n"

    def test_an_error(self, clients_engine: Server):
        assert cli(clients_engine, "AI.MODELGET", "cli:absent").strip() == "ERR model key is empty"

    def test_a_model_from_a_file(self, clients_engine: Server):
        store_model(clients_engine, "cli:m")
        assert "cli:m" in cli(clients_engine, "AI._MODELSCAN")

    def test_in_resp3(self, clients_engine: Server):
        cli(clients_engine, "-3", "AI.TENSORSET", "cli:y", "FLOAT", "2", "VALUES", "1.5", "2")

        assert cli(clients_engine, "-3", "AI.TENSORGET", "cli:y", "VALUES") == "1.5\n2\n"

    def test_lines_of_standard_input(self, clients_engine: Server):
        lines = "MULTI\nAI.TENSORSET cli:z INT64 1 VALUES 7\nAI.TENSORGET cli:z VALUES\nEXEC\nPING\n"

        assert cli(clients_engine, data=lines.encode()) == "OK\nQUEUED\nQUEUED\nOK\n7\nPONG\n"

    def test_another_database(self, clients_engine: Server):
        cli(clients_engine, "-n", "5", "AI.TENSORSET", "cli:five", "INT64", "1", "VALUES", "7")

        assert cli(clients_engine, "-n", "5", "EXISTS", "cli:five") == "1\n"
        assert cli(clients_engine, "EXISTS", "cli:five") == "0\n"

    def test_masses_of_commands_by_pipe(self, clients_engine: Server):
        """--pipe ends its stream with ECHO of a random text and counts the replies that come before it."""
        commands = [encoded(f"AI.TENSORSET cli:t{n} INT64 1 VALUES {n}") for n in range(ROUNDS)]
        commands += [encoded(f"SET cli:k{n} {n}") for n in range(ROUNDS)]

        printed = cli(clients_engine, "--pipe", data=b"".join(commands))

        assert printed.endswith(f"errors: 0, replies: {2 * ROUNDS}\n"), printed

    def test_what_it_tells_of_keys(self, clients_engine: Server):
        cli(clients_engine, "AI.TENSORSET", "cli:scanned", "INT64", "1", "VALUES", "7")

        assert cli(clients_engine, "--scan", "--pattern", "cli:scan*") == "cli:scanned\n"
        assert "keys in the keyspace" in cli(clients_engine, "--bigkeys")
        assert "redis_version" in cli(clients_engine, "INFO", "server")


class TestBenchmark:
    """redis-benchmark: many connections, pipelines, and no error."""

    def rates(self, server: Server, *arguments: str) -> dict[str, float]:
        printed = run(server, "redis-benchmark", "--csv", "-e", *arguments)
        # The server's warnings and errors would appear among the lines.
        rows = list(csv.reader(printed.splitlines()))
        assert rows[0][:2] == ["test", "rps"], printed
        return {row[0]: float(row[1]) for row in rows[1:]}

    @pytest.mark.parametrize("pipeline", [1, 16])
    def test_its_own_commands(self, clients_engine: Server, pipeline: int):
        rates = self.rates(clients_engine, "-t", "ping,set,get", "-n", str(ROUNDS), "-P", str(pipeline))

        assert rates.keys() == {"PING_INLINE", "PING_MBULK", "SET", "GET"}
        assert min(rates.values()) > 0

    @pytest.mark.parametrize("protocol", [[], ["-3"]], ids=["resp2", "resp3"])
    def test_predictions_in_a_pipeline(self, clients_engine: Server, protocol: list[str]):
        store_model(clients_engine, "bench:m")
        words = prediction("bench:m", 2, 3).split(b"\r\n")[2::2]

        rates = self.rates(
            clients_engine, *protocol, "-n", str(ROUNDS), "-c", "10", "-P", "16", *(word.decode() for word in words)
        )

        assert len(rates) == 1
        reply = clients_engine.client().execute_command("AI.INFO", "bench:m")
        assert dict(zip(reply[::2], reply[1::2], strict=True))[b"calls"] >= ROUNDS

    def test_tensors_by_blob(self, clients_engine: Server):
        """`-x` reads the blob from standard input."""
        blob = struct.pack("<25f", *(each + 1 / 3 for each in range(25)))
        run(
            clients_engine,
            "redis-benchmark",
            *("-e", "-q", "-n", str(ROUNDS), "-P", "16", "-x", "AI.TENSORSET", "bench:x", "FLOAT", "25", "BLOB"),
            data=blob,
        )

        assert clients_engine.client().execute_command("AI.TENSORGET", "bench:x", "BLOB") == blob
