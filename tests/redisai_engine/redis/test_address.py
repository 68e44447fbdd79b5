"""--redis URLs. The tests of the session and the server cover what happens on the connections."""

from __future__ import annotations

from pathlib import Path

import pytest

from redisai_engine.errors import StartError
from redisai_engine.redis.address import Address, parse_address


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("redis://", Address(), "redis://127.0.0.1:6379"),
        ("redis://example.org", Address(host="example.org"), "redis://example.org:6379"),
        ("redis://h:7/0", Address(host="h", port=7), "redis://h:7"),
        ("redis://[::1]:7/", Address(host="::1", port=7), "redis://::1:7"),
        ("redis://:p%40ss@h", Address(host="h", password="p@ss"), "redis://h:6379"),
        ("redis://user:p%2Fw@h", Address(host="h", username="user", password="p/w"), "redis://h:6379"),
        ("unix:///run/my%20redis.sock", Address(path="/run/my redis.sock"), "unix:///run/my redis.sock"),
        ("unix://:pw@/run/r.sock", Address(path="/run/r.sock", password="pw"), "unix:///run/r.sock"),
    ],
)
def test_a_url_becomes_an_address_that_shows_no_password(url: str, address: Address, shown: str):
    assert parse_address(url) == address
    assert str(address) == shown


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("redis://h", ()),
        ("redis://user@h", ()),
        ("redis://:pw@h", (b"pw",)),
        ("redis://us%3Aer:pw@h", (b"us:er", b"pw")),
    ],
)
def test_credentials_are_the_arguments_of_auth(url: str, credentials: tuple[bytes, ...]):
    assert parse_address(url).credentials == credentials


@pytest.mark.parametrize("query", ["", "?ssl_cert_reqs=none"])
def test_rediss_means_tls(query: str):
    address = parse_address(f"rediss://h:7{query}")

    assert address.tls is not None
    assert address.tls.check_hostname is (query == "")
    assert str(address) == "rediss://h:7"


@pytest.mark.parametrize(
    ("url", "refusal"),
    [
        ("localhost:6379", "--redis can't be 'localhost:6379': it must start with redis://, rediss:// or unix://"),
        ("http://u:pw@h", "--redis can't be 'http://***@h': it must start with redis://, rediss:// or unix://"),
        ("redis://:pw@h:x", "--redis has a bad port in 'redis://***@h:x': it must be from 1 to 65535"),
        ("redis://h:70000", "--redis has a bad port in 'redis://h:70000': it must be from 1 to 65535"),
        ("redis://h:0", "--redis has a bad port in 'redis://h:0': it must be from 1 to 65535"),
        (
            "redis://:pw@h/5",
            "--redis can't name a database, as 'redis://***@h/5' does: clients choose theirs with SELECT",
        ),
        ("unix://", "--redis can't be 'unix://' alone: the socket's path is missing"),
        (
            "rediss://h?ssl_ca_certs=/no/such/file",
            (
                "--redis names certificates that can't be used in 'rediss://h?ssl_ca_certs=/no/such/file': "
                "[Errno 2] No such file or directory"
            ),
        ),
    ],
)
def test_a_bad_url_is_refused_without_showing_its_password(url: str, refusal: str):
    with pytest.raises(StartError) as refused:
        parse_address(url)

    assert refused.value.wire == refusal


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("x")

    with pytest.raises(StartError, match="names certificates that can't be used"):
        parse_address(f"rediss://h?ssl_ca_certs={tmp_path}/ca.pem")
