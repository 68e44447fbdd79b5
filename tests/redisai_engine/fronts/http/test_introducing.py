"""What a first prediction over HTTP would ask Redis is asked when the model is stored, for the user who stored it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from redisai_engine.codec.record import record_key
from support.http_calls import HttpServer, infer_json, start_http_engine
from support.servers import Server, start_redis
from support.tiny_models import product_and_sum
from support.waiting import wait_until

PAIR = infer_json(a=("FP32", [1, 2], [1, 2]), b=("FP32", [1, 2], [3, 4]))
RECORDS = {"inputs": [{"a": [1, 2], "b": [3, 4]}]}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HttpServer, Server]]:
    """An engine whose Redis has two users, `ann` and `bob`, with keys of their own."""
    folder = tmp_path_factory.mktemp("introduced")
    redis_server = start_redis(folder / "redis", "--requirepass", "secret")
    server = start_http_engine(folder / "engine", "--redis", f"redis://:secret@127.0.0.1:{redis_server.port}")
    admin = server.engine.client(password="secret")
    for user in ("ann", "bob"):
        keys = (f"~{user}:*", f"~*:record:{user}:*")
        admin.execute_command("ACL", "SETUSER", user, "on", f">{user}:pw", *keys, "+@all", "-@dangerous")
    yield server, redis_server
    server.engine.stop()
    redis_server.stop()


def questions(watcher: redis.Redis) -> int:
    """Return how often Redis was asked what a key holds."""
    return int(watcher.info("commandstats").get("cmdstat_hmget", {}).get("calls", 0))


def asked(ask: Callable[[], int], watcher: redis.Redis) -> int:
    """Return how many questions a request causes, which must succeed."""
    before = questions(watcher)
    assert ask() == 200
    return questions(watcher) - before


class Deploying:
    """Stores models as a user who predicts over HTTP meanwhile."""

    def __init__(self, server: HttpServer, redis_server: Server, user: str, **login: str) -> None:
        self.http = server.as_user(f"{user}:{user}:pw")
        self.name = f"{user}:{len(login)}"
        self.client = server.engine.client(**login)
        self.watcher = redis_server.client(password="secret")
        self._number = 0

    def deploy(self) -> str:
        """Store a model, and return its name once nothing more is asked about it."""
        self._number += 1
        name = f"{self.name}:{self._number}"
        assert self.http.ask("GET", "/v2").status == 200  # so that the user is known
        before = questions(self.watcher)
        self.client.execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
        wait_until(lambda: questions(self.watcher) == before + 2)
        return name

    def first(self, path: str, body: object) -> int:
        """Return what the first prediction of a new deployment asks. Rights count for a second, so it may come late."""

        def found() -> list[int]:
            name = self.deploy()
            count = asked(lambda: self.http.ask("POST", path % name, body).status, self.watcher)
            return [] if count else [count]

        return wait_until(found)[0]


@pytest.mark.parametrize(("path", "body"), [("/v2/models/%s/infer", PAIR), ("/invocations/%s", RECORDS)])
@pytest.mark.parametrize("protocol", [2, 3])
def test_the_first_prediction_asks_nothing(
    guarded: tuple[HttpServer, Server], path: str, body: object, protocol: int
) -> None:
    """With RESP2 the user logs in by AUTH, with RESP3 by HELLO."""
    ann = Deploying(*guarded, "ann", username="ann", password="ann:pw", protocol=protocol)  # type: ignore[arg-type]

    assert ann.first(path, body) == 0


def test_it_asks_nothing_for_others_whose_refusals_redis_would_log(guarded: tuple[HttpServer, Server]) -> None:
    server, redis_server = guarded
    admin = redis_server.client(password="secret")
    ann = Deploying(server, redis_server, "ann", username="ann", password="ann:pw")
    bob = server.as_user("bob:bob:pw")
    admin.execute_command("ACL", "LOG", "RESET")
    assert bob.ask("GET", "/v2").status == 200

    name = ann.deploy()

    assert admin.execute_command("ACL", "LOG") == []
    assert bob.ask("POST", f"/v2/models/{name}/infer", PAIR).status == 403
    assert len(admin.execute_command("ACL", "LOG")) == 1


def errors_of(http: HttpServer) -> list[bytes]:
    lines = http.ask("GET", "/metrics").body.splitlines()
    return [line for line in lines if line.startswith(b"redisai_command_errors")]


def test_what_fails_is_no_error_of_anybody(http: HttpServer) -> None:
    """The record is too large to be read before anybody has asked for it."""
    client = http.engine.client()
    client.hset(record_key(b"met"), "field", b"x" * 300_000)
    assert http.ask("GET", "/v2").status == 200
    before, asked_before = errors_of(http), questions(client)

    client.execute_command("AI.MODELSTORE", "met", "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    wait_until(lambda: questions(client) == asked_before + 2)

    assert http.ask("POST", "/v2/models/met/infer", PAIR).status == 200
    assert errors_of(http) == before
