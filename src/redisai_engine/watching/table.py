"""
The table of metrics: names, kinds, labels and what they mean. Everything that names a metric is checked against it.

`python -m redisai_engine.watching.table` prints docs/metrics.md's table.

Invariant: no label has a value that a client chooses, other than the name of a deployment that exists.
"""

from __future__ import annotations

from dataclasses import dataclass

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

#: What every metric of a deployment is told by. `version` is that of the model registry, where the record knows it.
DEPLOYMENT = ("deployment", "database", "version", "backend", "device")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Of several processes, values are added up."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


_ROWS = (
    Metric(
        "redisai_requests_total",
        COUNTER,
        (*DEPLOYMENT, "front", "outcome"),
        "Requests to run the deployment; outcome is ok or error.",
    ),
    Metric(
        "redisai_request_seconds",
        HISTOGRAM,
        (*DEPLOYMENT, "front"),
        "From when the engine took a request until the model's answer was there. Requests that failed aren't included.",
    ),
    Metric(
        "redisai_queue_seconds",
        HISTOGRAM,
        (*DEPLOYMENT, "front"),
        "The part of redisai_request_seconds before the run began: reading inputs, waiting for others, for a batch.",
    ),
    Metric(
        "redisai_run_seconds",
        HISTOGRAM,
        DEPLOYMENT,
        "How long runs took that succeeded; a batch is one run.",
    ),
    Metric("redisai_batch_rows", HISTOGRAM, DEPLOYMENT, "Rows that the model answered in one run."),
    Metric(
        "redisai_errors_total",
        COUNTER,
        (*DEPLOYMENT, "front", "kind"),
        "Requests to run the deployment that failed, by what went wrong.",
    ),
    Metric(
        "redisai_failed_request_seconds_total",
        COUNTER,
        (*DEPLOYMENT, "front"),
        "How long requests took that failed, from when the engine took them until the error was there.",
    ),
    Metric("redisai_in_flight", GAUGE, DEPLOYMENT, "Requests that wait for the deployment or are being run."),
    Metric("redisai_waiting", GAUGE, DEPLOYMENT, "Of these, requests that wait."),
    Metric("redisai_models_loaded", GAUGE, DEPLOYMENT, "Processes that have the deployment in memory."),
    Metric(
        "redisai_model_bytes",
        GAUGE,
        DEPLOYMENT,
        "What the deployment takes in memory: as measured when loaded, or its processes' proportional share now.",
    ),
    Metric(
        "redisai_host_deaths_total",
        COUNTER,
        DEPLOYMENT,
        "Deaths of processes of the model's own, each of which is replaced by the next run.",
    ),
    Metric(
        "redisai_command_errors_total",
        COUNTER,
        ("kind",),
        "AI commands and requests over HTTP that were answered with an error, whether or not a model was concerned.",
    ),
    Metric("redisai_relayed_commands_total", COUNTER, (), "Commands that were passed on to Redis unchanged."),
    Metric(
        "redisai_upstream_round_trips_total",
        COUNTER,
        (),
        "Questions of the engine's own to Redis, each with any number of commands.",
    ),
    Metric("redisai_upstream_connections", GAUGE, (), "Connections to Redis that clients use now."),
    Metric("redisai_upstream_opened_total", COUNTER, (), "Connections to Redis that were opened for clients."),
    Metric("redisai_upstream_lost_total", COUNTER, (), "Of these, those that Redis or the network ended."),
    Metric("redisai_tracking", GAUGE, (), "Processes to which Redis reports changes of models."),
    Metric(
        "redisai_tracking_opened_total",
        COUNTER,
        (),
        "How often Redis has begun to report changes: more than redisai_processes after a reconnection.",
    ),
    Metric("redisai_processes", GAUGE, (), "Processes that serve clients."),
    Metric("redisai_worker_restarts_total", COUNTER, (), "Worker processes that were started anew."),
)

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}

#: Names of Triton's, with `--metrics-compat triton`, by labels `model` and `version`.
_TRITON_ROWS = (
    Metric("nv_inference_request_success", COUNTER, ("model", "version"), "Requests that succeeded."),
    Metric("nv_inference_request_failure", COUNTER, ("model", "version", "reason"), "Requests that failed."),
    Metric("nv_inference_count", COUNTER, ("model", "version"), "Rows that were answered."),
    Metric(
        "nv_inference_exec_count",
        COUNTER,
        ("model", "version"),
        "Runs that succeeded; a batch is one run.",
    ),
    Metric("nv_inference_pending_request_count", GAUGE, ("model", "version"), "Requests that wait."),
    Metric("nv_inference_request_duration_us", COUNTER, ("model", "version"), "Time of requests, in microseconds."),
    Metric("nv_inference_queue_duration_us", COUNTER, ("model", "version"), "Time in the queue, in microseconds."),
    Metric("nv_inference_compute_infer_duration_us", COUNTER, ("model", "version"), "Time of runs, in microseconds."),
)
TRITON: dict[str, Metric] = {row.name: row for row in _TRITON_ROWS}


def page() -> str:
    """Return the tables of docs/metrics.md, in Markdown."""
    lines = []
    for rows in (METRICS, TRITON):
        lines += ["| name | kind | labels | meaning |", "|---|---|---|---|"]
        for row in rows.values():
            labels = ", ".join(f"`{label}`" for label in row.labels)
            lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.help} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(), end="")
