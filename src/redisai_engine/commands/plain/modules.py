"""
The module `ai` as Redis would report it: in MODULE LIST, in HELLO's list of modules, and as RedisAI's part of INFO.

Redis answers first, and what it reports about its own modules stays; the engine adds an entry. Redis 7 reports more
about a module than Redis 6.2, so the entry depends on Redis' version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING

from redisai_engine.backends.registry import BACKENDS
from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Pass, Plan, refuse_error
from redisai_engine.commands.table import NO_KEYS, READ, command
from redisai_engine.protocol import replies
from redisai_engine.protocol.frames import decode, elements
from redisai_engine.protocol.requests import encode
from redisai_engine.settings.values import ALL_KEYS

if TYPE_CHECKING:
    from redisai_engine.service.engine import Engine

MODULE = "ai"
REDISAI_VERSION = "1.2.7"  # the version whose behaviour the engine reproduces

_MODULE_VERSION = 10207
_HEADING = b"# Modules\r\n"
_LINE = b"module:name=ai,ver=%d,api=1,filters=0,usedby=[],using=[],options=[handle-io-errors]\r\n" % _MODULE_VERSION
_RUSAGE_THREAD = 1  # Linux only; the `resource` module has no name for it everywhere

Fields = Iterator[tuple[str, object]]


# MODULE LIST, HELLO


@command(
    "MODULE",
    arity=(1, None),
    flags=READ,
    keys=NO_KEYS,
    concerns=lambda arguments: len(arguments) == 2 and arguments[1].upper() == b"LIST",
    summary="Lists RedisAI's module too",
)
def module(client: Client, arguments: Sequence[bytes]) -> Plan:
    """MODULE LIST"""
    (raw,) = yield Pass(encode(arguments))
    if raw.startswith(b"-"):
        return bytes(raw)
    (hello,) = yield [(b"HELLO",)]
    refuse_error(hello)
    return with_module(raw, hello[hello.index(b"version") + 1], client.protocol)


def with_module(modules: bytes, redis_version: bytes, protocol: int) -> bytes:
    """Add RedisAI to an encoded list of modules."""
    entry = [
        (replies.text("name"), replies.text(MODULE)),
        (replies.text("ver"), replies.integer(_MODULE_VERSION)),
    ]
    if int(redis_version.partition(b".")[0]) >= 7:
        entry += [(replies.text("path"), replies.text("redisai_engine")), (replies.text("args"), replies.EMPTY_ARRAY)]
    return replies.array([*elements(modules), replies.mapping(entry, protocol)])


# INFO


@command("INFO", arity=(1, None), flags=READ, keys=NO_KEYS, summary="Reports RedisAI's sections too")
def info(client: Client, arguments: Sequence[bytes]) -> Plan:
    """INFO [section ...]"""
    (raw,) = yield Pass(encode(arguments))
    if raw[:1] not in (b"$", b"="):
        return bytes(raw)
    body = decode(raw)
    assert isinstance(body, bytes)
    parts = [body.replace(_HEADING, _HEADING + _LINE, 1)] if body else []
    parts += _sections({word.lower() for word in arguments[1:]}, client.engine)
    whole = b"\r\n".join(parts)
    return b"=%d\r\ntxt:%b\r\n" % (len(whole) + 4, whole) if raw[:1] == b"=" else replies.bulk(whole)


def _sections(wanted: set[bytes], engine: Engine) -> Iterator[bytes]:
    """Yield the requested sections: each by its name, or all of them. They aren't among Redis' default sections."""
    all_wanted = not wanted.isdisjoint((b"modules", b"everything", MODULE.encode()))
    for name, fields in _SECTIONS.items():
        if all_wanted or f"{MODULE}_{name}".encode() in wanted:
            lines = [f"# {MODULE}_{name}", *(f"{MODULE}_{field}:{value}" for field, value in fields(engine))]
            yield "".join(f"{line}\r\n" for line in lines).encode()


def _versions(engine: Engine) -> Fields:
    yield "RedisAI_version", REDISAI_VERSION
    yield "low_level_API_version", 1
    yield "rdb_version", 4


def _git(engine: Engine) -> Fields:
    yield "git_sha", "unknown"  # as RedisAI reports if it wasn't built from a repository


def _load_time_configs(engine: Engine) -> Fields:
    settings = engine.settings
    yield "threads_per_queue", engine.executor.threads_per_queue
    yield "inter_op_parallelism", settings.inter_op_threads
    yield "intra_op_parallelism", settings.intra_op_threads
    yield "model_execution_timeout", settings.model_execution_timeout
    yield "backend_memory_limit", 0


def _backends_info(engine: Engine) -> Fields:
    versions = engine.placement.loaded_versions()
    for backend, row in BACKENDS.items():
        if backend in versions:
            yield row.version_field, versions[backend]
    if "ONNX" in versions:
        yield "onnxruntime_memory", engine.models.size_of("ONNX")
        yield "onnxruntime_memory_access_num", 0  # ONNX Runtime's Python interface doesn't count
        yield "onnxruntime_maximum_run_sessions_number", engine.executor.threads_per_queue


def _cpu(engine: Engine) -> Fields:
    for whose, of in (("self", RUSAGE_SELF), ("children", RUSAGE_CHILDREN), ("main_thread", _RUSAGE_THREAD)):
        try:
            usage = getrusage(of)
        except ValueError:  # not on Linux
            system, user = "N/A", "N/A"
        else:
            system, user = f"{usage.ru_stime:.6f}", f"{usage.ru_utime:.6f}"
        yield f"{whose}_used_cpu_sys", system
        yield f"{whose}_used_cpu_user", user
    idle = {"CPU": [0.0] * engine.executor.threads_per_queue}  # threads that haven't started yet
    for device, threads in (idle | engine.executor.thread_cpu_seconds()).items():
        for number, seconds in enumerate(threads, 1):
            yield f"queue_{device}_bthread_n{number}_used_cpu_total", f"{seconds:.6f}"


def _engine(engine: Engine) -> Fields:
    """Yield what RedisAI doesn't have. Of several worker processes, each reports its own."""
    yield "tracking", engine.models.tracking
    yield "python_models", "on" if engine.settings.python_models else "off"
    if engine.settings.python_models not in ("", ALL_KEYS):
        yield "python_model_keys", engine.settings.python_models


_SECTIONS: dict[str, Callable[[Engine], Fields]] = {
    "versions": _versions,
    "git": _git,
    "load_time_configs": _load_time_configs,
    "backends_info": _backends_info,
    "cpu": _cpu,
    "engine": _engine,
}
