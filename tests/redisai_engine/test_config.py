"""The one table of settings: flags, environment, config file, and the errors for bad values."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import traceback
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from redisai_engine.config import Settings, flag, load_settings
from redisai_engine.errors import StartError
from redisai_engine.processors import available
from redisai_engine.redis.address import parse_address
from support.malformed_urls import shows_a_part, urls_with_a_password


def refusal(*arguments: str, **environment: str) -> str:
    with pytest.raises(StartError) as refused:
        load_settings(arguments, environment)
    return refused.value.wire


class TestSources:
    """The command line wins over the environment, and the environment over the file."""

    def test_without_any_the_defaults_hold(self):
        assert load_settings([], {}) == Settings(workers=available())

    def test_precedence(self, tmp_path: Path):
        file = tmp_path / "engine.conf"
        file.write_text("port 1\nthreads-per-queue 2\nintra-op-threads 3\n")
        environment = {"REDISAI_ENGINE_PORT": "10", "REDISAI_ENGINE_THREADS_PER_QUEUE": "20"}

        settings = load_settings(["--config", str(file), "--port", "100"], environment)

        assert (settings.port, settings.threads_per_queue, settings.intra_op_threads) == (100, 20, 3)
        assert settings.inter_op_threads == 1

    def test_the_environment_can_name_the_file(self, tmp_path: Path):
        file = tmp_path / "engine.conf"
        file.write_text("port 7")

        assert load_settings([], {"REDISAI_ENGINE_CONFIG": str(file)}).port == 7

    def test_a_file_has_comments_blank_lines_tabs_and_both_spellings(self, tmp_path: Path):
        file = tmp_path / "engine.conf"
        file.write_text("# all of it\n\n  port\t7  # here\nqueue_limit 5\nqueue-limit 6\nbind ::1\nredis\n")

        settings = load_settings(["--config", str(file)], {})

        assert (settings.port, settings.queue_limit, settings.bind, settings.redis) == (7, 6, "::1", "")

    @pytest.mark.parametrize(
        ("given", "keys"),
        [
            (["--python-models"], "*"),
            (["--python-models", "yes"], "*"),
            (["--python-models", "ON"], "*"),
            (["--python-models", "no"], ""),
            (["--python-models", "0"], ""),
            (["--python-models", "py:*"], "py:*"),
            (["--python-models", " py:*, team-?:[ab]* ,"], "py:*,team-?:[ab]*"),
            ([], ""),
        ],
    )
    def test_a_switch_may_be_patterns_of_keys(self, given: list[str], keys: str):
        assert load_settings(given, {}).python_models == keys
        forbidding = {"MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false"}
        assert load_settings(given, forbidding).python_models == ""

    @pytest.mark.parametrize("row", fields(Settings), ids=lambda row: row.name)
    def test_every_setting_has_a_flag_a_variable_and_a_line(self, row, tmp_path: Path):
        limits = ("output_limit", "request_limit", "reply_limit", "tensor_limit", "http_body_limit")
        large = dict.fromkeys(limits, "2000000")
        chosen = {
            "in_process": "torch",
            "tls_auth_clients": "optional",
            "metrics_compat": "triton",
            "hosts_per": "model",
        }
        value = {**chosen, **large}.get(row.name) or {
            bool: "no" if row.default else "yes",
            int: "3",
            str: "x",
        }[type(row.default)]
        certificate, key, ca = ("--tls-cert", "c"), ("--tls-key", "k"), ("--tls-ca-cert-file", "a")
        both = {
            "tls_cert": key,
            "tls_key": certificate,
            "tls_ca_cert_file": (*certificate, *key),
            "tls_auth_clients": (*certificate, *key, *ca),
        }.get(row.name, ())
        file = tmp_path / "engine.conf"
        file.write_text(f"{row.name.replace('_', '-')} {value}\n")

        expected = row.metadata["parse"](value)
        by_flag = load_settings([flag(row.name), value, *both], {})
        by_variable = load_settings(both, {f"REDISAI_ENGINE_{row.name.upper()}": value})
        by_file = load_settings(["--config", str(file), *both], {})

        assert [expected] * 3 == [getattr(settings, row.name) for settings in (by_flag, by_variable, by_file)]
        assert row.default != expected

    @pytest.mark.parametrize(("words", "value"), [([], True), (["no"], False), (["ON"], True), (["0"], False)])
    def test_a_switch_may_stand_alone(self, words: list[str], value: bool):  # noqa: FBT001  # a parameter of the test
        assert load_settings(["--strict", *words], {}).strict is value


class TestRefusals:
    """Each error names the setting, its value and what is allowed."""

    def test_a_number_that_is_none(self):
        assert refusal("--port", "abc") == "--port can't be 'abc': it must be a whole number from 0 to 65535"

    def test_a_number_out_of_range(self):
        assert refusal("--port", "65536") == "--port can't be '65536': it must be a whole number from 0 to 65535"
        assert (
            refusal("--queue-limit=-1") == "--queue-limit can't be '-1': it must be a whole number from 1 to 10000000"
        )

    def test_a_switch_that_is_none(self):
        assert refusal("--strict=maybe") == "--strict can't be 'maybe': it must be yes or no"

    def test_a_variable(self):
        expected = "REDISAI_ENGINE_PORT can't be '': it must be a whole number from 0 to 65535"
        assert refusal(REDISAI_ENGINE_PORT="") == expected

    def test_a_line_of_the_file(self, tmp_path: Path):
        file = tmp_path / "engine.conf"
        file.write_text("\nport none\n")

        expected = f"{file}, line 2: port can't be 'none': it must be a whole number from 0 to 65535"
        assert refusal("--config", str(file)) == expected

    def test_a_name_that_there_is_not(self, tmp_path: Path):
        file = tmp_path / "engine.conf"
        file.write_text("prot 6379\n")
        names = ", ".join(sorted(row.name for row in fields(Settings))).replace("_", "-")

        assert refusal("--config", str(file)) == f"{file}, line 1: unknown setting 'prot'; the settings are {names}"

    def test_a_file_that_is_not_there(self, tmp_path: Path):
        file = tmp_path / "engine.conf"

        assert refusal("--config", str(file)) == f"the config file {file} can't be read: No such file or directory"

    def test_a_file_that_is_no_text(self, tmp_path: Path):
        file = tmp_path / "engine.conf"
        file.write_bytes(b"port \xff\n")

        assert refusal("--config", str(file)) == f"the config file {file} can't be read: it is not UTF-8"

    @pytest.mark.parametrize("name", ["--tls-cert", "--tls-key"])
    def test_half_of_tls(self, name: str):
        assert refusal(name, "file") == "tls-cert and tls-key go together: set both or neither"

    def test_client_certificates_without_the_rest(self):
        """A port that would be less protected than the settings say."""
        needs = "needs tls-ca-cert-file: set both"
        both = ("--tls-cert", "c", "--tls-key", "k")

        assert refusal("--tls-ca-cert-file", "a") == "tls-ca-cert-file needs tls-cert and tls-key: set all three"
        assert refusal("--tls-auth-clients", "yes") == f"tls-auth-clients yes {needs}"
        assert refusal("--tls-auth-clients", "Optional", *both) == f"tls-auth-clients optional {needs}"
        assert refusal("--tls-auth-clients", "x") == "--tls-auth-clients can't be 'x': it must be yes, no or optional"

    @pytest.mark.parametrize("arguments", [["--prot", "1"], ["--por", "1"], ["--port"], ["stray"]])
    def test_unknown_flags_are_refused_with_the_usage(self, arguments: list[str], capsys: pytest.CaptureFixture[str]):
        with pytest.raises(SystemExit) as ended:
            load_settings(arguments, {})

        assert ended.value.code == 2
        assert "usage: redisai-engine " in capsys.readouterr().err


class TestSecrets:
    """What may be a URL with a password is never shown, wherever it was put by mistake."""

    URL = "redis://:S3CRET@h"

    @pytest.mark.parametrize("name", ["--port", "--strict", "--in-process", "--queue-limit"])
    def test_as_another_value(self, name: str):
        assert refusal(name, self.URL).startswith(f"{name} can't be '***': it must be ")

    @pytest.mark.parametrize("line", [URL, f"redis={URL}", f"port {URL}", f"{URL} x"], ids=range(4))
    def test_in_a_file(self, line: str, tmp_path: Path):
        file = tmp_path / "engine.conf"
        file.write_text(line)

        assert "***" in refusal("--config", str(file))
        assert "S3CRET" not in refusal("--config", str(file))

    @pytest.mark.parametrize("arguments", [[URL], ["--redi", URL], [f"--redi={URL}"], ["--redis", URL, URL]])
    def test_as_an_argument(self, arguments: list[str], capsys: pytest.CaptureFixture[str]):
        with pytest.raises(SystemExit):
            load_settings(arguments, {})

        assert "S3CRET" not in "".join(capsys.readouterr())

    @given(
        st.sampled_from(sorted(row.name for row in fields(Settings) if row.name != "redis_password_file")),
        urls_with_a_password(schemes=("redis", "rediss", "unix")),
        st.sampled_from(["argument", "variable", "file"]),
    )
    @settings(max_examples=300)
    def test_wherever_they_are(self, name: str, url: str, where: str):
        """Neither in an error nor on standard error, in the log or in the settings' own text."""
        assume(where != "file" or not {"#", "\n"} & set(url))  # a comment, another line
        told = io.StringIO()
        handler = logging.StreamHandler(told)
        logging.getLogger("redisai_engine").addHandler(handler)
        try:
            with contextlib.redirect_stderr(told), tempfile.NamedTemporaryFile("w") as file:
                file.write(f"{name} {url}\n")
                file.flush()
                arguments = {"argument": [flag(name), url], "variable": [], "file": ["--config", file.name]}[where]
                variables = {f"REDISAI_ENGINE_{name.upper()}": url} if where == "variable" else {}
                found = load_settings(arguments, variables)
                if name == "redis":
                    told.write(f"{found!r} {(address := parse_address(found.redis))} {address!r}")
        except StartError as error:
            told.write("".join(traceback.format_exception(error)))
        except SystemExit:
            pass
        finally:
            logging.getLogger("redisai_engine").removeHandler(handler)

        assert not shows_a_part(told.getvalue())

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("redis://h", 0),
            ("redis://me@h", 0),
            ("redis://:pw@h", 1),
            ("redis://me:pw@h", 1),
            ("redis://h?password=pw", 1),
        ],
    )
    def test_a_password_in_the_arguments_is_warned_of(self, url: str, expected: int, caplog: pytest.LogCaptureFixture):
        load_settings([], {"REDISAI_ENGINE_REDIS": url})
        assert caplog.messages == []

        load_settings(["--redis", url], {})

        assert len(caplog.messages) == expected
        assert all("everybody on this machine can read there" in message for message in caplog.messages)

    def test_in_the_settings_themselves(self):
        assert "S3CRET" not in repr(load_settings(["--redis", self.URL], {}))


def test_help_tells_every_setting_with_unit_and_default(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        load_settings(["--help"], {})

    told = "".join(capsys.readouterr().out.split())  # lines may end behind a hyphen, too
    for row in fields(Settings):
        assert flag(row.name) in told
        assert "".join(row.metadata["help"].split()) in told
    assert "arunthattakeslongerisstopped;0:never[milliseconds](default:5000)" in told
