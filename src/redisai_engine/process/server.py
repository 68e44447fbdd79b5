"""
The life cycle of the engine's process: start an embedded redis-server if needed, listen, serve, drain, exit.

Invariant: the embedded redis-server ends with the process, on Linux even if the process is killed.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from redisai_engine.config import Settings
from redisai_engine.errors import StartError
from redisai_engine.fronts.resp.front import RespFront
from redisai_engine.process.memory import keep_freed_memory, spare_the_collector
from redisai_engine.process.peers import Peers
from redisai_engine.process.workers import Workers, worker_settings
from redisai_engine.redis.address import Address, parse_address
from redisai_engine.redis.embedded import RedisProcess
from redisai_engine.service.engine import Engine

_REACH_SECONDS = 10.0  # for a connection to Redis, TLS included


async def serve(settings: Settings) -> None:
    """
    Run the engine until SIGTERM or SIGINT.

    Raise StartError if it can't start, and RedisEnded if the embedded redis-server failed.
    """
    worker = worker_settings()
    if worker is not None:  # the parent has started Redis, or has checked that it can be reached
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
        if process is None:  # an embedded server has answered already
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


async def _serve_clients(settings: Settings, redis_address: Address, stop: asyncio.Event, hub: str = "") -> None:
    keep_freed_memory()
    engine = Engine(settings, redis_address, asyncio.get_running_loop())
    peers = Peers(engine.answer_peer)
    front = RespFront(engine)
    try:
        if hub:
            await peers.join(hub)
            engine.ask_peers = peers.ask
        host, port = await front.listen(settings, shared=bool(hub))
        spare_the_collector()  # by now everything long-lived exists
        print(f"ready: {host}:{port}", flush=True)
        await stop.wait()
        await front.drain()
    finally:
        peers.leave()
        await engine.close()


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _check(upstream: Address) -> None:
    """Raise StartError if Redis can't be reached, so that a wrong address shows at the start."""
    try:
        await asyncio.wait_for(upstream.connect(_Visit), _REACH_SECONDS)
    except asyncio.TimeoutError:
        raise StartError(f"Redis at {upstream} can't be reached: no answer within {_REACH_SECONDS:.0f} s") from None
    except OSError as error:
        raise StartError(f"Redis at {upstream} can't be reached: {error.strerror or error}") from None


class _Visit(asyncio.Protocol):
    """A connection that closes as soon as it is open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
