"""Metrics of real engines: they say exactly what was sent, over all workers, and go on when Redis has gone and come."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from urllib.error import HTTPError, URLError

import pytest

from redisai_engine.execution.figures import DURATIONS
from redisai_engine.watching.table import METRICS, TRITON
from support.connection import Connection, connected
from support.gateway import modelstore, predict, prediction, store_model
from support.replies import OK
from support.scraping import Scrape, fetch, scrape
from support.servers import Server, start_engine, start_redis
from support.waiting import free_port, wait_until

NewServer = Callable[..., Server]


def until(port: int, is_so: Callable[[Scrape], bool], what: str) -> Scrape:
    """Scrape until something is so: totals are up to a second old."""
    found = [scrape(port)]

    def is_so_now() -> bool:
        found[0] = scrape(port)
        return is_so(found[0])

    wait_until(is_so_now, what=what)
    return found[0]


def requests(told: Scrape, deployment: str, outcome: str = "ok") -> float:
    return told.sum("redisai_requests_total", deployment=deployment, outcome=outcome)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, int]]:
    """An engine that these tests share, with deployments of their own, and the port of its metrics."""
    port = free_port()
    engine = start_engine(tmp_path_factory.mktemp("watched"), "--metrics-port", str(port), "--metrics-compat", "triton")
    yield engine, port
    engine.stop()


class TestOfOneProcess:
    """One engine."""

    def test_requests_are_counted_exactly(self, watched: tuple[Server, int]) -> None:
        engine, port = watched
        with connected(engine) as wire:
            store_model(wire, "sum")
            store_model(wire, "product", "Mul")
            for number in range(40):
                assert predict(wire, "sum", 1, number) == 1 + number
            for number in range(3):
                assert predict(wire, "product", 2, number) == 2 * number
            wire.send(*[prediction("sum", 1, number) for number in range(16)])
            wire.replies(16)
            execute_alone(wire, "sum")

            told = until(port, lambda seen: requests(seen, "sum") == 57, "57 requests")

        assert requests(told, "product") == 3
        assert requests(told, "sum", "error") == 0
        assert told.sum("redisai_requests_total", deployment="sum", front="resp", version="", device="CPU") == 57
        for name in ("request", "queue", "run"):
            assert told.sum(f"redisai_{name}_seconds_count", deployment="sum") == 57, name
            assert told.sum(f"redisai_{name}_seconds_bucket", deployment="sum", le="+Inf") == 57, name
        assert told.sum("redisai_batch_rows_sum", deployment="product") == 3
        assert told.sum("redisai_models_loaded", deployment="sum") == 1
        assert told.sum("redisai_model_bytes", deployment="sum") > 0
        assert told.sum("redisai_tracking") == told.sum("redisai_processes") == 1

    def test_a_request_takes_at_least_as_long_as_its_queue_and_its_run(self, watched: tuple[Server, int]) -> None:
        engine, port = watched
        with connected(engine) as wire:
            store_model(wire, "m1")
            for number in range(20):
                predict(wire, "m1", 1, number)
            told = until(port, lambda seen: requests(seen, "m1") == 20, "20 requests")

        sums = {name: told.sum(f"redisai_{name}_seconds_sum", deployment="m1") for name in ("request", "queue", "run")}
        assert 0 < sums["run"] < sums["queue"] + sums["run"] < sums["request"] * 1.001

    def test_errors_are_counted_by_what_went_wrong(self, watched: tuple[Server, int]) -> None:
        engine, port = watched
        before = until(port, lambda seen: True, "anything")
        with connected(engine) as wire:
            store_model(wire, "m2")
            for key, count in (("two", 2), ("three", 3)):
                wire.ask("AI.TENSORSET", key, "FLOAT", count, "VALUES", *range(count))
            for _ in range(4):
                assert wire.ask("AI.MODELEXECUTE m2 INPUTS 2 two three OUTPUTS 1 y").startswith(b"-")
            assert wire.ask("AI.MODELEXECUTE missing INPUTS 2 two two OUTPUTS 1 y").startswith(b"-")

            told = until(port, lambda seen: requests(seen, "m2", "error") == 4, "4 errors")

        assert told.sum("redisai_errors_total", deployment="m2", kind="run") == 4
        for kind, count in (("run", 4), ("command", 1)):
            name = "redisai_command_errors_total"
            assert told.sum(name, kind=kind) == before.sum(name, kind=kind) + count
        assert "missing" not in told.values("redisai_errors_total", "deployment")

    def test_requests_in_a_batch_are_one_run_of_all_their_rows(self, watched: tuple[Server, int]) -> None:
        engine, port = watched
        with connected(engine) as first, connected(engine) as second:
            words = modelstore("m3")
            assert first.ask_raw(words) == OK
            options = ("ONNX", "CPU", "BATCHSIZE", 8, "MINBATCHSIZE", 2)
            assert first.ask("AI.MODELSTORE", "b3", *options, "BLOB", blob_of(first, "m3")) == OK
            first.send(prediction("b3", 1, 2))
            second.send(prediction("b3", 3, 4))
            first.reply(), second.reply()

            told = until(port, lambda seen: requests(seen, "b3") == 2, "2 requests")

        assert told.sum("redisai_run_seconds_count", deployment="b3") == 1
        assert told.sum("redisai_batch_rows_sum", deployment="b3") == 2
        assert told.sum("redisai_batch_rows_bucket", deployment="b3", le="1") == 0
        assert told.sum("redisai_batch_rows_bucket", deployment="b3", le="2") == 1

    def test_relayed_commands_are_counted(self, watched: tuple[Server, int]) -> None:
        engine, port = watched
        before = scrape(port).sum("redisai_relayed_commands_total")
        with connected(engine) as wire:
            wire.send(*[f"SET key{number} value" for number in range(50)])
            wire.replies(50)
            wire.ask("GET key1")
            told = until(
                port, lambda seen: seen.sum("redisai_relayed_commands_total") >= before + 51, "51 relayed commands"
            )

        assert told.sum("redisai_relayed_commands_total") == before + 51
        assert told.sum("redisai_upstream_opened_total") >= 1

    def test_a_deleted_deployment_vanishes_and_others_stay(self, watched: tuple[Server, int]) -> None:
        engine, port = watched
        with connected(engine) as wire:
            store_model(wire, "kept")
            store_model(wire, "gone")
            predict(wire, "kept", 1, 2), predict(wire, "gone", 1, 2)
            until(port, lambda seen: requests(seen, "gone") == 1, "the request")
            assert wire.ask("DEL gone") == b":1\r\n"

            told = until(port, lambda seen: requests(seen, "gone") == 0, "no trace of it")

        assert "gone" not in {labels.get("deployment") for _, labels, _ in told.samples}
        assert requests(told, "kept") == 1

    def test_a_model_that_is_stored_anew_goes_on_counting(self, watched: tuple[Server, int]) -> None:
        """Versions without a number in a registry are told as one, so that its numbers never shrink."""
        engine, port = watched
        with connected(engine) as wire:
            for number in range(12):
                store_model(wire, "m6", ("Add", "Mul")[number % 2])
                predict(wire, "m6", 1, number)
            told = until(port, lambda seen: requests(seen, "m6") >= 12, "12 requests")

        assert requests(told, "m6") == 12
        assert told.sum("redisai_models_loaded", deployment="m6") == 1

    def test_a_name_that_is_no_text_or_very_long_is_a_label(self, watched: tuple[Server, int]) -> None:
        engine, port = watched
        names = [b'\xff\x00"\n\\', b"x" * 5000]
        with connected(engine) as wire:
            blob = blob_of(wire, "m7", store=True)
            for name in names:
                assert wire.ask("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", blob) == OK
            told = until(port, lambda seen: "x" * 200 in str(seen.samples), "the long one")

        shown = told.values("redisai_models_loaded", "deployment")
        assert '\\xff\\0"\n\\' in shown
        assert max(map(len, shown)) < 220

    def test_both_formats_have_all_metrics(self, watched: tuple[Server, int]) -> None:
        engine, port = watched
        with connected(engine) as wire:
            store_model(wire, "m8")
            predict(wire, "m8", 1, 2)
            until(port, lambda seen: requests(seen, "m8") == 1, "the request")
        plain, open_ = scrape(port), scrape(port, "application/openmetrics-text; version=1.0.0")
        text = fetch(port)[1]

        assert plain.names() == open_.names()
        for name in (*METRICS, *TRITON):
            assert f"# HELP {name} " in text, name

    def test_triton_names_say_the_same(self, watched: tuple[Server, int]) -> None:
        engine, port = watched
        with connected(engine) as wire:
            store_model(wire, "m9")
            for number in range(5):
                predict(wire, "m9", 1, number)
            told = until(port, lambda seen: requests(seen, "m9") == 5, "5 requests")

        assert told.sum("nv_inference_request_success", model="m9", version="1") == 5
        assert told.sum("nv_inference_count", model="m9") == told.sum("nv_inference_exec_count", model="m9") == 5
        duration = told.sum("nv_inference_request_duration_us", model="m9")
        assert duration == pytest.approx(told.sum("redisai_request_seconds_sum", deployment="m9") * 1e6)

    def test_what_waits_and_what_fails_is_told_in_both_sets(self, watched: tuple[Server, int]) -> None:
        engine, port = watched
        with connected(engine) as wire:
            assert wire.ask_raw(modelstore("m10")) == OK
            options = ("ONNX", "CPU", "BATCHSIZE", 8, "MINBATCHSIZE", 2)
            assert wire.ask("AI.MODELSTORE", "b10", *options, "BLOB", blob_of(wire, "m10")) == OK
            wire.ask("AI.TENSORSET two FLOAT 2 VALUES 1 2")
            wire.ask("AI.TENSORSET three FLOAT 3 VALUES 1 2 3")
            assert wire.ask("AI.MODELEXECUTE m10 INPUTS 2 two three OUTPUTS 1 y").startswith(b"-")
            assert predict(wire, "m10", 1, 2) == 3
            with connected(engine) as waiting:
                waiting.send(prediction("b10", 1, 2))
                told = until(port, lambda seen: seen.sum("redisai_waiting", deployment="b10") == 1, "one that waits")
                assert told.sum("redisai_in_flight", deployment="b10") == 1
                assert told.sum("nv_inference_pending_request_count", model="b10") == 1
                assert told.sum("redisai_upstream_connections") >= 2
                wire.ask_raw(prediction("b10", 1, 2))
                waiting.reply()
            told = until(port, lambda seen: seen.sum("redisai_in_flight", deployment="b10") == 0, "none")

        assert told.sum("nv_inference_request_failure", model="m10") == requests(told, "m10", "error") == 1
        for theirs, ours in (("queue", "queue"), ("compute_infer", "run")):
            seconds = told.sum(f"redisai_{ours}_seconds_sum", deployment="m10")
            assert told.sum(f"nv_inference_{theirs}_duration_us", model="m10") == pytest.approx(seconds * 1e6)

    def test_questions_to_redis_are_counted(self, watched: tuple[Server, int]) -> None:
        engine, port = watched
        name = "redisai_upstream_round_trips_total"
        with connected(engine) as wire:
            before = scrape(port).sum(name)
            for number in range(5):
                wire.ask("AI.TENSORSET", f"t{number}", "FLOAT", 1, "VALUES", 1)

            told = until(port, lambda seen: seen.sum(name) >= before + 5, "five questions")

        assert told.sum("redisai_upstream_connections") >= 1

    def test_other_paths_are_not_found(self, watched: tuple[Server, int]) -> None:
        with pytest.raises(HTTPError, match="404"):
            fetch(watched[1], "/")

    def test_slow_scrapers_hold_up_nobody(self, watched: tuple[Server, int]) -> None:
        """More than are served at the same time: the rest is turned away, and clients are answered."""
        engine, port = watched
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        for each in slow:
            each.sendall(b"GET /metrics HTTP/1.1\r\n")
        with connected(engine) as wire:
            store_model(wire, "m11")
            assert predict(wire, "m11", 1, 2) == 3
        for each in slow:
            each.close()
        wait_until(lambda: answers(port), what="an answer")

        assert until(port, lambda seen: requests(seen, "m11") == 1, "the request")


def answers(port: int) -> bool:
    with contextlib.suppress(ConnectionError, URLError):
        return bool(scrape(port).samples)
    return False


def execute_alone(wire: Connection, key: str) -> None:
    """Run a model that answers what AI.MODELEXECUTE stores."""
    for name in "ab":
        wire.ask(f"AI.TENSORSET {name} FLOAT 1 VALUES 1")
    assert wire.ask(f"AI.MODELEXECUTE {key} INPUTS 2 a b OUTPUTS 1 y") == OK


def blob_of(wire: Connection, key: str, *, store: bool = False) -> bytes:
    if store:
        store_model(wire, key)
    reply = wire.ask(f"AI.MODELGET {key} BLOB")
    return reply.partition(b"\r\n")[2][:-2]


class TestOfWorkers:
    """Two worker processes."""

    def test_all_workers_are_added_up(self, new_engine: NewServer) -> None:
        port = free_port()
        engine = new_engine("--workers", "2", "--metrics-port", str(port))
        with connected(engine) as wire:
            store_model(wire, "m")
        for number in range(20):  # the kernel chooses a worker for each connection
            with connected(engine) as wire:
                for _ in range(3):
                    assert predict(wire, "m", 1, number) == 1 + number

        told = until(port, lambda seen: requests(seen, "m") >= 60, "60 requests")

        assert requests(told, "m") == told.sum("redisai_request_seconds_count", deployment="m") == 60
        assert told.sum("redisai_processes") == 2
        assert told.sum("redisai_models_loaded", deployment="m") == 2

    def test_the_death_of_a_worker_takes_nothing_off(self, new_engine: NewServer) -> None:
        port = free_port()
        engine = new_engine("--workers", "2", "--metrics-port", str(port))
        with connected(engine) as wire:
            store_model(wire, "m")
        for number in range(20):
            with connected(engine) as wire:
                predict(wire, "m", 1, number)
        until(port, lambda seen: requests(seen, "m") == 20, "20 requests")

        os.kill(children_of(engine.process.pid)[0], signal.SIGKILL)
        told = until(port, lambda seen: seen.sum("redisai_worker_restarts_total") == 1, "another worker")

        assert requests(told, "m") == 20


def children_of(pid: int) -> list[int]:
    """Return the worker processes of an engine."""
    from pathlib import Path

    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in children if b"redisai_engine" in Path(f"/proc/{child}/cmdline").read_bytes()]


class TestWhenRedisGoes:
    """A Redis that is killed and comes back."""

    def test_counting_goes_on_and_tells_of_it(self, new_redis: NewServer, new_engine: NewServer) -> None:
        redis = new_redis()
        port = free_port()
        engine = new_engine("--redis", redis.url, "--metrics-port", str(port))
        with connected(engine) as wire:
            store_model(wire, "m")
            predict(wire, "m", 1, 2)
            until(port, lambda seen: seen.sum("redisai_tracking") == 1 == requests(seen, "m"), "tracking")
            redis.process.kill()
            redis.process.wait()
            until(port, lambda seen: seen.sum("redisai_tracking") == 0, "no tracking")

        again = start_redis(redis.log.parent / "again", port=redis.port)
        try:
            told = until(port, lambda seen: seen.sum("redisai_tracking") == 1, "tracking again")
            assert told.sum("redisai_tracking_opened_total") == 2
            assert told.sum("redisai_upstream_lost_total") >= 1
            with connected(engine) as wire:
                store_model(wire, "m")
                predict(wire, "m", 1, 2)
                told = until(port, lambda seen: seen.sum("redisai_models_loaded") == 1, "the model")
            assert requests(told, "m") >= 1
        finally:
            again.stop()


def test_a_taken_port_is_told(new_engine: NewServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=f"can't listen on 127.0.0.1:{port}: Address already in use"):
            new_engine("--metrics-port", str(port))


def test_the_first_bucket_ends_at_50_microseconds() -> None:
    assert DURATIONS[0] == 50e-6
    assert DURATIONS[-1] > 5
