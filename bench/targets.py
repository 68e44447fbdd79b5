"""
The targets of the project, as ratios within one run wherever possible.

Each row knows how its value follows from a run's figures. `page.py` shows the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench import clients, footprint, hosts, http, python_models, python_rivals, served, sizes, stored
from bench.natives import MAKERS
from bench.predictions import LOOP
from bench.results import Results
from bench.rivals import ENGINE, MLFLOW
from bench.scaling import ON_AS_MANY, ONE, subject
from bench.workers import TARGET as WORKERS_TARGET

Values = Callable[[Results], list[float]]


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


@dataclass(frozen=True)
class Target:
    """One target. `limit` is the most, or the least, that the median of `values` should be."""

    what: str
    compared_with: str
    bound: Literal["at most", "at least"]
    limit: float
    values: Values
    show: Callable[[float], str] = _times

    @property
    def promise(self) -> str:
        return f"{self.bound} {self.show(self.limit)}"

    def is_met(self, value: float) -> bool:
        return value <= self.limit if self.bound == "at most" else value >= self.limit


def _ratio(scenario: str, series: str, base: str, figure: str) -> Values:
    return lambda results: results.ratios(scenario, series, base, figure)


def _value(scenario: str, series: str, figure: str) -> Values:
    return lambda results: results.values(scenario, series, figure)


def _per_second(scenario: str, series: str, base: str) -> Values:
    return _ratio(scenario, series, base, "per_second")


def _microseconds_above(results: Results) -> list[float]:
    plugin = results.values("plugin", "plugin's predict, one row", "median_ms")
    bare = results.values("plugin", "DAG round trip, plain socket", "median_ms")
    return [(value - other) * 1000 for value, other in zip(plugin, bare, strict=True)]


def _above_in_process(backend: str) -> Values:
    """Return by how many microseconds a host makes predictions longer."""

    def values(results: Results) -> list[float]:
        hosted, bare = (results.values("hosts", f"{backend}, {where}", "median_ms") for where in hosts.PLACES)
        return [(value - other) * 1000 for value, other in zip(hosted, bare, strict=True)]

    return values


def _above_pyfunc(results: Results) -> list[float]:
    served = results.values("python-models", python_models.ONE, "median_us")
    bare = results.values("python-models", python_models.IN_PROCESS, "median_us")
    return [value - other for value, other in zip(served, bare, strict=True)]


def _above_run_and_ping(results: Results) -> list[float]:
    """Return how many times as long a prediction takes as the model's own run and a PING."""
    took, run, ping = (results.values("sizes", name, "median_ms") for name in (sizes.ALONE, sizes.RUN, sizes.PING))
    return [value / (other + third) for value, other, third in zip(took, run, ping, strict=False)]


def _rivals(figure: str) -> Values:
    return _ratio("rivals", ENGINE, MLFLOW, figure)


#: What a machine with more than two processors is needed for.
ON_MANY = tuple(
    Target(
        f"{workers} workers on as many processors, generators and Redis on others: predictions per second",
        "one worker on one processor",
        "at least",
        0.9 * workers,
        _per_second("scaling", subject(workers, workers), ONE),
    )
    for workers in ON_AS_MANY
)

