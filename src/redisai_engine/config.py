"""
The engine's settings: one table that defines the flags, environment variables, config file keys and documentation.

A setting is `--some-name` on the command line, `REDISAI_ENGINE_SOME_NAME` in the environment and `some-name VALUE` in
the file that `--config` names. The command line overrides the environment, which overrides the file.

Invariant: no error shows a value that may be a URL with a password.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from redisai_engine.errors import StartError
from redisai_engine.processors import AUTO, worker_count
from redisai_engine.settings.values import choice, keys, names_of, number, switch
from redisai_engine.users import refuse_unusable

_log = logging.getLogger("redisai_engine.process")

ENVIRONMENT_PREFIX = "REDISAI_ENGINE_"

#: MLflow's own switch. Set to false, it forbids Python models, too.
_CODE_ALLOWED = "MLFLOW_ALLOW_MODEL_CODE_EXECUTION"


def _setting(
    default: object,
    parse: Callable[[str], Any],
    help_: str,
    *,
    unit: str = "",
    why: str = "",
    secret: bool = False,
    unset: str = "",
) -> Any:
    """Describe a setting. `unset` is what the command takes where nobody sets it, if that depends on the machine."""
    described = {"parse": parse, "help": help_, "unit": unit, "why": why, "unset": unset}
    return field(default=default, repr=not secret, metadata=described)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Each field's metadata has the parser, help text, unit and the reason for the default."""

    port: int = _setting(6379, number(0, 65535), "TCP port to listen on; 0: any free port", why="same as Redis")
    http_port: int = _setting(
        0, number(0, 65535), "TCP port on which to serve HTTP as well; 0: none", why="one way in unless asked for"
    )
    http_body_limit: int = _setting(
        64 * 2**20,
        number(1024, 2**32),
        "a larger body of a request over HTTP is refused",
        unit="bytes",
        why="read as JSON it takes many times that",
    )
    http_timeout: int = _setting(
        60,
        number(1, 86_400),
        "how long a client may take for the head of a request over HTTP; a body must come, and an answer be taken, at "
        "500 bytes a second",
        unit="seconds",
        why="longer than people and networks take, and many slow clients could keep others out",
    )
    default_deployment: str = _setting(
        "",
        str,
        "the deployment that /invocations, /ping and /health without a name stand for; empty: the only one",
        why="one is the usual number",
    )
    bind: str = _setting("127.0.0.1", str, "address to listen on", why="no remote access unless asked for")
    protected_mode: bool = _setting(
        True,  # noqa: FBT003  # a default, like the others
        switch,
        "refuse clients of other machines as long as Redis lets everybody in without a password",
        why="same as Redis",
    )
    redis: str = _setting(
        "",
        str,
        "URL of the Redis or Valkey behind the engine: redis://, rediss:// or unix://; empty: an embedded redis-server",
        why="works out of the box",
        secret=True,
    )
    redis_password_file: str = _setting(
        "",
        str,
        "file that holds the password of Redis, for a redis without one; only its last line break is not part of it",
        why="the URL may have it",
        secret=True,
    )
    upstream_timeout: int = _setting(
        30_000,
        number(0, 86_400_000),
        "when Redis answers nothing at all for this long, those who wait for it get an error; 0: they wait on",
        unit="milliseconds",
        why="as long as Sentinel waits",
    )
    wait_for_redis: int = _setting(
        0,
        number(0, 86_400),
        "how long to go on trying if Redis can't be reached when the engine starts; while Redis loads its data, the "
        "engine waits anyway",
        unit="seconds",
        why="a wrong address shows at once",
    )
    data_dir: str = _setting(
        "redisai-data", str, "folder where the embedded redis-server keeps its data", why="data survives a restart"
    )
    workers: int = _setting(
        1,
        worker_count,
        "worker processes that share the port; auto: one a processor; with 1, the engine is one process",
        unit="processes",
        why="one process uses one processor",
        unset=AUTO,
    )
    worker_timeout: int = _setting(
        3000,
        number(0, 86_400_000),
        "a worker process whose event loop doesn't run for this long is replaced; 0: never",
        unit="milliseconds",
        why="longer than any honest pause",
    )
    shutdown_timeout: int = _setting(
        30,
        number(1, 86_400),
        "how long after SIGTERM the engine ends at the latest, whatever runs",
        unit="seconds",
        why="same as Kubernetes' grace period",
    )
    quarantine: int = _setting(
        600,
        number(0, 86_400 * 365),
        "how long a model or script that has crashed a process is refused; 0: not at all",
        unit="seconds",
        why="others' connections die with the process",
    )
    threads_per_queue: int = _setting(
        0,
        number(0, 256),
        "models that run at the same time, per device and worker process; 0: as many as processors, at least 2",
        unit="threads",
        why="a slow model must not hold up the others",
    )
    intra_op_threads: int = _setting(
        1, number(0, 256), "threads within one operator; 0: the framework decides", unit="threads", why="many clients"
    )
    inter_op_threads: int = _setting(
        1,
        number(0, 256),
        "operators that run at the same time; 0: the framework decides",
        unit="threads",
        why="many clients",
    )
    queue_limit: int = _setting(
        10_000, number(1, 10_000_000), "requests that may wait for one model, per worker process", why="bounds memory"
    )
    model_execution_timeout: int = _setting(
        5000,
        number(0, 86_400_000),
        "a run that takes longer is stopped; 0: never",
        unit="milliseconds",
        why="same as RedisAI",
    )
    model_load_timeout: int = _setting(
        60_000,
        number(1, 86_400_000),
        "a model or script that takes longer to load, in a process of its own, is refused",
        unit="milliseconds",
        why="bounds the wait of others",
    )
    in_process: str = _setting(
        "",
        names_of(("TF", "TFLITE", "TORCH")),
        "backends, separated by commas, whose models run in the engine's process instead of processes of their own; "
        "TORCH includes scripts",
        why="such models can't be stopped, and may contain any code",
    )
    hosts_per: str = _setting(
        "auto",
        choice("auto", "backend", "model"),
        "what has a process of its own, unless a model asks for one (isolate): each model, or each backend for all of "
        "its small models together; auto: backend for TFLITE, model for TORCH and TF; each script has one",
        why="a process costs a TFLITE model the most, beside what it needs itself",
    )
    trusted_models: bool = _setting(
        False,  # noqa: FBT003  # a default, like the others
        switch,
        "load ONNX models into the engine's process without trying them out in a process of their own first",
        why="a model can take long to load, take all memory, or crash",
    )
    host_memory: int = _setting(
        4 * 2**30,
        number(0, 2**62),
        "memory of a model in a process of its own, or that is tried out, besides four times its blob; 0: any",
        unit="bytes",
        why="bounds memory",
    )
    host_idle: int = _setting(
        60,
        number(0, 86_400 * 365),
        "what a backend's processes are forked from is stopped when no model has needed it for this long, until the "
        "next one; 0: never",
        unit="seconds",
        why="takes 60 MB for ONNX, up to 600 MB for TensorFlow; starting it takes 0.2 s to some seconds",
    )
    python_models: str = _setting(
        "",
        keys,
        "serve Python models (backend PYFUNC), each by processes of its own: yes, no, or under keys that match a "
        "pattern (py:*) or one of several, separated by commas; not with MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false in "
        "the environment",
        why="whoever may store such a model runs code of any kind",
    )
    worker_memory: int = _setting(
        4 * 2**30,
        number(0, 2**62),
        "memory that each process of a Python model may take, besides four times its blob; 0: any",
        unit="bytes",
        why="bounds memory",
    )
    worker_load_timeout: int = _setting(
        300_000,
        number(1, 86_400_000),
        "a Python model whose process takes longer to load it is refused; an environment may be built before",
        unit="milliseconds",
        why="importing a framework takes seconds, on a busy machine a minute; nobody else waits",
    )
    worker_idle: int = _setting(
        0,
        number(0, 86_400 * 365),
        "processes of a Python model are stopped when it was not run for this long, until the next run; 0: never",
        unit="seconds",
        why="a start takes seconds",
    )
    stream_timeout: int = _setting(
        60_000,
        number(1, 86_400_000),
        "a stream of answers is ended if its client doesn't ask for the next one for this long",
        unit="milliseconds",
        why="a stream occupies a process of its model",
    )
    worker_user: str = _setting(
        "",
        str,
        "name of the user whose rights processes of Python models have, if the engine is root's; empty: the engine's",
        why="the engine should not be root's",
    )
    onnx_memory: int = _setting(
        0,
        number(0, 2**62),
        "memory that the runs of ONNX models may take, besides the models themselves, per worker process; "
        "0: its part of three quarters of the machine's",
        unit="bytes",
        why="a run that needs more fails, instead of the engine",
    )
    env_dir: str = _setting(
        "",
        str,
        "folder of the environments built for Python models, for all engines; empty: one in the user's cache folder",
        why="an environment is built once for all engines of a user",
    )
    env_limit: int = _setting(
        20 * 2**30,
        number(0, 2**62),
        "what these environments may take; beyond it those without a model leave, the longest unused first; 0: any",
        unit="bytes",
        why="bounds the disk",
    )
    env_timeout: int = _setting(
        900,
        number(1, 86_400),
        "how long building an environment may take when a model is stored",
        unit="seconds",
        why="the largest frameworks have gigabytes",
    )
    env_source_builds: bool = _setting(
        False,  # noqa: FBT003  # a default, like the others
        switch,
        "build packages that have no wheel from their source, which runs code of theirs as the engine's user",
        why="wheels run no code when they are installed",
    )
    model_chunk_size: int = _setting(
        535_822_336,
        number(1, 2**62),
        "AI.MODELGET returns larger blobs in chunks of this size",
        unit="bytes",
        why="same as RedisAI",
    )
    model_memory: int = _setting(
        4 * 2**30,
        number(1, 2**62),
        "what loaded models may take, per worker process, as measured when they are loaded; beyond it those that ran "
        "least lately leave",
        unit="bytes",
        why="bounds memory",
    )
    strict: bool = _setting(
        False,  # noqa: FBT003  # a default, like the others
        switch,
        "ask Redis for models' versions and tensors each time instead of relying on its messages about changes",
        why="speed",
    )
    request_limit: int = _setting(
        4 * 2**30,
        number(2**20, 2**40),
        "a larger request ends its connection; each argument counts 64 bytes more than its length",
        unit="bytes",
        why="the largest model that model-memory keeps",
    )
    tensor_limit: int = _setting(
        2**30,
        number(2**20, 2**40),
        "tensors that one command reads, makes without sent data, or gets from its models",
        unit="bytes",
        why="two of the largest values of Redis",
    )
    reply_limit: int = _setting(
        2**30,
        number(2**20, 2**40),
        "a command whose reply with tensors, a blob or a list of keys would be larger gets an error instead",
        unit="bytes",
        why="two of the largest values of Redis",
    )
    output_limit: int = _setting(
        256 * 2**20,
        number(2**16, 2**40),
        "unread replies after which a slow client is disconnected",
        unit="bytes",
        why="bounds memory",
    )
    busy_poll: int = _setting(
        200,
        number(0, 10_000),
        "how long to stay awake for a busy connection's next request, at the cost of a core; 0: never",
        unit="microseconds",
        why="a sleeping core wakes slowly",
    )
    metrics_port: int = _setting(
        0,
        number(0, 65535),
        "port that answers /metrics for Prometheus, without asking for a password; 0: none",
        why="what a port shows is for the operator to decide",
    )
    metrics_compat: str = _setting(
        "",
        choice("triton", "none"),
        "triton: the metrics include those that dashboards made for Triton look for",
        why="twice the names",
    )
    preload: str = _setting(
        "",
        str,
        "deployments, separated by commas, that are loaded and run once on their example before the engine says that "
        "it is ready, and again whenever they change; all: every one in database 0",
        why="a model that is never asked for needs no memory",
    )
    tls_cert: str = _setting("", str, "certificate file; with tls-key, clients must use TLS", why="TLS is opt-in")
    tls_key: str = _setting("", str, "private key file of the certificate", why="TLS is opt-in")
    tls_ca_cert_file: str = _setting(
        "", str, "file of the authorities that sign certificates of clients", why="passwords are enough for most"
    )
    tls_auth_clients: str = _setting(
        "",
        choice("yes", "no", "optional"),
        "whether a client must show a certificate of those authorities: yes, no, or optional: only a good one if any; "
        "empty: yes with tls-ca-cert-file, otherwise no",
        why="same as Redis",
    )


