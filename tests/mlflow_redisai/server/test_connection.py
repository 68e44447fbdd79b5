"""
Connections to a single Redis and to a cluster.

Every failure there is one of the plugin's errors, without a password.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from mlflow_redisai.server.connection import LARGE_BYTES, Connection
from mlflow_redisai.target import Target
from support.servers import Server
from support.waiting import free_port, wait_until

SECRET = "s3cr3t"


def connect(uri: str) -> Connection:
    return Connection(Target.parse(uri))


def failure(uri: str) -> MlflowException:
    with pytest.raises(MlflowException) as caught:
        connect(uri).call(b"k", "GET", b"k")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return caught.value


def test_a_command_goes_there_and_its_reply_comes_back(redis_server: Server) -> None:
    connection = connect(redis_server.target)

    assert connection.call(b"conn:a", "SET", b"conn:a", b"1") in (b"OK", True)
    assert connection.call(b"conn:a", "GET", b"conn:a") == b"1"
    assert connection.everywhere("EXISTS", b"conn:a") == [1]
    connection.close()


def test_errors_in_a_pipeline_stay_elements(redis_server: Server) -> None:
    connection = connect(redis_server.target)

    first, second, third = connection.pipeline(
        b"conn:p", [["SET", b"conn:p", "x"], ["HGET", b"conn:p", "f"], ["GET", b"conn:p"]], atomic=True
    )

    assert (first in (b"OK", True), third) == (True, b"x")
    assert str(second).startswith("WRONGTYPE")


def test_the_database_of_the_target_is_used(redis_server: Server) -> None:
    uri = f"redisai://127.0.0.1:{redis_server.port}/3"

    connect(uri).call(b"conn:db", "SET", b"conn:db", "three")

    assert redis_server.client(db=3).get("conn:db") == b"three"
    assert redis_server.client().get("conn:db") is None


def test_a_transaction_does_nothing_when_a_watched_key_was_changed(redis_server: Server) -> None:
    connection = connect(redis_server.target)
    key = b"conn:watched"

    with connection.transaction(key) as transaction:
        transaction.command("WATCH", key)
        connection.call(key, "SET", key, "theirs")
        transaction.queue([["SET", key, "ours"]])
        replies = transaction.execute()

    assert replies is None
    assert connection.call(key, "GET", key) == b"theirs"


def test_a_transaction_that_is_left_changes_nothing(redis_server: Server) -> None:
    connection = connect(redis_server.target)
    key = b"conn:left"

    with pytest.raises(KeyboardInterrupt), connection.transaction(key) as transaction:  # noqa: PT012
        transaction.queue([["SET", key, "ours"]])
        raise KeyboardInterrupt

    assert connection.call(key, "EXISTS", key) == 0


def test_a_large_command_arrives_as_it_was(redis_server: Server) -> None:
    """The plugin encodes it, not redis-py. Small commands around it go through redis-py."""
    connection = connect(redis_server.target)
    key = b"conn:large"
    blob = random.Random(1).randbytes(LARGE_BYTES)

    with connection.transaction(key) as transaction:
        transaction.queue([["SET", key, b"x"], ["SET", key, memoryview(blob)], ["STRLEN", key], ["EXPIRE", key, 60]])
        replies = transaction.execute()

    assert replies is not None
    assert replies[2:] == [LARGE_BYTES, 1]
    assert connection.call(key, "GET", key) == blob
    connection.call(key, "DEL", key)


def test_a_connection_that_breaks_inside_a_transaction_ends_it(redis_server: Server) -> None:
    """A reconnected one would run the rest outside MULTI."""
    connection = connect(redis_server.target)
    key = b"conn:broken"

    with pytest.raises(MlflowException) as caught, connection.transaction(key) as transaction:  # noqa: PT012
        ours = transaction.command("CLIENT", "ID")
        connection.call(key, "CLIENT", "KILL", "ID", ours)
        transaction.queue([["SET", key, "ours"]])

    assert caught.value.error_code == "TEMPORARILY_UNAVAILABLE"
    assert connection.call(key, "EXISTS", key) == 0


def test_a_connection_that_broke_between_calls_is_renewed(redis_server: Server) -> None:
    connection = connect(redis_server.target)
    ours = connection.call(b"k", "CLIENT", "ID")
    redis_server.client().execute_command("CLIENT", "KILL", "ID", ours)

    assert connection.call(b"k", "PING") in (b"PONG", True)


def test_a_host_that_is_down_is_told(redis_server: Server) -> None:
    port = free_port()

    error = failure(f"redisai://127.0.0.1:{port}")

    assert error.message == (
        f"can't reach Redis at 127.0.0.1:{port}: Error 111 connecting to 127.0.0.1:{port}. Connection refused. "
        "Check that the server is running, and the target's host, port and tls."
    )
    assert error.error_code == "TEMPORARILY_UNAVAILABLE"


def test_a_host_that_does_not_exist_is_told() -> None:
    error = failure("redisai://no-such-host.invalid")

    assert error.message.startswith("can't reach Redis at no-such-host.invalid:6379: ")
    assert error.error_code == "TEMPORARILY_UNAVAILABLE"


def test_a_name_that_can_be_no_host_is_told() -> None:
    error = failure("redisai://a..b")

    assert error.message.startswith("can't reach Redis at a..b:6379: ")


@pytest.mark.parametrize("user", ["", "nobody"])
def test_a_wrong_password_is_told_but_not_which(new_redis: Callable[..., Server], user: str) -> None:
    server = new_redis("--requirepass", "right")

    error = failure(f"redisai://{user}:{SECRET}@127.0.0.1:{server.port}")

    assert error.message == (
        f"Redis at 127.0.0.1:{server.port} rejected the user name or password: invalid username-password pair or user "
        "is disabled; set them in the target as redisai://user:password@host:port/db, or in REDIS_USERNAME and "
        "REDIS_PASSWORD"
    )
    assert error.error_code == "UNAUTHENTICATED"


def test_a_missing_password_is_told(new_redis: Callable[..., Server]) -> None:
    server = new_redis("--requirepass", SECRET)

    error = failure(server.target)

    assert error.message.startswith(f"Redis at 127.0.0.1:{server.port} rejected the user name or password: ")
    assert error.error_code == "UNAUTHENTICATED"


def test_the_right_user_gets_in_and_no_further_than_his_rights(new_redis: Callable[..., Server]) -> None:
    server = new_redis()
    server.client().execute_command("ACL", "SETUSER", "me", "on", f">{SECRET}", "~mine:*", "+@all")
    connection = connect(f"redisai://me:{SECRET}@127.0.0.1:{server.port}")

    assert connection.call(b"mine:k", "GET", b"mine:k") is None
    with pytest.raises(MlflowException) as caught:
        connection.call(b"k", "GET", b"k")

    assert caught.value.error_code == "PERMISSION_DENIED"
    assert caught.value.message.startswith(f"Redis at 127.0.0.1:{server.port} denied permission: ")


def test_a_replica_takes_no_writes(redis_server: Server, new_redis: Callable[..., Server]) -> None:
    replica = new_redis("--replicaof", "127.0.0.1", str(redis_server.port))

    with pytest.raises(MlflowException) as caught:
        connect(replica.target).call(b"k", "SET", b"k", "x")

    assert caught.value.error_code == "INVALID_STATE"
    assert "set a writable primary as the target" in caught.value.message


@pytest.mark.slow
def test_tls_to_a_server_without_it_is_told(redis_server: Server) -> None:
    error = failure(f"redisai://127.0.0.1:{redis_server.port}?tls=true&connect_timeout=1&read_timeout=1")

    assert error.error_code == "TEMPORARILY_UNAVAILABLE"


# -- cluster --------------------------------------------------------------------------------------


@pytest.fixture
def cluster(new_redis: Callable[..., Server]) -> tuple[Server, Server]:
    """Two nodes with half of the slots each."""
    nodes = (new_redis("--cluster-enabled", "yes"), new_redis("--cluster-enabled", "yes"))
    first, second = (node.client() for node in nodes)
    first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    second.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    second.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 2)
    first.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
    for client in (first, second):
        wait_until(lambda c=client: "cluster_state:ok" in str(c.execute_command("CLUSTER", "INFO")), what="the cluster")  # type: ignore[misc]
    return nodes


@pytest.mark.slow
def test_keys_go_to_their_node_of_a_cluster(cluster: tuple[Server, Server]) -> None:
    connection = connect(f"{cluster[0].target}?cluster=true".replace("/0?", "?"))

    for number in range(20):
        key = b"key%d" % number
        connection.call(key, "SET", key, number)
        with connection.transaction(key) as transaction:
            transaction.queue([["INCR", key], ["GET", key]])
            assert transaction.execute() == [number + 1, b"%d" % (number + 1)]

    assert sum(connection.everywhere("DBSIZE")) == 20
    assert all(connection.everywhere("DBSIZE"))


@pytest.mark.slow
def test_a_slot_that_moved_is_found_again(cluster: tuple[Server, Server]) -> None:
    connection = connect(f"redisai://127.0.0.1:{cluster[0].port}?cluster=true")
    key = b"moved"
    slot = cluster[0].client().execute_command("CLUSTER", "KEYSLOT", key)
    assert connection.call(key, "GET", key) is None
    here, there = cluster if slot < 8192 else cluster[::-1]
    target_id = there.client().execute_command("CLUSTER", "MYID")
    for node in (there, here):
        node.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)

    assert connection.call(key, "SET", key, "x") in (b"OK", True)
    assert connection.pipeline(key, [["GET", key]]) == [b"x"]
    with connection.transaction(key) as transaction:
        transaction.queue([["GET", key]])
        assert transaction.execute() == [b"x"]


@pytest.mark.slow
def test_a_cluster_without_its_parameter_is_told(cluster: tuple[Server, Server]) -> None:
    key = next(key for key in (b"key%d" % n for n in range(99)) if _slot(cluster[0], key) > 8191)

    with pytest.raises(MlflowException) as caught:
        connect(cluster[0].target).call(key, "GET", key)

    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert caught.value.message.endswith("; add ?cluster=true to the target")


def _slot(server: Server, key: bytes) -> int:
    slot: int = server.client().execute_command("CLUSTER", "KEYSLOT", key)
    return slot


def test_a_single_server_that_is_no_cluster_is_told(redis_server: Server) -> None:
    error = failure(f"redisai://127.0.0.1:{redis_server.port}?cluster=true")

    assert error.error_code == "INVALID_PARAMETER_VALUE"
    assert (
        error.message
        == f"Redis at 127.0.0.1:{redis_server.port} is not part of a Redis Cluster; remove cluster=true from the target"
    )


def test_a_cluster_that_is_down_is_told() -> None:
    error = failure(f"redisai://127.0.0.1:{free_port()}?cluster=true")

    assert error.error_code == "TEMPORARILY_UNAVAILABLE"


def test_a_wrong_password_for_a_cluster_is_told(new_redis: Callable[..., Server]) -> None:
    server = new_redis("--cluster-enabled", "yes", "--requirepass", "right")

    error = failure(f"redisai://:{SECRET}@127.0.0.1:{server.port}?cluster=true")

    assert error.error_code == "UNAUTHENTICATED"


# -- tls ------------------------------------------------------------------------------------------


@pytest.fixture
def tls_server(new_engine: Callable[..., Server], tmp_path: Path) -> Server:
    """An engine with TLS and its own certificate for localhost. Clients must present one as well."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on the PATH")
    new_key = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([openssl, "req", *new_key, *files, *names], check=True, capture_output=True)
    own = ("--tls-cert", f"{tmp_path}/cert.pem", "--tls-key", f"{tmp_path}/key.pem")
    return new_engine(*own, "--tls-ca-cert-file", f"{tmp_path}/cert.pem", "--tls-auth-clients", "yes")