TARGETS = (
    Target(
        "DAG prediction, tiny model, 1 connection: median latency",
        "the engine's own PING",
        "at most",
        1.9,
        _ratio("predictions", "engine DAG, 1 connection", "engine PING, 1 connection", "median_ms"),
    ),
    Target(
        "PING at the engine, 1 connection: median latency",
        "PING at Redis",
        "at most",
        1.15,
        _ratio("predictions", "engine PING, 1 connection", "Redis PING, 1 connection", "median_ms"),
    ),
    Target(
        "DAG prediction, tiny model, 1 connection: median latency",
        "`mlflow models serve`",
        "at most",
        0.1,
        _rivals("median_ms_1"),
        lambda value: f"{value:.3f}",
    ),
    Target(
        "the same, 50 connections, one worker: predictions per second",
        "ONNX Runtime in a bare loop, one thread",
        "at least",
        0.36,
        _per_second("predictions", "engine DAG, 50 connections", LOOP),
    ),
    Target(
        "the same, 50 connections, one worker: predictions per second",
        "`mlflow models serve`",
        "at least",
        40,
        _rivals("per_second_50"),
    ),
    Target(
        "the same, 50 connections, pipelined 16",
        "ONNX Runtime in a bare loop, one thread",
        "at least",
        0.52,
        _per_second("predictions", "engine DAG, 50 connections, pipelined 16", LOOP),
    ),
    Target(
        "the same, 1 connection, pipelined 16",
        "ONNX Runtime in a bare loop, one thread",
        "at least",
        0.52,
        _per_second("predictions", "engine DAG, 1 connection, pipelined 16", LOOP),
    ),
    Target(
        "middle model (a perceptron), 1 connection: median latency",
        "ONNX Runtime in a bare loop and the engine's PING, together",
        "at most",
        1.25,
        _above_run_and_ping,
    ),
    *(
        Target(
            f"{model} model, 50 connections: predictions per second",
            "`mlflow models serve`",
            "at least",
            1,
            _per_second("served", served.subject(model, served.DAG, 50), served.subject(model, MLFLOW, 50)),
        )
        for model in served.MODELS
    ),
    Target(
        "auto-batching, middle model, 50 connections",
        "the same without batching",
        "at least",
        2,
        _per_second("batching", "with", "without"),
    ),
    Target(
        "two workers, 16 rows of the trees, 50 connections (the others need more than two cores, see Workers)",
        "one worker",
        "at least",
        WORKERS_TARGET,
        _per_second("workers", "trees, 16 rows, 2 workers", "trees, 16 rows, 1 worker"),
    ),
    *(
        Target(
            f"{workers} workers on one processor, generator and Redis on others: predictions per second",
            "one worker on it",
            "at least",
            0.9,
            _per_second("scaling", subject(workers, 1), ONE),
        )
        for workers in (2, 4)
    ),
    Target(
        "three commands, tiny model, 1 connection, from redis-py: median latency",
        "the same prediction as a DAG from redis-py",
        "at most",
        3.4,
        _ratio("clients", clients.THREE, clients.DAG, "median_ms"),
    ),
    Target(
        "the same, all on one processor: the engine's processor time for all three",
        "",
        "at most",
        110,
        _value("stored", stored.THREE, "processor_us"),
        lambda value: f"{value:.0f} µs",
    ),
    *(
        Target(
            f"AI.MODELEXECUTE on stored tensors, {model}, {stored.CONNECTIONS} connections",
            "the same as DAGs",
            "at least",
            limit,
            _per_second("stored", stored.subject(stored.EXECUTE, model), stored.subject(stored.DAG, model)),
        )
        for model, limit in ((stored.TINY, 0.6), (stored.BATCHED, 0.7))
    ),
    *(
        Target(
            f"relayed {command}, {shape}",
            f"{command} at Redis",
            "at least",
            limit,
            _per_second("relay", f"engine {command}, {shape}", f"Redis {command}, {shape}"),
        )
        for shape, limit in (
            ("50 connections", 0.45),
            ("50 connections, pipelined 16", 0.35),
            ("1 connection, pipelined 16", 0.35),
        )
        for command in ("GET", "SET")
    ),
    Target(
        "600 KB tensor through an Identity model in a DAG, from redis-py, both ways together",
        "",
        "at least",
        1.0,
        _value("blobs", "engine, Identity in a DAG", "gb_per_second"),
        lambda value: f"{value:.2f} GB/s",
    ),
    Target(
        "plugin's `predict` from Python, one-row frame",
        "time in addition to the raw DAG round trip",
        "at most",
        250,
        _microseconds_above,
        lambda value: f"{value:.0f} µs",
    ),
    *(
        Target(
            f"bulk predict of {rows} from Python, 500 trees",
            "`session.run` on the same rows, one thread",
            "at least",
            0.7,
            _ratio("plugin", f"plugin's predict, {rows}", f"session.run, {rows}", "rows_per_second"),
        )
        for rows in ("100,000 rows", "1,000,000 rows")
    ),
    Target(
        "bulk predict of 1,000,000 rows from Python, 500 trees",
        "`session.run` on the same rows, all cores",
        "at least",
        0.9,
        _ratio(
            "plugin",
            "plugin's predict, 1,000,000 rows",
            "session.run on all cores, 1,000,000 rows",
            "rows_per_second",
        ),
    ),
    Target(
        "a Python model, one row, 1 connection: median latency",
        "time in addition to `pyfunc.predict` in process",
        "at most",
        80,
        _above_pyfunc,
        lambda value: f"{value:.0f} µs",
    ),
    Target(
        "the same, 50 connections, two workers: predictions per second",
        "`mlflow models serve` with two workers",
        "at least",
        2,
        _per_second("python-models", python_models.MANY, python_rivals.MLFLOW),
    ),
    *(
        Target(
            f"a run of a small {backend} model in a process of its own: median latency of the prediction",
            "time in addition to the same in the engine's process",
            "at most",
            60,
            _above_in_process(backend),
            lambda value: f"{value:.0f} µs",
        )
        for backend in MAKERS
    ),
    *(
        Target(
            f"ten small {backend} models: memory of their processes",
            "one",
            "at most",
            1.5,
            _ratio("hosts", f"{backend}, 10 deployments", f"{backend}, 1 deployment", "hosts_mb"),
        )
        for backend in MAKERS
    ),
    Target(
        "idle engine with the tiny model: memory, without its redis-server",
        "",
        "at most",
        75,
        _value("footprint", "idle", "engine_mb"),
        lambda value: f"{value:.1f} MB",
    ),
    Target(
        "idle engine with the tiny model: ready after",
        "",
        "at most",
        0.3,
        _value("footprint", "start", "ready_s"),
        lambda value: f"{value:.2f} s",
    ),
    Target(
        f"deploying a model of {footprint.BIG_MEGABYTES} MB, up to its first answer",
        "",
        "at most",
        5.5,
        _value("footprint", f"deploy {footprint.BIG_MEGABYTES} MB", "seconds"),
        lambda value: f"{value:.1f} s",
    ),
    Target(
        "one row as JSON over HTTP (V2), 50 connections: the engine's processor time",
        "the DAG form over Redis' protocol",
        "at most",
        2.5,
        _ratio("http", http.V2, http.RESP, "processor_us"),
    ),
    Target(
        "one row as JSON over HTTP (V2), 50 connections: requests a second",
        "`mlflow models serve`",
        "at least",
        10,
        _per_second("http", http.V2, http.MLFLOW_ONE),
    ),
    *(
        Target(
            f"/invocations with {records}: requests a second",
            "`mlflow models serve`",
            "at least",
            limit,
            _per_second("http", ours, theirs),
        )
        for records, limit, ours, theirs in (
            ("one record, 50 connections", 6.0, http.ONE, http.MLFLOW_ONE),
            ("1,000 records, 4 connections", 3.0, http.MANY, http.MLFLOW_MANY),
        )
    ),
    Target(
        "600 KB tensor in binary form over HTTP (V2), both ways together",
        "the DAG form over Redis' protocol",
        "at least",
        0.7,
        _per_second("http", http.V2_BLOB, http.RESP_BLOB),
    ),
    Target(
        "first prediction after a deployment (V2, one row)",
        "the later ones",
        "at most",
        3,
        _value("http", http.FIRST, "times"),
    ),
)
