"""What the builder's processes know, and what may be told of it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from redisai_engine.environments.variables import _has_authorities, builder_variables, mask, secrets_of

CACHE = Path("/environments/cache")


def test_the_builder_gets_indexes_proxies_and_certificates_and_nothing_else() -> None:
    engine = {
        "HOME": "/home/me",
        "UV_INDEX": "https://host/simple",
        "UV_INDEX_MINE_PASSWORD": "geheim",
        "UV_PYTHON_DOWNLOADS": "never",
        "https_proxy": "http://proxy",
        "SSL_CERT_FILE": "/certificates",
        "REDISAI_ENGINE_REDIS": "redis://:geheim@host",
        "REDIS_PASSWORD": "geheim",
        "AWS_SECRET_ACCESS_KEY": "geheim",
        "PYTHONPATH": "/x",
        "LD_PRELOAD": "/x",
        "VIRTUAL_ENV": "/x",
    }

    names = builder_variables(engine, CACHE).keys()

    assert names == {*list(engine)[:6], "PATH", "UV_NO_PROGRESS", "NO_COLOR"}


def test_variables_that_would_change_what_is_installed_where_do_not_reach_it() -> None:
    engine = dict.fromkeys(
        [
            *("UV_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON", "UV_NO_BINARY", "UV_NO_BUILD", "UV_VENV_SEED"),
            *("UV_WORKING_DIR", "UV_PUBLISH_TOKEN", "UV_REQUIRE_HASHES", "UV_NO_VERIFY_HASHES", "UV_COMPILE_BYTECODE"),
        ],
        "1",
    )

    assert not engine.keys() & builder_variables(engine, CACHE).keys()


def test_pips_variables_become_uvs_unless_uvs_are_set() -> None:
    engine = {
        "PIP_INDEX_URL": "https://host/simple",
        "PIP_EXTRA_INDEX_URL": "https://a/simple  https://b/simple",
        "PIP_FIND_LINKS": "/one /two",
        "PIP_TRUSTED_HOST": "a b",
        "PIP_CERT": "/certificates",
        "PIP_NO_INDEX": "1",
    }

    variables = builder_variables(engine, CACHE)

    assert variables["UV_DEFAULT_INDEX"] == "https://host/simple"
    assert variables["UV_INDEX"] == "https://a/simple https://b/simple"
    assert variables["UV_FIND_LINKS"] == "/one,/two"
    assert variables["UV_INSECURE_HOST"] == "a b"
    assert variables["SSL_CERT_FILE"] == "/certificates"
    assert variables["UV_NO_INDEX"] == "1"
    assert "UV_DEFAULT_INDEX" not in builder_variables({**engine, "UV_INDEX_URL": "https://mine"}, CACHE)


def test_downloads_are_kept_in_the_users_cache_or_beside_the_environments() -> None:
    assert builder_variables({}, CACHE)["UV_CACHE_DIR"] == str(CACHE)
    assert "UV_CACHE_DIR" not in builder_variables({"HOME": "/home/me"}, CACHE)


def test_the_secrets_are_logins_in_urls_and_passwords() -> None:
    variables = {
        "UV_INDEX": "mine=https://user:p%40ss-word@a/simple https://only-a-token@b/simple",
        "UV_FIND_LINKS": "https://user:first-one@a/,https://user:second-one@b/",
        "UV_INDEX_MINE_PASSWORD": "in-a-variable",
        "UV_INDEX_MINE_USERNAME": "somebody",
    }

    secrets = secrets_of(variables)

    assert {"p%40ss-word", "p@ss-word", "only-a-token", "first-one", "second-one", "in-a-variable"} <= set(secrets)
    assert "user" not in secrets
    assert mask("tried p@ss-word, second-one and in-a-variable", secrets) == "tried ***, *** and ***"


def test_a_login_in_a_url_is_masked_however_odd_it_is() -> None:
    assert mask("from https://user:a@b/c@host/simple, then") == "from https://***@host/simple, then"
    assert mask("`http://token@host/`") == "`http://***@host/`"
    assert mask("https://host/simple and me@host") == "https://host/simple and me@host"


@given(st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters="\"'`<>"), min_size=4, max_size=20))
def test_no_password_survives(password: str) -> None:
    secret = password + "\N{SNOWMAN}"  # nothing else in the text contains it
    url = f"https://somebody:{secret}@host/simple"

    assert secret not in mask(f"a {url} b")
    assert mask(secret, secrets_of({"UV_INDEX": url})) == "***"


def test_the_machines_authorities_count_unless_others_are_named() -> None:
    named = builder_variables({"SSL_CERT_FILE": "/certificates"}, CACHE)
    machines = builder_variables({}, CACHE)

    assert "UV_SYSTEM_CERTS" not in named
    assert ("UV_SYSTEM_CERTS" in machines) == _has_authorities()
