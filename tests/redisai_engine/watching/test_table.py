"""The table of metrics, and everything that names one: docs/metrics.md, the dashboard, the alerts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import yaml

from redisai_engine.watching.table import HISTOGRAM, METRICS, page
from support.connection import connected
from support.gateway import predict, store_model
from support.servers import Server
from support.waiting import free_port, wait_until

ROOT = Path(__file__).parent.parent.parent.parent
ALERTS = ROOT / "deploy" / "alerts.yml"
BOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text())

_NAME = re.compile(r"\bredisai_\w+")
_OF_PROMETHEUS = {"le", "instance", "job"}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    """Return what the alerts and the dashboard ask Prometheus."""
    for rule in alerts():
        yield rule["expr"]
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


QUERIES = [pytest.param(query, id=str(number)) for number, query in enumerate(expressions())]


def exposed_names() -> dict[str, set[str]]:
    """Return the names of all series, with their labels."""
    found: dict[str, set[str]] = {}
    for name, metric in METRICS.items():
        ends = ("_bucket", "_count", "_sum") if metric.kind == HISTOGRAM else ("",)
        found |= {name + end: set(metric.labels) for end in ends}
    return found


def test_the_page_has_the_tables_as_they_are() -> None:
    assert page() in (ROOT / "docs" / "metrics.md").read_text()


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_names_metrics_and_labels_that_there_are(query: str) -> None:
    known = exposed_names()
    names = _NAME.findall(query)
    labels = set(re.findall(r"(\w+)=~?\"", query))
    labels |= {label.strip() for found in re.findall(r"by \(([^)]*)\)", query) for label in found.split(",")}

    assert names or query.startswith("up{")
    assert set(names) <= known.keys()
    assert labels <= set().union(*(known[name] for name in names)) | _OF_PROMETHEUS


def test_every_metric_is_on_the_board_or_needs_no_panel() -> None:
    asked = {re.sub(r"_(bucket|count|sum)$", "", name) for query in expressions() for name in _NAME.findall(query)}
    aside = {
        "redisai_models_loaded",
        "redisai_command_errors_total",
        "redisai_failed_request_seconds_total",
        "redisai_upstream_opened_total",
        "redisai_tracking_opened_total",
    }

    assert METRICS.keys() - asked == aside


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool on the PATH")
def test_prometheus_accepts_the_alerts() -> None:
    done = subprocess.run(["promtool", "check", "rules", ALERTS], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(alerts())} rules found" in done.stdout


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:  # an HTTP error is one
        return False


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus on the PATH")
def test_a_real_prometheus_scrapes_the_engine_and_answers_every_query(new_engine: Any, tmp_path: Path) -> None:
    port, prometheus_port = free_port(), free_port()
    engine: Server = new_engine("--metrics-port", str(port))
    with connected(engine) as wire:
        store_model(wire, "m")
        for number in range(5):
            predict(wire, "m", 1, number)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [{"job_name": "redisai-engine", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{prometheus_port}",
            ],
            stdout=log,
            stderr=log,
        )

    def ask(query: str) -> list[Any]:
        url = f"http://127.0.0.1:{prometheus_port}/api/v1/query?query={quote(query)}"
        with urlopen(url, timeout=10) as answer:
            found = json.loads(answer.read())
        assert found["status"] == "success", found
        result: list[Any] = found["data"]["result"]
        return result

    try:
        wait_until(lambda: _is_ready(prometheus_port), what="Prometheus")
        wait_until(lambda: ask('redisai_requests_total{outcome="ok"}'), what="a scrape")
        assert [row["value"][1] for row in ask('redisai_requests_total{deployment="m",outcome="ok"}')] == ["5"]
        for query in expressions():
            filled = query.replace("$__rate_interval", "1m").replace("$deployment", ".*").replace("$instance", ".*")
            ask(filled)
        with urlopen(f"http://127.0.0.1:{prometheus_port}/api/v1/rules", timeout=10) as answer:
            rules = json.loads(answer.read())
        assert len(rules["data"]["groups"][0]["rules"]) == len(alerts())
    finally:
        process.terminate()
        process.wait(20)
