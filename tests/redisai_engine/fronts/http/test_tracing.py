"""Spans of OpenTelemetry: requests join the trace that they name, and nothing is made unless an exporter is named."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from redisai_engine.tracing.spans import VARIABLE, spans_by
from support.http_calls import HttpServer, infer_json
from support.servers import Server
from support.spans import PARENT, TRACE, spans
from support.tiny_models import product_and_sum
from support.waiting import free_port, wait_until

PAIR = infer_json(a=("FP32", [1, 2], [1, 2]), b=("FP32", [1, 2], [3, 4]))


@pytest.fixture
def traced(new_engine: Callable[..., Server]) -> HttpServer:
    pytest.importorskip("opentelemetry.sdk")
    port = free_port()
    engine = new_engine("--http-port", str(port), environment={VARIABLE: "console", "OTEL_BSP_SCHEDULE_DELAY": "50"})
    engine.client().execute_command("AI.MODELSTORE", "tiny", "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    return HttpServer(port, engine)


@pytest.mark.parametrize("path", ["/v2/models/tiny/infer", "/v2/models/nobody/infer"])
def test_a_request_joins_the_trace_that_it_names(traced: HttpServer, path: str) -> None:
    traced.ask("POST", path, PAIR, traceparent=PARENT)
    (root,) = wait_until(
        lambda: [span for span in spans(traced.engine) if span["kind"].endswith("SERVER")], what="the span"
    )

    assert root["name"] == f"infer {path.split('/')[3]}"
    assert root["context"]["trace_id"] == f"0x{TRACE}"
    assert root["parent_id"] == "0xb7ad6b7169203331"
    assert root["attributes"]["http.response.status_code"] == (200 if "tiny" in path else 404)


def test_each_part_of_a_request_is_a_span_below_it(traced: HttpServer) -> None:
    timing = traced.ask("POST", "/v2/models/tiny/infer", PAIR, traceparent=PARENT).headers["server-timing"]
    found = wait_until(lambda: spans(traced.engine), what="the spans")
    (root,) = [span for span in found if span["kind"].endswith("SERVER")]
    parts = [span for span in found if span is not root]

    assert [span["name"] for span in parts] == [part.partition(";")[0].strip() for part in timing.split(",")]
    assert {span["parent_id"] for span in parts} == {root["context"]["span_id"]}
    assert parts[0]["start_time"] == root["start_time"]
    assert all(before["end_time"] == after["start_time"] for before, after in pairwise(parts))


def test_without_an_exporter_there_are_no_spans() -> None:
    assert spans_by({}) is None
    assert spans_by({VARIABLE: "none"}) is None


def test_an_unknown_exporter_is_said_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert spans_by({VARIABLE: "nowhere"}) is None
    assert "no exporter of this name is installed" in caplog.text