def load_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """
    Read the settings from the command line, the environment and the config file.

    Raise StartError that names the setting, its value and what is allowed. Unknown flags and `--help` raise SystemExit,
    as argparse does.
    """
    given = _arguments(arguments)
    config = given.pop("config") or environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    values = _from_file(Path(config)) if config else {}
    for row in fields(Settings):
        variable = ENVIRONMENT_PREFIX + row.name.upper()
        if variable in environment:
            values[row.name] = _parse(row.name, environment[variable], variable)
        if given[row.name] is not None:
            values[row.name] = _parse(row.name, given[row.name], flag(row.name))
        if row.name not in values and row.metadata["unset"]:
            values[row.name] = _parse(row.name, row.metadata["unset"], flag(row.name))
    if environment.get(_CODE_ALLOWED, "").lower() in ("false", "0"):
        values["python_models"] = ""
    settings = Settings(**values)
    _refuse_half_of_tls(settings)
    if settings.python_models:
        refuse_unusable(settings.worker_user)
    _warn_of_visible_password(given["redis"])
    return settings


def _warn_of_visible_password(url: str | None) -> None:
    """Log a warning if the URL of the command line has a password, however it is written."""
    if url is not None and re.search(r":[^/@][^@]*@|[?&]password=.", url.partition("://")[2]):
        _log.warning(
            "the URL on the command line has Redis' password, which everybody on this machine can read there; use "
            "--redis-password-file or the variable %sREDIS",
            ENVIRONMENT_PREFIX,
        )


