"""
The options (`-C key=value`, or `config=` in Python): one table for parsing, checking, help and docs/reference.md.

Values come as strings from the command line and typed from Python; both give the same. An option that is not given is
not in what `parse` returns, so that an update leaves it as it was. What an option does is written where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mlflow_redisai.errors import InvalidOption, InvalidRequest

CREATE = "create"
UPDATE = "update"
RUN_LOCAL = "run-local"

BACKEND_CHOICES = ("auto", "ONNX", "TORCH", "TF", "TFLITE")
RUNTIME_CHOICES = ("embedded", "docker")
DEFAULT_TIMEOUT_MS = 30_000


# -- reading single values: each takes what the user gave and raises ValueError for what is not allowed ---------


def _device(value: object) -> str:
    device = str(value).strip().upper()
    # RedisAI has room for 9 characters.
    if not re.fullmatch(r"(CPU|GPU)(:\d{1,5})?", device, re.ASCII):
        raise ValueError
    return device


def _whole(least: int, most: int = 2**31 - 1) -> Callable[[object], int]:
    def read(value: object) -> int:
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


def _names(value: object) -> str:
    names = [str(name).strip() for name in value] if isinstance(value, list | tuple) else str(value).split(",")
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise ValueError
    return ",".join(names)


# -- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """One option: how it is read, what is allowed, its default, what it is for, and which commands take it."""

    name: str
    read: Callable[[object], Any]
    allowed: str
    default: str
    help: str
    commands: tuple[str, ...] = (CREATE, UPDATE, RUN_LOCAL)
    needs_model: bool = False  # update takes it only together with a model URI
    kept: bool = True  # an update that doesn't name it keeps what was given before

    @property
    def is_local(self) -> bool:
        """Whether the option is for the server that run-local starts, not for the deployment."""
        return self.commands == (RUN_LOCAL,)


OPTIONS: tuple[Option, ...] = (
    Option("device", _device, "CPU, GPU or GPU:n, in any case", "CPU", "where the model runs"),
    Option(
        "batchsize",
        _whole(0),
        "a whole number from 0 on",
        "0",
        "requests that wait are run together until they have this many rows; 0: each on its own",
    ),
    Option(
        "minbatchsize",
        _whole(0),
        "a whole number from 0 on",
        "0",
        "a request waits until this many rows are there; needs batchsize and minbatchtimeout",
    ),
    Option(
        "minbatchtimeout",
        _whole(0),
        "milliseconds, a whole number from 0 on",
        "0",
        "a request waits at most this long for minbatchsize",
    ),
    Option("tag", _text, "any text", "none", "shown by get and list; for instance the model's version"),
    Option(
        "backend",
        _one_of(*BACKEND_CHOICES),
        ", ".join(BACKEND_CHOICES),
        "auto",
        "what runs the model; auto: ONNX, and where that can't be done the flavor's own",
        needs_model=True,
    ),
    Option(
        "opset",
        _whole(7, 99),
        "a whole number from 7 on",
        "what the server loads",
        "ONNX operator set to convert to",
        needs_model=True,
    ),
    Option(
        "outputs",
        _names,
        "names of outputs, separated by commas",
        "what MLflow's predict gives",
        "outputs of the model that predict returns",
        needs_model=True,
    ),
    Option(
        "verify",
        _switch,
        "on, off",
        "on",
        "before the model takes its name, compare its answer to the model's input example with MLflow's",
        needs_model=True,
        kept=False,
    ),
    Option(
        "timeout",
        _whole(1),
        "milliseconds, a whole number from 1 on",
        str(DEFAULT_TIMEOUT_MS),
        "a prediction that waited longer than this for its turn is given up",
    ),
    Option(
        "runtime",
        _one_of(*RUNTIME_CHOICES),
        ", ".join(RUNTIME_CHOICES),
        "embedded",
        "what to start: the engine, or RedisAI's image",
        commands=(RUN_LOCAL,),
    ),
    Option("port", _whole(0, 65535), "0 to 65535; 0: any free one", "6379", "the server's port", commands=(RUN_LOCAL,)),
    Option(
        "image",
        _filled,
        "an image's name",
        "RedisAI 1.2.7 for CPU or GPU, by device",
        "image for runtime=docker",
        commands=(RUN_LOCAL,),
    ),
    Option(
        "data_dir",
        _filled,
        "a folder",
        "embedded: a new temporary one; docker: inside the container",
        "where the server keeps its data",
        commands=(RUN_LOCAL,),
    ),
    Option(
        "start_timeout",
        _whole(1, 3600),
        "seconds, 1 to 3600",
        "60",
        "how long the server may take to be ready",
        commands=(RUN_LOCAL,),
    ),
)


def options_for(command: str) -> tuple[Option, ...]:
    return tuple(option for option in OPTIONS if command in option.commands)


def parse(config: Mapping[str, object] | None, command: str) -> dict[str, Any]:
    """Check the options of one call and return those that were given, typed. Raise InvalidOption."""
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise InvalidOption(f"config is a {type(config).__name__}; give a dict such as {{'device': 'CPU'}}")
    known = {option.name: option for option in options_for(command)}
    values = {}
    for name, value in config.items():
        option = known.get(name)
        if option is None:
            raise InvalidOption(f"unknown option {name!r} for {command}; allowed are {', '.join(known)}")
        if value is not None:
            values[name] = _read(option, value)
    return values


def _read(option: Option, value: object) -> Any:
    try:
        return option.read(value)
    except (ValueError, TypeError):
        raise InvalidOption(f"option {option.name}={value!r} is not allowed; it is {option.allowed}") from None


def refuse_without_model(values: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for options of an update without a model URI that only a new conversion can follow."""
    for option in OPTIONS:
        if option.needs_model and option.name in values:
            raise InvalidRequest(
                f"option {option.name} changes how a model is converted; give the model's URI too, or leave it out"
            )


# -- what a deployment is stored with ------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DeploymentOptions:
    """The options of one deployment, checked against each other."""

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

    def __post_init__(self) -> None:
        if self.minbatchsize and not self.batchsize:
            raise InvalidOption(f"option minbatchsize={self.minbatchsize} needs batchsize; give both")
        if self.minbatchsize and not self.minbatchtimeout:
            raise InvalidOption(
                f"option minbatchsize={self.minbatchsize} needs minbatchtimeout: without it a request that finds no "
                "company would wait for ever; give the milliseconds it may wait"
            )
        if self.minbatchsize > self.batchsize:
            raise InvalidOption(f"option minbatchsize={self.minbatchsize} is more than batchsize={self.batchsize}")
        if self.minbatchtimeout and not self.minbatchsize:
            raise InvalidOption(f"option minbatchtimeout={self.minbatchtimeout} needs minbatchsize; give both")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> DeploymentOptions:
        """Take the deployment's options out of what `parse` returned."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    def changed(self, values: Mapping[str, Any]) -> DeploymentOptions:
        """Return the options after an update: what it names, else what was there."""
        kept = {option.name for option in OPTIONS if option.kept}
        before = {name: value for name, value in asdict(self).items() if name in kept}
        return DeploymentOptions.of({**before, **values})


def deployment_part(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of run-local's options that go to create_deployment."""
    return {option.name: values[option.name] for option in OPTIONS if not option.is_local and option.name in values}


def local_part(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of run-local's options that are for the server it starts."""
    return {option.name: values[option.name] for option in OPTIONS if option.is_local and option.name in values}
