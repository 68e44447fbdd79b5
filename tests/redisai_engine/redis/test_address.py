"""--redis URLs. The tests of the session and the server cover what happens on the connections."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings

from redisai_engine.errors import StartError
from redisai_engine.redis.address import Address, parse_address, with_password_of
from support.malformed_urls import shows_a_part, urls_with_a_password


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
        ("unix:///run/r@1.sock", Address(path="/run/r@1.sock"), "unix:///run/r@1.sock"),
        ("unix:///r?password=p%40w&db=0", Address(path="/r", password="p@w"), "unix:///r"),
        ("redis://:p@w@h", Address(host="h", password="p@w"), "redis://h:6379"),
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


FORMS = (
    "--redis must be a URL of one of the forms redis://[username:password@]host[:port], "
    "rediss://[username:password@]host[:port], unix://[username:password@]/path/to/socket"
)
PORT = "--redis has a bad port: it must be from 1 to 65535"
DATABASE = "--redis can't name a database, as the {} of its URL does: clients choose theirs with SELECT"
HOST = "--redis has a malformed host: write host:port, and an IPv6 address as in [::1]:6379"
SOCKET = (
    "--redis lacks the path of a socket, or the slash that it begins with: write "
    "unix://[username:password@]/path/to/socket"
)
WRITE = "write it as redis://[username:password@]host[:port]"


@pytest.mark.parametrize(
    ("url", "refusal"),
    [
        ("localhost:6379", FORMS),
        ("http://u:pw@h", FORMS),
        ("redis:/:pw@h", FORMS),
        (":pw", FORMS),
        ("", FORMS),
        ("redis://:pw@h:x", PORT),
        ("redis://h:70000", PORT),
        ("redis://h:0", PORT),
        ("redis://:pw", PORT),
        ("redis://::1", HOST),
        ("redis://[::1", HOST),
        ("redis://a..b", "--redis has a malformed host: it must be a name or an address"),
        ("redis://:pw@h/5", DATABASE.format("path")),
        ("redis://:pw@h/x", DATABASE.format("path")),
        ("redis://:pw@h?db=5", DATABASE.format("parameter db")),
        ("unix://", SOCKET),
        ("unix:///", SOCKET),
        ("unix://run/redis.sock", SOCKET),
        ("redis://:p/w@h", f"--redis has an @ behind a /; in a user name or password write / as %2F; {WRITE}"),
        (
            "redis://:p?w@h",
            f"--redis has an @ behind a ?; in a password write ? as %3F, in a parameter @ as %40; {WRITE}",
        ),
        ("redis://:p#w@h", f"--redis has a # in its URL; in a user name or password write it as %23; {WRITE}"),
        ("redis://:p w@h", f"--redis has a blank or control character in its URL; write it as %20 or %HEX; {WRITE}"),
        ("redis://:p%FFw@h", "--redis has a percent-encoded part that is not UTF-8"),
        ("unix:///a%00b", "--redis has a zero byte (%00) in its URL"),
        (
            "redis://h?ssl_ca_certs=/ca.pem",
            "--redis has a parameter that redis:// doesn't know; it knows db, username, password, each as name=value",
        ),
        ("rediss://h?ssl_cert_reqs=no", "--redis has a bad ssl_cert_reqs: it must be required, optional, none"),
        ("rediss://h?ssl_check_hostname=x", "--redis has a bad ssl_check_hostname: it must be true or false"),
        (
            "rediss://h?ssl_keyfile=/k",
            "ssl_certfile and ssl_keyfile of --redis go together: give both or neither",
        ),
        (
            "rediss://h?ssl_ca_certs=/no/such/file",
            "the ssl_ca_certs of --redis, /no/such/file, can't be read: No such file or directory",
        ),
    ],
)
def test_a_bad_url_is_refused_by_its_part(url: str, refusal: str):
    with pytest.raises(StartError) as refused:
        parse_address(url)

    assert refused.value.wire == refusal


@settings(max_examples=1000)
@given(urls_with_a_password(("redis", "rediss", "unix")))
def test_no_url_shows_its_password(url: str):
    """Neither in an error, with all that it is chained to, nor in what is made of it."""
    try:
        told = f"{(address := parse_address(url))} {address!r}"
    except StartError as error:
        told = "".join(traceback.format_exception(error))

    assert not shows_a_part(told)


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path):
    ca = tmp_path / "ca.pem"
    ca.write_text("x")

    with pytest.raises(StartError, match=f"the ssl_ca_certs of --redis, {ca}, has no certificate in PEM format"):
        parse_address(f"rediss://h?ssl_ca_certs={ca}")


class TestPasswordFiles:
    """A password that is in a file: neither in the arguments nor in the environment."""

    ADDRESS = parse_address("redis://me@h")

    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_its_text_is_the_password(self, tmp_path: Path, end: str):
        (tmp_path / "password").write_bytes(f" p@ss:%40 é{end}".encode())

        address = with_password_of(self.ADDRESS, str(tmp_path / "password"))

        assert address.credentials == (b"me", " p@ss:%40 é".encode())
        assert "p@ss" not in f"{address} {address!r}"

    def test_without_a_file_the_address_is_the_same(self):
        assert with_password_of(self.ADDRESS, "") is self.ADDRESS

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (None, "the file of --redis-password-file can't be read: No such file or directory"),
            (b"\xff", "the file of --redis-password-file can't be read: it is not UTF-8"),
            (b"\n", "the file of --redis-password-file is empty; it must hold the password"),
        ],
    )
    def test_a_file_of_no_use_is_told_but_not_named(self, tmp_path: Path, content: bytes | None, reason: str):
        """The password itself may stand where the name of its file should."""
        if content is not None:
            (tmp_path / "password").write_bytes(content)

        with pytest.raises(StartError) as refused:
            with_password_of(self.ADDRESS, str(tmp_path / "password"))

        assert str(refused.value) == reason

    def test_a_null_in_its_name_is_told(self):
        with pytest.raises(StartError, match="can't be read"):
            with_password_of(self.ADDRESS, "a\0b")

    def test_a_second_password_is_refused(self, tmp_path: Path):
        with pytest.raises(StartError, match="--redis has a password and --redis-password-file names another"):
            with_password_of(parse_address("redis://:pw@h"), str(tmp_path))
