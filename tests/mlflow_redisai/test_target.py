"""A target URI and REDIS_* variables become connection parameters; errors about invalid URIs say what is wrong."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from mlflow_redisai import RedisAIClient
from mlflow_redisai.target import PARAMETERS, VARIABLES, Target
from support.malformed_urls import shows_a_part, urls_with_a_password

ENVIRONMENT = {
    "REDIS_HOST": "from-environment",
    "REDIS_PORT": "7777",
    "REDIS_DB": "5",
    "REDIS_USERNAME": "env-user",
    "REDIS_PASSWORD": "env-secret",
}


def parse(uri: str, **environment: str) -> Target:
    return Target.parse(uri, environment)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("redisai", Target()),
        ("redisai:", Target()),
        ("redisai:/", Target()),
        ("redisai://", Target()),
        ("redisai:///", Target()),
        ("REDISAI://", Target()),
        ("redisai:/example.org", Target(host="example.org")),
        ("redisai://example.org", Target(host="example.org")),
        ("redisai:/example.org:7000", Target(host="example.org", port=7000)),
        ("redisai://example.org:7000/", Target(host="example.org", port=7000)),
        ("redisai:/example.org:7000/3", Target(host="example.org", port=7000, db=3)),
        ("redisai://example.org/3/", Target(host="example.org", db=3)),
        ("redisai:/:7000", Target(port=7000)),
        ("redisai:/:/", Target()),
        ("redisai:/:@:/", Target()),
        ("redisai:///3", Target(db=3)),
        ("redisai:/:secret@", Target(password="secret")),
        ("redisai://me:secret@example.org:7000/3", Target("example.org", 7000, 3, "me", "secret")),
        ("redisai:/me:secret@:7000/3", Target("localhost", 7000, 3, "me", "secret")),
        ("redisai://:a:b@example.org", Target(host="example.org", password="a:b")),
    ],
)
def test_every_part_may_be_left_out(uri: str, expected: Target) -> None:
    assert parse(uri) == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("redisai://m%40e:p%2F%3A%23%3F%25@h", Target(host="h", username="m@e", password="p/:#?%")),
        ("redisai://:%C3%BC%20@h", Target(host="h", password="ü ")),
        ("redisai://ex%61mple.org/%33", Target(host="example.org", db=3)),
        ("redisai://:a+b@h", Target(host="h", password="a+b")),
    ],
)
def test_parts_are_percent_decoded(uri: str, expected: Target) -> None:
    """A plus sign stays a plus sign, because these are not form fields."""
    assert parse(uri) == expected


@pytest.mark.parametrize(
    ("uri", "expected", "label"),
    [
        ("redisai://[::1]", Target(host="::1"), "Redis at [::1]:6379"),
        ("redisai:/[::1]:7000/2", Target(host="::1", port=7000, db=2), "Redis at [::1]:7000/2"),
        ("redisai://me:pw@[fe80::1%25eth0]:7", Target("fe80::1%eth0", 7, 0, "me", "pw"), "Redis at [fe80::1%eth0]:7"),
    ],
)
def test_ipv6_hosts_stand_in_brackets(uri: str, expected: Target, label: str) -> None:
    target = parse(uri)

    assert target == expected
    assert target.label == label


def test_parameters_carry_the_rest(tmp_path) -> None:
    """TLS, certificates, timeouts and cluster follow the question mark."""
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text("pem")
    query = f"ssl_ca_certs={tmp_path}/ca&ssl_certfile={tmp_path}/cert&ssl_keyfile={tmp_path}/key&ssl_cert_reqs=None"

    target = parse(f"redisai://h:1?tls=yes&{query}&connect_timeout=2.5&read_timeout=0&cluster=true&protocol=2")

    assert target == Target(
        host="h",
        port=1,
        tls=True,
        ssl_ca_certs=f"{tmp_path}/ca",
        ssl_certfile=f"{tmp_path}/cert",
        ssl_keyfile=f"{tmp_path}/key",
        ssl_cert_reqs="none",
        connect_timeout=2.5,
        read_timeout=0.0,
        cluster=True,
        protocol=2,
    )
    assert target.redis_arguments() == {
        "host": "h",
        "port": 1,
        "username": None,
        "password": None,
        "socket_connect_timeout": 2.5,
        "socket_timeout": None,
        "socket_keepalive": True,
        "protocol": 2,
        "ssl": True,
        "ssl_ca_certs": f"{tmp_path}/ca",
        "ssl_certfile": f"{tmp_path}/cert",
        "ssl_keyfile": f"{tmp_path}/key",
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": False,
    }


@pytest.mark.parametrize(
    "query", ["ssl_cert_reqs=none", "ssl_cert_reqs=required", "ssl_check_hostname=off", "tls_verify=true"]
)
def test_a_parameter_on_tls_alone_means_tls(query: str) -> None:
    """A user who names one must not end up with an unencrypted connection."""
    assert parse(f"redisai://h?{query}").tls


def test_older_names_mean_what_redis_pys_names_mean(tmp_path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text("pem")
    older = f"tls_ca={tmp_path}/ca&tls_cert={tmp_path}/cert&tls_key={tmp_path}/key"
    newer = f"ssl_ca_certs={tmp_path}/ca&ssl_certfile={tmp_path}/cert&ssl_keyfile={tmp_path}/key"

    assert parse(f"redisai://h?{older}") == parse(f"redisai://h?{newer}")
    assert parse("redisai://h?tls_verify=no") == parse("redisai://h?ssl_cert_reqs=none")
    assert parse("redisai://h?tls_verify=yes") == parse("redisai://h?ssl_cert_reqs=required")


@pytest.mark.parametrize(
    ("query", "reqs", "name_checked"),
    [
        ("tls=true", "required", True),
        ("ssl_cert_reqs=optional", "optional", True),
        ("ssl_cert_reqs=none", "none", False),
        ("ssl_cert_reqs=none&ssl_check_hostname=true", "none", False),
        ("ssl_check_hostname=false", "required", False),
    ],
)
def test_what_is_checked_of_the_servers_certificate(query: str, reqs: str, name_checked: bool) -> None:  # noqa: FBT001
    arguments = parse(f"redisai://h?{query}").redis_arguments()

    assert (arguments["ssl_cert_reqs"], arguments["ssl_check_hostname"]) == (reqs, name_checked)


def test_the_environment_counts_when_the_uri_names_no_part() -> None:
    expected = Target("from-environment", 7777, 5, "env-user", "env-secret")

    assert Target.parse("redisai", ENVIRONMENT) == expected
    assert Target.parse("redisai:/", ENVIRONMENT) == expected
    assert Target.parse("redisai:///?connect_timeout=10", ENVIRONMENT) == expected


@pytest.mark.parametrize("uri", ["redisai:/h", "redisai:/:6379", "redisai:///0", "redisai:/:secret@"])
def test_the_environment_is_ignored_when_the_uri_names_any_part(uri: str) -> None:
    assert Target.parse(uri, ENVIRONMENT) == Target.parse(uri, {})


def test_empty_variables_are_as_good_as_none() -> None:
    assert Target.parse("redisai", dict.fromkeys(ENVIRONMENT, "")) == Target()


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PORT", "7001")

    assert Target.parse("redisai") == Target(port=7001)


FORM = "write it as redisai://[[username]:[password]@][host][:port][/db]"
KNOWN = ", ".join(parameter.name for parameter in PARAMETERS)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("redis://h:1", f"the target's scheme must be redisai; {FORM}"),
        ("http://h", f"the target's scheme must be redisai; {FORM}"),
        ("localhost", f"the target's scheme must be redisai; {FORM}"),
        ("", f"the target's scheme must be redisai; {FORM}"),
        ("redisai:h:1", f"the target needs a slash after redisai:; {FORM}"),
        ("redisai://h:0", "the target's port is malformed: it must be a whole number from 1 to 65535"),
        ("redisai://h:65536", "the target's port is malformed: it must be a whole number from 1 to 65535"),
        ("redisai://h:http", "the target's port is malformed: it must be a whole number from 1 to 65535"),
        ("redisai://h:-1", "the target's port is malformed: it must be a whole number from 1 to 65535"),
        (
            "redisai://h/x",
            "the target's database is malformed: it must be a whole number, 0 to 15 unless the server allows more",
        ),
        (
            "redisai://h/-1",
            "the target's database is malformed: it must be a whole number, 0 to 15 unless the server allows more",
        ),
        (
            "redisai://::1",
            (
                "the target's host has more than one colon; write an IPv6 address in brackets, as in [::1]:6379, and a "
                "password before an @, as in :password@host"
            ),
        ),
        (
            "redisai://[::1",
            "the target's host is malformed; write an IPv6 address in brackets, as in [::1]:6379",
        ),
        ("redisai://h?tsl=on", f"the target has an unknown parameter 'tsl'; allowed are {KNOWN}"),
        ("redisai://h?tls=on&tls=on", "the target has the parameter 'tls' twice; give it once"),
        (
            "redisai://h?tls_verify=on&ssl_cert_reqs=none",
            (
                "the target has the parameters 'tls_verify' and 'ssl_cert_reqs', which mean the same; give only one of "
                "them"
            ),
        ),
        (
            "redisai://h?ssl_cert_reqs=maybe",
            "the target's parameter ssl_cert_reqs is 'maybe': it must be required, optional or none",
        ),
        ("redisai://h?tls_verify=maybe", "the target's parameter tls_verify is 'maybe': it must be true or false"),
        ("redisai://h?protocol=4", "the target's parameter protocol is '4': it must be 2 or 3"),
        ("redisai://h?tls=maybe", "the target's parameter tls is 'maybe': it must be true or false"),
        (
            "redisai://h?read_timeout=-1",
            (
                "the target's parameter read_timeout is '-1': it must be a number of seconds, such as 2.5; 0 means no "
                "limit"
            ),
        ),
        (
            "redisai://h?connect_timeout=soon",
            (
                "the target's parameter connect_timeout is 'soon': it must be a number of seconds, such as 2.5; 0 "
                "means no limit"
            ),
        ),
        ("redisai://h?tls_ca=/no/such/file", "the target's parameter tls_ca is '/no/such/file': there is no such file"),
        *(
            (
                f"redisai://h?tls=false&{other}",
                "the target has tls=false and other TLS parameters; remove one or the other",
            )
            for other in ("tls_verify=true", "ssl_cert_reqs=required", "ssl_check_hostname=true")
        ),
        (
            "redisai://h/2?cluster=true",
            "the target has database 2, but a Redis Cluster has only database 0",
        ),
        ("redisai://%FF@h", "the target has a user name but no password; write username:password@ or :password@"),
        ("redisai://:%FF@h", "the target has a percent-encoded part that is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_uri_is_said_with_its_value_and_the_way_out(uri: str, message: str) -> None:
    with pytest.raises(MlflowException) as caught:
        parse(uri)

    assert caught.value.message == message
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"REDIS_PORT": "six"}, "the variable REDIS_PORT is 'six': it must be a whole number from 1 to 65535"),
        (
            {"REDIS_DB": "one"},
            "the variable REDIS_DB is 'one': it must be a whole number, 0 to 15 unless the server allows more",
        ),
        (
            {"REDIS_USERNAME": "me"},
            "the user 'me' needs a password; set REDIS_PASSWORD, or write username:password@",
        ),
    ],
)
def test_what_is_wrong_with_a_variable_is_said(variables: dict[str, str], message: str) -> None:
    with pytest.raises(MlflowException) as caught:
        Target.parse("redisai", variables)

    assert caught.value.message == message
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_one_half_of_a_client_certificate_is_not_enough(tmp_path) -> None:
    (tmp_path / "key").write_text("pem")

    with pytest.raises(MlflowException) as caught:
        parse(f"redisai://h?ssl_keyfile={tmp_path}/key")

    assert caught.value.message == (
        "the target has only one of ssl_certfile and ssl_keyfile; a client certificate needs both"
    )


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "uri",
    [
        f"redisai://{SECRET}@h",
        f"redisai://:{SECRET}/x@h",
        f"redisai://:{SECRET}#x@h",
        f"redisai://:{SECRET}?x@h",
        f"redisai://:x/{SECRET}@h",
        f"redisai://:x#{SECRET}@h",
        f"redisai://:x?{SECRET}@h",
        f"redisai://:%FF{SECRET}@h",
        f"redisai://:{SECRET}@h:port",
        f"redisai://:{SECRET}@h/db",
        f"redisai://:{SECRET}@::1",
        f"redisai://:{SECRET}@h?nope=1",
        f"rediss://:{SECRET}@h",
        SECRET,
    ],
)
def test_no_error_about_a_uri_holds_its_password(uri: str) -> None:
    """Not even if the password itself is malformed, and not in chained exceptions either."""
    with pytest.raises(MlflowException) as caught:
        parse(uri)

    assert SECRET not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__cause__ is None


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    (tmp_path / "password").write_text("p@ss:%40\n")
    return str(tmp_path / "password")


def test_a_password_can_be_in_a_file(password_file: str) -> None:
    """As it is, without percent-encoding; only the last line break is not part of it."""
    expected = Target(host="h", username="me", password="p@ss:%40")

    assert parse(f"redisai://me@h?password_file={password_file}") == expected
    assert parse(f"redisai://me:@h?password_file={password_file}") == expected
    assert parse("redisai", REDIS_HOST="h", REDIS_USERNAME="me", REDIS_PASSWORD_FILE=password_file) == expected
    assert parse("redisai://h", REDIS_PASSWORD_FILE=password_file).password is None
    assert "p@ss" not in repr(expected)


@pytest.mark.parametrize(
    ("uri", "environment", "message"),
    [
        ("redisai://:x@h?password_file={}", {}, "the password is given both by itself and by a file; give it once"),
        (
            "redisai",
            {"REDIS_PASSWORD": "x", "REDIS_PASSWORD_FILE": "{}"},
            "the password is given both by itself and by a file; give it once",
        ),
        (
            f"redisai://h?password_file={SECRET}",
            {},
            "the target's parameter password_file is malformed: there is no such file",
        ),
        (
            "redisai",
            {"REDIS_PASSWORD_FILE": SECRET},
            "the variable REDIS_PASSWORD_FILE is malformed: there is no such file",
        ),
    ],
)
def test_a_password_in_two_places_or_in_no_file_is_refused(
    password_file: str, uri: str, environment: dict[str, str], message: str
) -> None:
    given_there = {name: value.format(password_file) for name, value in environment.items()}

    with pytest.raises(MlflowException) as caught:
        parse(uri.format(password_file), **given_there)

    assert caught.value.message == message


@pytest.mark.parametrize(("content", "reason"), [(b"\xff", "can't be read: it is not UTF-8"), (b"\n", "is empty; it")])
def test_a_file_without_a_password_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "password").write_bytes(content)

    with pytest.raises(MlflowException, match=f"the password's file {reason}"):
        parse(f"redisai://h?password_file={tmp_path / 'password'}")


@pytest.mark.parametrize(("named", "expected"), [(True, 1), (False, 0)])
def test_a_password_in_the_arguments_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, named: bool, expected: int
) -> None:
    uri = f"redisai://:{SECRET}%2F@h"
    monkeypatch.setattr(sys, "argv", ["mlflow", "deployments", "list", "-t", uri if named else "redisai"])

    RedisAIClient(uri)

    assert len(caplog.messages) == expected
    assert SECRET not in caplog.text


@settings(max_examples=300)
@given(
    st.sampled_from([row.name for row in PARAMETERS if row.name != "tls_verify"]),
    urls_with_a_password(("redisai", "redis")),
)
def test_no_parameter_or_variable_shows_a_password_that_was_put_there(name: str, url: str) -> None:
    parts = [variable.name for variable in VARIABLES if variable.name not in ("REDIS_HOST", "REDIS_USERNAME")]
    for uri, environment in (
        (f"redisai://h?{name}={quote(url, safe='')}", {}),
        ("redisai", dict.fromkeys(parts, url)),
    ):
        try:
            told = f"{(target := Target.parse(uri, environment)).label} {target!r}"
        except MlflowException as error:
            told = "".join(traceback.format_exception(error))

        assert not shows_a_part(told)


@settings(max_examples=1000)
@given(urls_with_a_password(("redisai",)))
def test_no_uri_shows_its_password(uri: str) -> None:
    """Neither in an error, with all that it is chained to, nor in what is made of it."""
    try:
        told = f"{(target := parse(uri)).label} {target!r}"
    except MlflowException as error:
        told = "".join(traceback.format_exception(error))

    assert not shows_a_part(told)


def test_a_variable_that_is_a_whole_url_is_not_quoted() -> None:
    with pytest.raises(MlflowException) as caught:
        Target.parse("redisai", {"REDIS_PORT": f"redis://:{SECRET}@h:6379"})

    assert caught.value.message == ("the variable REDIS_PORT is malformed: it must be a whole number from 1 to 65535")


def test_a_target_shows_its_password_nowhere() -> None:
    target = parse(f"redisai://me:{SECRET}%2F@h")

    assert SECRET not in repr(target)
    assert SECRET not in target.label
    assert target.redact(f"wrong: {SECRET}/ and {SECRET}%2F") == "wrong: *** and ***"


def test_a_target_is_frozen() -> None:
    with pytest.raises(AttributeError):
        parse("redisai").port = 1  # type: ignore[misc]


def test_every_row_of_the_tables_fills_a_field_of_the_target() -> None:
    fields = set(Target.__dataclass_fields__)

    assert {row.field for row in (*PARAMETERS, *VARIABLES)} == fields | {"password_file"}
