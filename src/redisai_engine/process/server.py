"""
The life of the engine's process: start Redis if need be, listen, serve, drain, leave.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import ssl
from pathlib import Path
from typing import cast

import redisai_engine.commands.ai
import redisai_engine.commands.plain  # noqa: F401  # enters all commands in the table
from redisai_engine.config import Settings
from redisai_engine.errors import StartError
from redisai_engine.fronts.resp.session import Session
from redisai_engine.process.memory import keep_freed_memory, spare_the_collector
from redisai_engine.process.workers import Workers, worker_settings
from redisai_engine.redis.embedded import RedisProcess
from redisai_engine.redis.upstream import Address, parse_address
from redisai_engine.service.engine import Engine

_DRAIN_SECONDS = 30.0
_REACH_SECONDS = 10.0


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Raises StartError where it can't start."""
    worker = worker_settings()
    if worker is not None:
        settings, hub = worker
        await _serve_clients(settings, parse_address(settings.redis), _stop_signal(), hub)
        return
    stop = _stop_signal()
    process = None if settings.redis else RedisProcess(Path(settings.data_dir))
    try:
        if process is not None:
            await process.start()
            process.watch(stop)
        upstream = process.address if process is not None else parse_address(settings.redis)
        if process is None:
            await _check(upstream)
        if settings.workers > 1:
            await _serve_with_workers(settings, str(upstream) if process is not None else settings.redis, stop)
        else:
            await _serve_clients(settings, upstream, stop)
        if process is not None:
            process.check()
    finally:
        if process is not None:
            process.stop()


async def _serve_with_workers(settings: Settings, redis_url: str, stop: asyncio.Event) -> None:
    workers = Workers(settings, redis_url)
    try:
        await workers.start()
        print(f"ready: {workers.host}:{workers.port}", flush=True)
        await stop.wait()
    finally:
        await workers.stop()


async def _serve_clients(settings: Settings, upstream: Address, stop: asyncio.Event, hub: str = "") -> None:
    keep_freed_memory()
    loop = asyncio.get_running_loop()
    engine = Engine(settings, upstream, loop)
    sessions: set[Session] = set()
    try:
        if hub:
            await engine.peers.join(hub)
        server = await _listen(settings, engine, sessions, shared=bool(hub))
        host, port = server.sockets[0].getsockname()[:2]
        spare_the_collector()
        print(f"ready: {host}:{port}", flush=True)
        await stop.wait()
        server.close()
        await _drain(sessions)
    finally:
        await engine.close()


async def _listen(settings: Settings, engine: Engine, sessions: set[Session], *, shared: bool) -> asyncio.Server:
    tls = None
    if settings.tls_cert:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            tls.load_cert_chain(settings.tls_cert, settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise StartError(f"tls-cert {settings.tls_cert} and tls-key can't be used: {error}") from None
    try:
        return await engine.loop.create_server(
            lambda: cast(asyncio.Protocol, Session(engine, sessions)),
            settings.bind,
            settings.port,
            ssl=tls,
            backlog=1024,
            reuse_port=shared or None,
        )
    except OSError as error:
        # uvloop's own text is long; what getaddrinfo() reports has a number below zero, unknown to the system.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        hint = "; choose another --port" if error.errno == errno.EADDRINUSE else ""
        raise StartError(f"can't listen on {settings.bind}:{settings.port}: {reason}{hint}") from None


async def _drain(sessions: set[Session]) -> None:
    """Lets every connection finish what it has begun, and closes them."""
    for session in list(sessions):
        session.finish()
    deadline = asyncio.get_running_loop().time() + _DRAIN_SECONDS
    while sessions and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.005)


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _check(upstream: Address) -> None:
    """Raises StartError if nothing listens there."""
    try:
        await asyncio.wait_for(upstream.connect(_Visit), _REACH_SECONDS)
    except asyncio.TimeoutError:
        raise StartError(f"Redis at {upstream} can't be reached: no answer within {_REACH_SECONDS:.0f} s") from None
    except OSError as error:
        raise StartError(f"Redis at {upstream} can't be reached: {error.strerror or error}") from None


class _Visit(asyncio.Protocol):
    """A connection that ends when it is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
