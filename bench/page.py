"""
`docs/benchmarks.md` and its plot, generated from one results file. The section on what was tried is `bench/tried.md`.

    python -m bench.page

generates them from the newest results.

Invariant: the page says nothing that isn't in those two files.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import plot
from bench.results import FOLDER, Results, median_and_spread, newest
from bench.rivals import ENGINE
from bench.targets import ON_MANY, TARGETS, Target

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
MANY = FOLDER / "many-processors"  # results of another machine
TRIED = Path(__file__).parent / "tried.md"

Column = tuple[str, str, Callable[[float], str]]  # figure, heading, format


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _ms(value: float) -> str:
    return f"{value:.3f}"


def _short(value: float) -> str:
    return f"{value:.2f}"


_LOAD: list[Column] = [
    ("per_second", "per second", _number),
    ("median_ms", "median ms", _ms),
    ("p99_ms", "p99 ms", _ms),
]
#: For each scenario, its heading and columns. If a series lacks a figure, the cell is empty.
SECTIONS: dict[str, tuple[str, list[Column]]] = {
    "rivals": (
        "Comparison with other servers",
        [
            ("per_second_50", "50 connections: per second", _number),
            ("median_ms_50", "median ms", _ms),
            ("p99_ms_50", "p99 ms", _ms),
            ("per_second_1", "1 connection: per second", _number),
            ("median_ms_1", "median ms", _ms),
            ("p99_ms_1", "p99 ms", _ms),
            ("idle_mb", "idle MB", _number),
            ("start_s", "ready after s", _short),
        ],
    ),
    "served": ("All models beside `mlflow models serve`", _LOAD),
    "predictions": ("The tiny model and its limits", _LOAD),
    "clients": ("As RedisAI's own clients ask", _LOAD),
    "stored": (
        "Tensors stored as keys",
        [*_LOAD, ("processor_us", "processor time, µs for all three", _short)],
    ),
    "relay": ("Plain commands through the engine", _LOAD),
    "workers": (
        "Workers",
        [
            *_LOAD,
            ("server_cores", "cores: engine", _short),
            ("generator_cores", "cores: generator", _short),
            ("wanted_cores", "cores: both, at 1.7 times this rate", _short),
        ],
    ),
    "scaling": (
        "Workers on processors of their own",
        [
            *_LOAD,
            ("engine_us", "processor time, µs a prediction: engine", _short),
            ("redis_us", "Redis", _short),
            ("generator_us", "generator", _short),
        ],
    ),
    "batching": ("Auto-batching", _LOAD),
    "neighbours": ("Beside a slow model", _LOAD),
    "blobs": (
        "Big tensors",
        [("gb_per_second", "GB/s, both ways", _short), ("median_ms", "median ms", _ms), ("p99_ms", "p99 ms", _ms)],
    ),
    "http": (
        "Over HTTP",
        [*_LOAD, ("processor_us", "processor time, µs a request", _short)],
    ),
    "plugin": (
        "From Python, through the plugin",
        [
            ("median_ms", "median ms", _ms),
            ("p99_ms", "p99 ms", _ms),
            ("seconds", "seconds", _short),
            ("rows_per_second", "rows per second", _number),
        ],
    ),
    "sizes": ("Other models, more rows per request", _LOAD),
    "backends": ("ONNX and the frameworks' own formats", _LOAD),
    "hosts": ("Processes for models", [*_LOAD, ("hosts_mb", "hosts MB", _number)]),
    "python-models": (
        "Python models",
        [
            ("median_us", "median µs", _number),
            ("p10_us", "10th percentile µs", _number),
            ("per_second", "per second", _number),
            ("p99_ms", "p99 ms", _ms),
            ("mb", "MB", _number),
            ("start_s", "first worker s", _short),
            ("next_s", "further worker s", _short),
            ("one_mb", "one worker MB", _number),
            ("ten_mb", "ten deployments MB", _number),
        ],
    ),
    "footprint": (
        "Memory and start",
        [
            ("ready_s", "ready after s", _short),
            ("seconds", "seconds", _short),
            ("engine_mb", "engine MB", _short),
            ("with_redis_mb", "with redis-server MB", _short),
        ],
    ),
    "generator": ("Comparison of the load generators", _LOAD),
}


def publish(path: Path) -> None:
    """Write the page, and the plot next to the results."""
    results = Results.read(path)
    picture = _picture(results)
    if picture:
        path.with_suffix(".svg").write_text(picture)
    PAGE.write_text(text(results, path))


def text(results: Results, path: Path) -> str:
    """Return the whole page."""
    about = results.about
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    where = Path(os.path.relpath(path, PAGE.parent)).as_posix()
    lines = [
        "# Benchmarks",
        "",
        f"Generated by `scripts/bench` from [{path.name}]({where}), which has every round's figures.",
        "",
        f"`{about['command']}`, {about['date']}, commit {about['commit']}; {about['machine']}; {versions}.",
        "Load generator and servers share the machine.",
        "",
        f"A figure is the median of {about['rounds']} rounds, with the smallest and the largest in brackets.",
        "A figure without brackets was measured once.",
        f"Subjects that are compared take turns, {about['seconds']:g} seconds each; ratios are taken within a round.",
        *(
            f"The whole scenario `{name}` was measured again ({later['date']}, commit {later['commit']})."
            for name, later in about.get("again", {}).items()
        ),
        "What each scenario isolates: [bench](../bench/README.md).",
        "",
        "## Targets",
        "",
        *_table(
            ["", "compared with", "target", "measured", ""], [_judged(target, results) for target in TARGETS], "---"
        ),
    ]
    if (many := newest(MANY)) is not None:
        lines += _on_many(Results.read(many), many)
    for scenario, (heading, columns) in SECTIONS.items():
        if scenario in results.scenarios:
            lines += ["", f"## {heading}", ""]
            if scenario == "rivals" and _picture(results):
                picture = Path(where).with_suffix(".svg").as_posix()
                lines += [f"![The tiny model behind each server, as in the table]({picture})", ""]
            lines += _section(results, scenario, columns)
    if results.skipped:
        lines += ["", "## Not measured", "", *(f"- {name}: {why}" for name, why in results.skipped.items())]
    return "\n".join([*lines, "", "## What was tried", "", TRIED.read_text().strip(), ""])


def _on_many(results: Results, path: Path) -> list[str]:
    """Return what has been measured of the targets on a machine with more processors."""
    about = results.about
    where = Path(os.path.relpath(path, PAGE.parent)).as_posix()
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rows = [_judged(target, results) for target in (*ON_MANY, *TARGETS) if target.values(results)]
    return [
        "",
        "## The same on a machine with more processors",
        "",
        f"{about['machine']}, which others share; {about['date']}, commit {about['commit']}; {versions}.",
        f"[{path.name}]({where}) has the figures of every round.",
        "",
        *(
            f"`{name}` was measured later ({later['date']}, commit {later['commit']})."
            for name, later in about.get("again", {}).items()
        ),
        "",
        "`scaling` ran five times; its 32 rounds are taken together, those of the others are two to four.",
        "Six workers were measured in 17 rounds: 5.52 times one in the latest 12, 4.73 in the five before.",
        "Ratios from 2.6 to 6.0 for four show how much others disturb.",
        "",
        *_table(["", "compared with", "target", "measured", ""], rows, "---"),
    ]


def _judged(target: Target, results: Results) -> list[str]:
    values = target.values(results)
    verdict = ""
    if values:
        verdict = "met" if target.is_met(statistics.median(values)) else "**missed**"
    return [target.what, target.compared_with, target.promise, median_and_spread(values, target.show), verdict]


def _section(results: Results, scenario: str, columns: list[Column]) -> list[str]:
    series = results.scenarios[scenario]
    used = [column for column in columns if any(column[0] in figures[0] for figures in series.values())]
    rows = []
    for name, rounds in series.items():
        cells = [
            median_and_spread([figures[figure] for figures in rounds], show) if figure in rounds[0] else ""
            for figure, _, show in used
        ]
        rows.append([name, *cells])
    return _table(["", *(heading for _, heading, _ in used)], rows)


def _picture(results: Results) -> str:
    def medians(figure: str) -> dict[str, float]:
        names = results.scenarios.get("rivals", {})
        return {name: statistics.median(results.values("rivals", name, figure)) for name in names}

    rates, latencies = medians("per_second_50"), medians("median_ms_1")
    if not rates:
        return ""
    return plot.svg(
        [
            plot.Panel("Tiny model, 50 connections: predictions per second (more is better)", rates, _number),
            plot.Panel("Tiny model, 1 connection: median latency in ms (less is better)", latencies, _ms),
        ],
        ENGINE,
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], alignment: str = "---:") -> list[str]:
    rule = ["---", *[alignment] * (len(header) - 1)]
    return ["| " + " | ".join(row) + " |" for row in [header, rule, *rows]]


if __name__ == "__main__":
    newest_results = newest(FOLDER)
    if newest_results is None:
        raise SystemExit("there are no results yet: run scripts/bench")
    publish(newest_results)