def test_tls_with_certificates_on_both_sides(tls_server: Server, tmp_path: Path) -> None:
    ours = f"ssl_certfile={tmp_path}/cert.pem&ssl_keyfile={tmp_path}/key.pem"

    connection = connect(f"redisai://localhost:{tls_server.port}?ssl_ca_certs={tmp_path}/cert.pem&{ours}")

    assert connection.call(b"k", "ECHO", "secretly") == b"secretly"


def test_a_certificate_that_nobody_trusts_is_refused(tls_server: Server, tmp_path: Path) -> None:
    ours = f"tls_cert={tmp_path}/cert.pem&tls_key={tmp_path}/key.pem"
    target = f"redisai://localhost:{tls_server.port}?{ours}"

    error = failure(target)

    assert error.error_code == "TEMPORARILY_UNAVAILABLE"
    assert "certificate verify failed" in error.message
    assert connect(f"{target}&ssl_cert_reqs=none").call(b"k", "ECHO", "anyway") == b"anyway"


def test_a_certificate_for_another_host_is_refused_unless_names_are_not_checked(
    tls_server: Server, tmp_path: Path
) -> None:
    """127.1 is 127.0.0.1 too, but it isn't in the certificate."""
    ours = f"ssl_certfile={tmp_path}/cert.pem&ssl_keyfile={tmp_path}/key.pem&ssl_ca_certs={tmp_path}/cert.pem"
    target = f"redisai://127.1:{tls_server.port}?{ours}"

    error = failure(target)

    assert error.error_code == "TEMPORARILY_UNAVAILABLE"
    assert "127.1" in error.message
    assert "certificate verify failed" in error.message
    assert connect(f"{target}&ssl_check_hostname=off").call(b"k", "ECHO", "anyway") == b"anyway"


def test_a_file_that_is_no_certificate_is_told(redis_server: Server, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")

    error = failure(f"redisai://localhost:{redis_server.port}?ssl_ca_certs={tmp_path}/ca.pem")

    assert error.error_code == "TEMPORARILY_UNAVAILABLE"
