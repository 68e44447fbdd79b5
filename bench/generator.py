"""Both load generators on the same servers: is a figure the server's limit, or the generator's?"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import models, servers
from bench.drive import our_generator, redis_benchmark
from bench.load import run as load_run
from bench.rivals import MLFLOW, mlflow_serve
from bench.rounds import Figures, Plan, Series
from bench.storing import deploy
from bench.wire import Exchange, http_exchange

CONNECTIONS = (1, 50)
_SECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def run(plan: Plan) -> Series:
    tiny = models.tiny()
    words = [word if isinstance(word, bytes) else str(word).encode() for word in tiny.dag()]
    exchange = http_exchange("/invocations", {"inputs": tiny.rows().tolist()})
    script = plan.folder / "post.lua"
    script.write_text(_lua(exchange))
    subjects: dict[str, Callable[[], Figures]] = {}
    with servers.engine(plan.folder) as engine, mlflow_serve(plan.folder) as http:
        deploy(engine.port, tiny)
        for count in CONNECTIONS:
            name = f"{count} connection{'s' * (count > 1)}"
            if _is_there("redis-benchmark", plan):
                subjects[f"engine by redis-benchmark, {name}"] = partial(
                    redis_benchmark, engine.port, words, count, plan.seconds
                )
            subjects[f"engine by ours, {name}"] = partial(our_generator, engine.port, words, count, plan.seconds)
            if _is_there("wrk", plan):
                subjects[f"{MLFLOW} by wrk, {name}"] = partial(_wrk, http.port, script, count, plan.seconds)
            subjects[f"{MLFLOW} by ours, {name}"] = partial(_ours, http.port, exchange, count, plan.seconds)
        return plan.in_turns(subjects)


def _is_there(program: str, plan: Plan) -> bool:
    if shutil.which(program):
        return True
    plan.skipped[program] = "not on the PATH"
    return False


def _ours(port: int, exchange: Exchange, connections: int, seconds: float) -> Figures:
    found = load_run(port, exchange, connections, seconds)
    return {"per_second": found.per_second, "median_ms": found.median_ms, "p99_ms": found.p99_ms}


def _lua(exchange: Exchange) -> str:
    body = exchange.request.partition(b"\r\n\r\n")[2].decode()
    return f"wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.body = '{body}'\n"


def _wrk(port: int, script: Path, connections: int, seconds: float) -> Figures:
    options = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--latency", "-s", str(script)]
    command = ["wrk", *options, f"http://127.0.0.1:{port}/invocations"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise ValueError(f"wrk: {text}")
    latencies = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+(?:us|ms|s))$", text, re.MULTILINE))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert rate is not None
    return {"per_second": float(rate[1]), "median_ms": _ms(latencies["50"]), "p99_ms": _ms(latencies["99"])}


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return round(float(number) * _SECONDS[unit], 4)
