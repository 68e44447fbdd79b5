"""What a client may require: names with versions, and nothing that says where from."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from redisai_engine.environments.requirements import MOST_REQUIREMENTS, read_requirements
from redisai_engine.errors import EnvironmentFailure

HASH = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("mlflow==3.17.2", "mlflow==3.17.2"),
        ("Scikit_Learn == 1.9.1", "scikit-learn==1.9.1"),
        ("pandas<3,>=2.1 # any comment", "pandas<3,>=2.1"),
        ("uvicorn[standard]~=0.5", "uvicorn[standard]~=0.5"),
        ("tomli; python_version < '3.11'", 'tomli; python_version < "3.11"'),
        ("torch==2.13.0+cpu", "torch==2.13.0+cpu"),
        (f"six==1.17.0 --hash={HASH}", f"six==1.17.0 --hash={HASH}"),
        (f"six==1.17.0 \t --hash={HASH}  --hash {HASH}", f"six==1.17.0 --hash={HASH}"),
    ],
)
def test_a_name_with_versions_is_kept(line: str, kept: str) -> None:
    assert read_requirements([line]).lines == (kept,)


def test_lines_are_sorted_and_kept_once_and_those_that_say_nothing_are_dropped() -> None:
    assert read_requirements(["# pinned", "numpy==2", "", "  ", "mlflow", "NumPy==2"]).lines == ("mlflow", "numpy==2")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-e .", "options other than --hash aren't allowed"),
        ("-r other.txt", "options other than --hash aren't allowed"),
        ("--config-settings=x", "options other than --hash aren't allowed"),
        ("--requirement=/etc/passwd", "options other than --hash aren't allowed"),
        ("./local", "it isn't a package's name with versions, such as scikit-learn==1.9.1"),
        ("/etc/passwd", "it isn't a package's name with versions, such as scikit-learn==1.9.1"),
        ("wheels/mine-1.0-py3-none-any.whl", "it isn't a package's name with versions, such as scikit-learn==1.9.1"),
        ("git+https://host/x", "it isn't a package's name with versions, such as scikit-learn==1.9.1"),
        ("six==1.17 --index-url http://h", "it isn't a package's name with versions, such as scikit-learn==1.9.1"),
        ("six @ file:///etc/six.whl", "packages come from the engine's package index, not from URLs or repositories"),
        ("six @ git+https://h/six", "packages come from the engine's package index, not from URLs or repositories"),
        ("six===1.17.0", "it compares with ===; use =="),
        ("six==1.17 --hash=md5:00", "'md5:00' is no SHA-256, SHA-384 or SHA-512 hash"),
        ("six; python_version > '${HOME}'", "it contains a dollar sign or a character that can't be printed"),
        ("six\n-e .", "it contains a dollar sign or a character that can't be printed"),
    ],
)
def test_everything_else_is_refused_with_the_reason(line: str, why: str) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        read_requirements(["mlflow", line])

    assert caught.value.wire == f"ERR no environment for the model: its requirement {line!r} is refused: {why}"


def test_a_refused_url_is_shown_without_its_login() -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        read_requirements(["six @ https://me:geheim@host/six.whl"])

    assert "geheim" not in caught.value.wire
    assert "'six @ https://***@host/six.whl' is refused" in caught.value.wire


@pytest.mark.parametrize(
    "line",
    [
        "--extra-index-url https://host/simple",
        "-i https://host/simple",
        "--find-links=/somewhere",
        "--trusted-host host",
        "--no-index",
    ],
)
def test_where_packages_come_from_is_the_operators_choice(line: str) -> None:
    """MLflow writes such lines for PyTorch."""
    requirements = read_requirements(["torch==2.13.0", line])

    assert requirements.lines == ("torch==2.13.0",)
    assert requirements.left_out == (line,)


def test_with_one_hash_all_must_have_one() -> None:
    assert read_requirements([f"six==1.17.0 --hash={HASH}"]).hashed
    assert not read_requirements(["six==1.17.0"]).hashed
    with pytest.raises(EnvironmentFailure, match="its requirement 'mlflow' has no hash, but others have: give all one"):
        read_requirements([f"six==1.17.0 --hash={HASH}", "mlflow"])


def test_number_and_length_are_bounded() -> None:
    with pytest.raises(EnvironmentFailure, match=f"it has more than {MOST_REQUIREMENTS} requirements"):
        read_requirements(f"p{number}" for number in range(MOST_REQUIREMENTS + 1))
    with pytest.raises(EnvironmentFailure, match="requirement 1 isn't a text of at most 50000 characters"):
        read_requirements(["p" * 50_001])
    with pytest.raises(EnvironmentFailure, match="requirement 2 isn't a text of at most 50000 characters"):
        read_requirements(["mlflow", 7])


SAFE = re.compile(rf"[a-z0-9][a-z0-9.-]*(\[[^\]]*\])?[^\n$]*?( --hash=({HASH[:6]}|sha384|sha512)[0-9a-f:]*)*")
PIECES = [
    *("six", "numpy", "==", ">=", "1.0", "~=", "===", "@", " ", "\t", ";", "[", "]", ",", "(", ")", "-e", "-r", "--"),
    *("--hash=", HASH, "--index-url", "https://a:b@c/d", "file:///etc/passwd", "git+", "/", ".", "..", "#", "\\", "'"),
    *('"', "$", "{", "}", "\n", "\r", "\x00", "é", "python_version", "extra", "in", "and", "or", "<", "!"),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join) | st.text(max_size=40))
@example("six==1.17.0 --hash=" + HASH)
@example("(" * 10_000)
@example("six; " + "(" * 5_000 + "os_name=='a'")
def test_what_is_kept_is_one_plain_requirement_whatever_is_sent(line: str) -> None:
    try:
        kept = read_requirements([line]).lines
    except EnvironmentFailure:
        return
    for text in kept:
        assert SAFE.fullmatch(text), text
        plain = text.partition(" --hash=")[0]
        assert Requirement(plain).url is None
        assert read_requirements([text]).lines == (text,)
