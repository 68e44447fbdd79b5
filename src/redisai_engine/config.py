"""
The engine's settings: one table that makes flags, environment variables, the config file's keys and the documentation.

A setting is `--some-name` on the command line, `REDISAI_ENGINE_SOME_NAME` in the environment and `some-name VALUE` in
the file that `--config` names. The command line wins over the environment, and that over the file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from redisai_engine.errors import StartError

ENVIRONMENT_PREFIX = "REDISAI_ENGINE_"


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise ValueError(f"allowed are whole numbers from {least} to {most}")
        return value

    return parse


def _switch(text: str) -> bool:
    values = {"yes": True, "true": True, "1": True, "on": True, "no": False, "false": False, "0": False, "off": False}
    if text.lower() not in values:
        raise ValueError("allowed are yes and no")
    return values[text.lower()]


def _setting(default: object, parse: Callable[[str], Any], help_: str, *, unit: str = "", why: str = "") -> Any:
    return field(default=default, metadata={"parse": parse, "help": help_, "unit": unit, "why": why})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; each field's metadata has parser, help, unit and the reason for its default."""

    port: int = _setting(6379, _number(0, 65535), "TCP port to listen on; 0 takes a free one", why="Redis' own")
    bind: str = _setting("127.0.0.1", str, "address to listen on", why="nobody else until asked for")
    redis: str = _setting(
        "",
        str,
        "the Redis or Valkey to stand in front of: redis://, rediss:// or unix:// URL; empty: an own redis-server",
        why="works at once",
    )
    data_dir: str = _setting(
        "redisai-data", str, "folder where the own redis-server keeps its data", why="found again after a restart"
    )
    workers: int = _setting(
        1, _number(1, 256), "processes that share the port", unit="processes", why="one is the smallest"
    )
    threads_per_queue: int = _setting(
        1, _number(1, 256), "worker threads for each device", unit="threads", why="as RedisAI"
    )
    intra_op_threads: int = _setting(
        1, _number(0, 256), "threads inside one operator; 0: the framework's choice", unit="threads", why="many clients"
    )
    inter_op_threads: int = _setting(
        1, _number(0, 256), "operators at the same time; 0: the framework's choice", unit="threads", why="many clients"
    )
    queue_limit: int = _setting(
        10_000, _number(1, 10_000_000), "requests that may wait for one device", why="bounded memory"
    )
    model_execution_timeout: int = _setting(
        5000, _number(0, 86_400_000), "a longer ONNX run is stopped; 0: never", unit="milliseconds", why="as RedisAI"
    )
    model_chunk_size: int = _setting(
        535_822_336, _number(1, 2**62), "AI.MODELGET gives larger blobs in chunks", unit="bytes", why="as RedisAI"
    )
    model_memory: int = _setting(
        4 * 2**30, _number(1, 2**62), "blobs of models kept loaded; the least used leave", unit="bytes", why="bounded"
    )
    strict: bool = _setting(
        False,  # noqa: FBT003  # a default, as the others
        _switch,
        "ask Redis for the model's version at every run instead of being told of changes",
        why="speed",
    )
    output_limit: int = _setting(
        256 * 2**20, _number(2**16, 2**40), "replies that may wait for one slow client", unit="bytes", why="bounded"
    )
    busy_poll: int = _setting(
        200,
        _number(0, 10_000),
        "a connection that asks again so soon finds the engine awake, which costs a processor meanwhile; 0: never",
        unit="microseconds",
        why="a sleeping processor wakes slowly",
    )
    tls_cert: str = _setting("", str, "certificate file; with tls-key clients have to use TLS", why="plain by default")
    tls_key: str = _setting("", str, "private key file of the certificate", why="plain by default")


def load_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """
    Reads the settings from the command line, the environment and the config file.

    Raises StartError that names the setting, its value and what is allowed.
    """
    given = vars(_parser().parse_args(arguments))
    config = given.pop("config") or environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    values = _from_file(Path(config)) if config else {}
    for row in fields(Settings):
        variable = ENVIRONMENT_PREFIX + row.name.upper()
        if variable in environment:
            values[row.name] = _parse(row.name, environment[variable], variable)
        if given[row.name] is not None:
            values[row.name] = _parse(row.name, given[row.name], flag(row.name))
    settings = Settings(**values)
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise StartError("tls-cert and tls-key go together: one of them is missing")
    return settings


def flag(name: str) -> str:
    """Gives the command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="redisai-engine",
        description="Answers RedisAI's commands in front of any Redis or Valkey.",
        epilog=f"Each setting is also an environment variable, such as {ENVIRONMENT_PREFIX}PORT.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", help="file with one `name value` a line; # begins a comment")
    for row in fields(Settings):
        unit = f" [{row.metadata['unit']}]" if row.metadata["unit"] else ""
        default = f" (default: {row.default})" if row.default not in ("", False) else ""
        parser.add_argument(
            flag(row.name),
            metavar=row.name.upper(),
            nargs="?" if row.metadata["parse"] is _switch else None,
            const="yes" if row.metadata["parse"] is _switch else None,
            help=row.metadata["help"] + unit + default,
        )
    return parser


def _parse(name: str, text: str, where: str) -> Any:
    row = next(row for row in fields(Settings) if row.name == name)
    try:
        return row.metadata["parse"](text)
    except ValueError as error:
        raise StartError(f"{where} can't be {text!r}: {error}") from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StartError(f"the config file {path} can't be read: {reason}") from None
    known = {row.name for row in fields(Settings)}
    values = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split(maxsplit=1)
        if not words:
            continue
        name, text = words[0], "".join(words[1:])
        if name.replace("-", "_") not in known:
            allowed = ", ".join(sorted(known)).replace("_", "-")
            raise StartError(f"{path}, line {number}: there is no setting {name!r}; there are {allowed}")
        values[name.replace("-", "_")] = _parse(name.replace("-", "_"), text.strip(), f"{path}, line {number}: {name}")
    return values
