"""Metrics, health and statistics over HTTP, by real engines and deployments."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from support.http_calls import HttpServer, infer_json
from support.onnx_faults import failing_run
from support.recorded import EXAMPLE, deploy
from support.scraping import Scrape, parsed
from support.servers import Server
from support.tiny_models import product_and_sum
from support.waiting import wait_until

NewHttp = Callable[..., HttpServer]


def scraped(http: HttpServer) -> Scrape:
    return parsed(http.ask("GET", "/metrics").body.decode())


def infer(http: HttpServer, name: str) -> int:
    return http.ask("POST", f"/v2/models/{name}/infer", infer_json(**inputs_of(http, name))).status


def inputs_of(http: HttpServer, name: str) -> dict[str, tuple[str, list[int], list[float]]]:
    """Return ones for everything that a model takes."""
    told = http.ask("GET", f"/v2/models/{name}").json()["inputs"]
    shapes = {each["name"]: [1 if length < 0 else length for length in each["shape"]] for each in told}
    return {each["name"]: (each["datatype"], shapes[each["name"]], [1] * prod(shapes[each["name"]])) for each in told}


def test_requests_of_both_fronts_are_told_apart(http: HttpServer) -> None:
    before = scraped(http)
    for _ in range(5):
        assert infer(http, "http:tiny") == 200

    told = scraped(http)
    wanted = {"deployment": "http:tiny", "front": "http"}
    name = "redisai_requests_total"
    assert told.sum(name, **wanted, outcome="ok") == before.sum(name, **wanted, outcome="ok") + 5
    assert told.sum(name, deployment="http:tiny", front="resp") == 0


def test_statistics_are_those_of_triton(http: HttpServer) -> None:
    assert infer(http, "http:tiny") == 200
    (before,) = http.ask("GET", "/v2/models/http:tiny/versions/1/stats").json()["model_stats"]
    assert infer(http, "http:tiny") == 200

    (told,) = http.ask("GET", "/v2/models/http:tiny/versions/1/stats").json()["model_stats"]

    assert told["name"] == "http:tiny"
    assert told["execution_count"] == before["execution_count"] + 1
    assert told["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1
    assert told["inference_stats"]["success"]["ns"] > told["inference_stats"]["compute_infer"]["ns"] > 0
    assert http.ask("GET", "/v2/models/missing/stats").status == 404


def test_a_run_that_fails_is_no_execution(http: HttpServer) -> None:
    """Neither the first ones, which a thread does, nor those in the event loop once it is known how long they take."""
    name = "http:failing"
    http.engine.client().execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", failing_run())
    requests = {size: infer_json(x=("FP32", [size], [1] * size)) for size in (3, 2)}

    for _ in range(10):
        before = statistics(http, name)
        for size, status in ((3, 200), (2, 400), (2, 400)):
            assert http.ask("POST", f"/v2/models/{name}/infer", requests[size]).status == status
        told = statistics(http, name)

        assert {what: told[what] - before[what] for what in told} == {
            "inferences": 3,
            "executions": 1,
            "success": 1,
            "fail": 2,
            "queue": 1,
            "compute_infer": 1,
        }


def statistics(http: HttpServer, name: str) -> dict[str, int]:
    """Return the counts of a model. Whatever has been counted has taken time, too."""
    (told,) = http.ask("GET", f"/v2/models/{name}/stats").json()["model_stats"]
    timed = told["inference_stats"]
    assert all((each["ns"] > 0) == (each["count"] > 0) for each in timed.values())
    counts = {what: each["count"] for what, each in timed.items()}
    return {"inferences": told["inference_count"], "executions": told["execution_count"], **counts}


def test_who_may_not_ask_redis_for_its_figures_gets_no_metrics(new_http: NewHttp) -> None:
    http = new_http()
    http.engine.client().execute_command("ACL", "SETUSER", "ann", "on", ">pw", "~a:*", "+get", "+ping")

    assert http.as_user("ann:pw").ask("GET", "/metrics").status == 403
    assert http.ask("GET", "/metrics").status == 200


class TestHealth:
    """Live, ready, and a deployment's own ready."""

    def test_an_engine_without_preloading_is_ready_at_once(self, http: HttpServer) -> None:
        assert http.ask("GET", "/v2/health/live").json() == {"live": True}
        reply = http.ask("GET", "/v2/health/ready")

        assert (reply.status, reply.json()) == (200, {"ready": True})

    def test_without_redis_it_lives_but_is_not_ready(self, new_redis: Callable[..., Server], new_http: NewHttp) -> None:
        redis = new_redis()
        http = new_http("--redis", redis.url)
        for path in ("/v2/health/ready", "/ping", "/health"):
            assert http.ask("GET", path).status == 200, path
        redis.process.kill()
        redis.process.wait()

        for path in ("/v2/health/ready", "/ping", "/health"):
            assert http.ask("GET", path).status == 503, path
        assert http.ask("GET", "/v2/health/live").status == 200

    def test_a_deployment_that_runs_is_ready(self, http: HttpServer) -> None:
        reply = http.ask("GET", "/v2/models/http:tiny/ready")

        assert (reply.status, reply.json()) == (200, {"name": "http:tiny", "ready": True})
        assert scraped(http).sum("redisai_requests_total", deployment="http:tiny", front="engine", outcome="ok") >= 1
        assert http.ask("GET", "/v2/models/missing/ready").status == 404

    def test_its_run_is_remembered_for_a_second(self, http: HttpServer) -> None:
        wanted = {"deployment": "http:tiny", "front": "engine"}
        before = scraped(http).sum("redisai_requests_total", **wanted)
        for _ in range(20):
            assert http.ask("GET", "/v2/models/http:tiny/ready").status == 200

        assert scraped(http).sum("redisai_requests_total", **wanted) < before + 20

    def test_what_is_preloaded_must_have_run(self, new_http: NewHttp) -> None:
        http = new_http("--preload", "m")
        assert http.ask("GET", "/v2/health/ready").status == 503
        model = product_and_sum("ONNX")
        http.engine.client().execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", model.blob)

        wait_until(lambda: http.ask("GET", "/v2/health/ready").status == 200, what="readiness")
        told = scraped(http)
        assert told.sum("redisai_models_loaded", deployment="m") == 1
        assert told.sum("redisai_requests_total", deployment="m", front="engine", outcome="ok") == 1
        assert told.sum("redisai_requests_total", deployment="m") == 1

        http.engine.client().execute_command("DEL", "m")
        wait_until(lambda: http.ask("GET", "/v2/health/ready").status == 503, what="no readiness")

    def test_a_deployment_whose_example_fails_is_not_ready(self, new_http: NewHttp) -> None:
        """The example has another shape than the model takes; a record of before is as good."""
        http = new_http("--preload", "all")
        wait_until(lambda: http.ask("GET", "/v2/health/ready").status == 200, what="readiness without deployments")
        deploy(http, "bad", example='{"inputs": {"a": [[1.5, 2.5]], "b": [[1.5, 2.5, 3.5]]}}')

        assert http.ask("GET", "/v2/models/bad/ready").status == 400
        wait_until(lambda: http.ask("GET", "/v2/health/ready").status == 503, what="no readiness")
        http.engine.logged("deployment 'bad' isn't ready: ")
        deploy(http, "bad")
        wait_until(lambda: http.ask("GET", "/v2/health/ready").status == 200, what="readiness")
        wait_until(lambda: http.ask("GET", "/v2/models/bad/ready").status == 200, what="its own")

    def test_the_first_prediction_of_a_preloaded_deployment_loads_nothing(self, new_http: NewHttp) -> None:
        """The model is in memory and has run before any client asks, so nothing is left to be done once."""
        http = new_http("--preload", "m")
        deploy(http, "m")
        wait_until(lambda: http.ask("GET", "/v2/health/ready").status == 200, what="readiness")
        told = scraped(http)

        assert told.sum("redisai_models_loaded", deployment="m") == 1
        assert told.sum("redisai_run_seconds_count", deployment="m") >= 1
        assert http.ask("POST", "/invocations/m", EXAMPLE).status == 200
        assert scraped(http).sum("redisai_requests_total", deployment="m", front="http", outcome="ok") == 1
