"""
The deployment options: `-C key=value` on the command line, `config=` in Python.

One table defines how they are parsed, checked and documented, in the help and in docs/reference.md. Values are strings
on the command line and typed in Python; both mean the same. `parse` returns only the options that were given, so an
update doesn't reset the others. The modules that use an option explain its effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mlflow_redisai.errors import InvalidOption, InvalidRequest

CREATE = "create"
UPDATE = "update"
DELETE = "delete"
RUN_LOCAL = "run-local"

BACKEND_CHOICES = ("auto", "ONNX", "TORCH", "TF", "TFLITE", "PYFUNC")
RUNTIME_CHOICES = ("embedded", "docker")
DEFAULT_TIMEOUT_MS = 30_000
DEFAULT_CONVERT_TIMEOUT_S = 120


# -- parsing single values: each function raises ValueError for a value that isn't allowed ----------------------


def _device(value: object) -> str:
    device = str(value).strip().upper()
    # RedisAI stores at most 9 characters.
    if not re.fullmatch(r"(CPU|GPU)(:\d{1,5})?", device, re.ASCII):
        raise ValueError
    return device


def _whole(least: int, most: int = 2**31 - 1) -> Callable[[object], int]:
    def read(value: object) -> int:
        # In Python, True is the integer 1.
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError
        number = int(value.strip()) if isinstance(value, str) else int(value)  # type: ignore[call-overload]
        if not least <= number <= most:
            raise ValueError
        return int(number)

    return read


def _one_of(*words: str) -> Callable[[object], str]:
    by_lower = {word.lower(): word for word in words}

    def read(value: object) -> str:
        found = by_lower.get(str(value).strip().lower())
        if found is None:
            raise ValueError
        return found

    return read


_SWITCH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}


def _switch(value: object) -> bool:
    found = _SWITCH.get(str(value).strip().lower())
    if found is None:
        raise ValueError
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _filled(value: object) -> str:
    if not str(value).strip():
        raise ValueError
    return str(value)


def _environment(value: object) -> str:
    text = str(value).strip()
    if text.lower() in ("local", "uv"):
        return text.lower()
    if not text.startswith("/"):
        raise ValueError
    return text


def _names(value: object) -> str:
    names = [str(name).strip() for name in value] if isinstance(value, list | tuple) else str(value).split(",")
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise ValueError
    return ",".join(names)


# -- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """One option: how it is parsed, which values are allowed, its default, its purpose, and which commands take it."""

    name: str
    read: Callable[[object], Any]
    allowed: str
    default: str
    help: str
    commands: tuple[str, ...] = (CREATE, UPDATE, RUN_LOCAL)
    needs_model: bool = False  # update takes it only together with a model URI
    kept: bool = True  # an update that doesn't name it keeps the value it had

    @property
    def is_local(self) -> bool:
        """Whether the option configures the server that run-local starts, not the deployment."""
        return self.commands == (RUN_LOCAL,)


OPTIONS: tuple[Option, ...] = (
    Option("device", _device, "CPU, GPU or GPU:n, upper or lower case", "CPU", "device that runs the model"),
    Option(
        "batchsize",
        _whole(0),
        "a whole number, 0 or greater",
        "0",
        "waiting requests are run together, up to this many rows; 0: each request is run alone",
    ),
    Option(
        "minbatchsize",
        _whole(0),
        "a whole number, 0 or greater",
        "0",
        "requests wait until together they have this many rows; needs batchsize and minbatchtimeout",
    ),
    Option(
        "minbatchtimeout",
        _whole(0),
        "a whole number of milliseconds, 0 or greater",
        "0",
        "longest time that a request waits for minbatchsize rows",
    ),
    Option("tag", _text, "text", "none", "text that get and list show, such as the model's version"),
    Option(
        "backend",
        _one_of(*BACKEND_CHOICES),
        f"one of {', '.join(BACKEND_CHOICES)}",
        "auto",
        "framework that runs the model; auto: ONNX, or the flavor's own if ONNX doesn't work, or Python (PYFUNC) if "
        "nothing else does and the server allows it",
        needs_model=True,
    ),
    Option(
        "opset",
        _whole(7, 99),
        "a whole number from 7 to 99",
        "the newest that the server loads",
        "version of the ONNX operator set to convert to",
        needs_model=True,
    ),
    Option(
        "outputs",
        _names,
        "output names, separated by commas",
        "those that MLflow's predict returns",
        "model outputs that predict returns",
        needs_model=True,
    ),
    Option(
        "verify",
        _switch,
        "on or off",
        "on",
        "compare the stored model's answer to the input example with MLflow's before the model takes its name",
        needs_model=True,
        kept=False,
    ),
    Option(
        "timeout",
        _whole(1),
        "a whole number of milliseconds, 1 or greater",
        str(DEFAULT_TIMEOUT_MS),
        "longest time that each prediction with the deployment may take from end to end; if given, and the target has "
        "no timeout, this call too, which otherwise may take an hour",
        commands=(CREATE, UPDATE, DELETE, RUN_LOCAL),
    ),
    Option(
        "isolate",
        _switch,
        "yes or no",
        "no",
        "serve the model in a process of its own, whatever its backend; only the engine can, RedisAI can't",
    ),
    Option(
        "env",
        _environment,
        "local, uv, or the path of a Python program on the server's machine",
        "uv; in run-local: local",
        "where a Python model finds its packages: in the server's own Python, in an environment that uv builds on the "
        "server's machine from the model's requirements, or in another Python there",
        needs_model=True,
    ),
    Option(
        "replicas",
        _whole(1, 64),
        "a whole number from 1 to 64",
        "1",
        "processes that run a Python model, each of them one request at a time",
        needs_model=True,
    ),
    Option(
        "convert_timeout",
        _whole(0),
        "a whole number of seconds, 0 or greater",
        str(DEFAULT_CONVERT_TIMEOUT_S),
        "longest time that converting and trying the model may take on this machine, for each backend; 0: no limit",
        needs_model=True,
    ),
    Option(
        "convert_memory",
        _whole(0),
        "a whole number of MiB, 0 or greater",
        "four fifths of what is free",
        "most memory that converting and trying the model may take on this machine; 0: no limit",
        needs_model=True,
    ),
    Option(
        "runtime",
        _one_of(*RUNTIME_CHOICES),
        " or ".join(RUNTIME_CHOICES),
        "embedded",
        "server to start: the engine, or RedisAI's Docker image",
        commands=(RUN_LOCAL,),
    ),
    Option(
        "port",
        _whole(0, 65535),
        "a whole number from 0 to 65535",
        "6379",
        "port that the server listens on; 0: any free port",
        commands=(RUN_LOCAL,),
    ),
    Option(
        "http_port",
        _whole(0, 65535),
        "a whole number from 0 to 65535",
        "any free port",
        "port on which the engine serves HTTP; 0: any free port",
        commands=(RUN_LOCAL,),
    ),
    Option(
        "image",
        _filled,
        "the name of an image",
        "RedisAI 1.2.7 for CPU or GPU, depending on device",
        "Docker image for runtime=docker",
        commands=(RUN_LOCAL,),
    ),
    Option(
        "data_dir",
        _filled,
        "the path of a folder",
        "embedded: a new temporary folder; docker: inside the container",
        "folder where the server keeps its data",
        commands=(RUN_LOCAL,),
    ),
    Option(
        "start_timeout",
        _whole(1, 3600),
        "a whole number of seconds, 1 to 3600",
        "60",
        "longest time that the server may take to start",
        commands=(RUN_LOCAL,),
    ),
)


def options_for(command: str) -> tuple[Option, ...]:
    """Return the options that a command takes, in the order of the table."""
    return tuple(option for option in OPTIONS if command in option.commands)


def parse(config: Mapping[str, object] | None, command: str) -> dict[str, Any]:
    """
    Check the options of one call and return those that were given, typed. Raise InvalidOption.

    An option whose value is None counts as not given.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise InvalidOption(f"config must be a dict such as {{'device': 'CPU'}}, got {config!r:.80}")
    known = {option.name: option for option in options_for(command)}
    values = {}
    for name, value in config.items():
        option = known.get(name)
        if option is None:
            raise InvalidOption(f"{command} has no option {name!r}; the options are {', '.join(known)}")
        if value is not None:
            values[name] = _read(option, value)
    return values