def _refuse_half_of_tls(settings: Settings) -> None:
    """Raise StartError where settings would be without effect, and a port less protected than they say."""
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise StartError("tls-cert and tls-key go together: set both or neither")
    if settings.tls_ca_cert_file and not settings.tls_cert:
        raise StartError("tls-ca-cert-file needs tls-cert and tls-key: set all three")
    if settings.tls_auth_clients in ("yes", "optional") and not settings.tls_ca_cert_file:
        raise StartError(f"tls-auth-clients {settings.tls_auth_clients} needs tls-ca-cert-file: set both")


def _arguments(arguments: Sequence[str]) -> dict[str, Any]:
    parser = _parser()
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(map(_shown, unknown))}")
    return vars(given)


def _shown(text: str) -> str:
    """Return a text for an error message, hidden if it may be a URL: in a malformed one anything may be a password."""
    return "***" if re.search("[:@/]", text) else text


def flag(name: str) -> str:
    """Return the command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def default_shown(row: Field[Any]) -> str:
    """Return what users are told of a setting's default."""
    if isinstance(row.default, bool):
        return "yes" if row.default else "no"
    return row.metadata["unset"] or str(row.default)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="redisai-engine",
        description="Answer RedisAI's commands in front of any Redis or Valkey.",
        epilog=f"Each setting can also be an environment variable, such as {ENVIRONMENT_PREFIX}PORT.",
        allow_abbrev=False,
        formatter_class=partial(argparse.HelpFormatter, width=78),  # without a width it imports shutil: 0.6 MB
    )
    parser.add_argument("--config", help="settings file with one `name value` per line; # starts a comment")
    for row in fields(Settings):
        unit = f" [{row.metadata['unit']}]" if row.metadata["unit"] else ""
        shown = default_shown(row)
        default = f" (default: {shown})" if shown not in ("", "no") else ""
        value: dict[str, Any] = {"nargs": "?", "const": "yes"} if row.metadata["parse"] in (switch, keys) else {}
        help_ = row.metadata["help"] + unit + default
        parser.add_argument(flag(row.name), metavar=row.name.upper(), help=help_, **value)
    return parser


def _parse(name: str, text: str, where: str) -> Any:
    row = next(row for row in fields(Settings) if row.name == name)
    try:
        return row.metadata["parse"](text)
    except ValueError as error:
        raise StartError(f"{where} can't be {_shown(text)!r}: {error}") from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StartError(f"the config file {path} can't be read: {reason}") from None
    known = {row.name for row in fields(Settings)}
    values = {}
    for count, line in enumerate(lines, 1):
        words = line.partition("#")[0].split(maxsplit=1)
        if not words:
            continue
        name, text = words[0], "".join(words[1:])
        if name.replace("-", "_") not in known:
            allowed = ", ".join(sorted(known)).replace("_", "-")
            raise StartError(f"{path}, line {count}: unknown setting {_shown(name)!r}; the settings are {allowed}")
        values[name.replace("-", "_")] = _parse(name.replace("-", "_"), text.strip(), f"{path}, line {count}: {name}")
    return values
