"""
What `mlflow deployments help -t redisai` prints, and docs/reference.md, written from the tables that parse the same.

`reference()` is the page; a test compares it with the file and says how to regenerate it.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_redisai.config import CREATE, OPTIONS, RUN_LOCAL, UPDATE, Option
from mlflow_redisai.target import FORMS, PARAMETERS, VARIABLES

_INTRO = (
    "mlflow-redisai deploys MLflow models into Redis: into redisai-engine in front of any Redis or Valkey, or into a "
    "Redis with the RedisAI module."
)
_PERCENT = "A user name or password may hold any character, percent-encoded (/ is %2F, @ is %40, : is %3A)."
_WHEN = "Read only if the target names no part of the connection."
_EXAMPLES = (
    "mlflow deployments create -t redisai --name iris -m models:/iris@champion",
    "mlflow deployments predict -t redisai --name iris -I rows.json",
    "mlflow deployments update -t redisai --name iris -C batchsize=16",
    "mlflow deployments run-local -t redisai --name iris -m models:/iris@champion",
)


def target_help() -> str:
    """Return how a target is written, which variables are read, and which options there are."""
    sections = [
        _INTRO,
        "Target:\n" + _aligned(FORMS) + "\n  " + _PERCENT,
        "Parameters of the target (?name=value&...):\n"
        + _aligned((parameter.name, parameter.help) for parameter in PARAMETERS),
        "Environment:\n" + _aligned((variable.name, variable.help) for variable in VARIABLES) + "\n  " + _WHEN,
        "Options (-C name=value):\n" + _aligned((option.name, _explained(option)) for option in OPTIONS),
        "Examples:\n" + "\n".join(f"  {example}" for example in _EXAMPLES),
    ]
    return "\n\n".join(sections)


def reference() -> str:
    """Return the page docs/reference.md, in Markdown."""
    return "\n".join(
        [
            "# Reference",
            "",
            "<!-- Written by mlflow_redisai.help from the tables in the source: change those, not this page. -->",
            "",
            _INTRO,
            "",
            "## Target",
            "",
            *_table(("Form", "Meaning"), ((f"`{form}`", meaning) for form, meaning in FORMS)),
            "",
            _PERCENT,
            "",
            *_table(("Parameter", "Meaning"), ((f"`{row.name}`", row.help) for row in PARAMETERS)),
            "",
            "## Environment",
            "",
            _WHEN,
            "",
            *_table(("Variable", "Meaning (default)"), ((f"`{row.name}`", row.help) for row in VARIABLES)),
            "",
            "## Options",
            "",
            "Given with `-C name=value`, or as `config={...}` in Python. An update keeps what it doesn't name.",
            "",
            *_table(
                ("Option", "Allowed", "Default", "Meaning", "Commands"),
                ((f"`{row.name}`", row.allowed, row.default, row.help, _commands(row)) for row in OPTIONS),
            ),
            "",
        ]
    )


def _aligned(rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:{width}}  {meaning}" for name, meaning in rows)


def _explained(option: Option) -> str:
    only = " (run-local only)" if option.is_local else ""
    return f"{option.help}\n      {option.allowed}; default: {option.default}{only}"


def _commands(option: Option) -> str:
    named = ", ".join(command for command in (CREATE, UPDATE, RUN_LOCAL) if command in option.commands)
    return named.replace(UPDATE, f"{UPDATE} with a model") if option.needs_model else named


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in ([*head], ["---"] * len(head), *escaped)]