def _read(option: Option, value: object) -> Any:
    try:
        return option.read(value)
    except (ValueError, TypeError):
        raise InvalidOption(f"option {option.name}={value!r} is not allowed; it must be {option.allowed}") from None


def refuse_without_model(values: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for an option that takes effect only in a conversion, in an update without a model URI."""
    for option in OPTIONS:
        if option.needs_model and option.name in values:
            raise InvalidRequest(
                f"option {option.name} changes how a model is converted; add the model's URI, or omit the option"
            )


# -- the options that are stored with a deployment -----------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DeploymentOptions:
    """The options of one deployment, checked for consistency."""

    device: str = "CPU"
    batchsize: int = 0
    minbatchsize: int = 0
    minbatchtimeout: int = 0
    tag: str = ""
    backend: str = "auto"
    opset: int | None = None
    outputs: str | None = None
    verify: bool = True
    timeout: int = DEFAULT_TIMEOUT_MS
    isolate: bool = False
    env: str = "uv"
    replicas: int = 1
    convert_timeout: int = DEFAULT_CONVERT_TIMEOUT_S
    convert_memory: int | None = None

    def __post_init__(self) -> None:
        if self.minbatchsize and not self.batchsize:
            raise InvalidOption(f"option minbatchsize={self.minbatchsize} needs batchsize; set both")
        if self.minbatchsize and not self.minbatchtimeout:
            raise InvalidOption(
                f"option minbatchsize={self.minbatchsize} needs minbatchtimeout, or a lone request would wait forever; "
                "set the milliseconds that it may wait"
            )
        if self.minbatchsize > self.batchsize:
            raise InvalidOption(
                f"option minbatchsize={self.minbatchsize} must not be greater than batchsize={self.batchsize}"
            )
        if self.minbatchtimeout and not self.minbatchsize:
            raise InvalidOption(f"option minbatchtimeout={self.minbatchtimeout} needs minbatchsize; set both")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> DeploymentOptions:
        """Build the options from what `parse` returned, ignoring those that are only for run-local."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    def changed(self, values: Mapping[str, Any]) -> DeploymentOptions:
        """
        Return the options after an update: the given values, and the current ones for all others.

        Options that are not `kept`, such as verify, return to their defaults.
        """
        kept = {option.name for option in OPTIONS if option.kept}
        before = {name: value for name, value in asdict(self).items() if name in kept}
        return DeploymentOptions.of({**before, **values})


def deployment_part(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of run-local's options that are passed on to create_deployment."""
    return {option.name: values[option.name] for option in OPTIONS if not option.is_local and option.name in values}


def local_part(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of run-local's options that configure the server it starts."""
    return {option.name: values[option.name] for option in OPTIONS if option.is_local and option.name in values}
