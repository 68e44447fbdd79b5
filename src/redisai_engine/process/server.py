"""
The life cycle of the engine's process: start an embedded redis-server if needed, listen, serve, drain, exit.

Invariant: the embedded redis-server ends with the process, on Linux even if the process is killed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from redisai_engine.config import Settings
from redisai_engine.errors import StartError
from redisai_engine.execution.figures import OWN
from redisai_engine.execution.quarantine import Quarantine
from redisai_engine.folders import remove_abandoned_folders
from redisai_engine.fronts.http.access.connection import UserConnection
from redisai_engine.fronts.peer import is_on_this_machine
from redisai_engine.fronts.resp.front import RespFront
from redisai_engine.process import descriptors
from redisai_engine.process.crashes import Crashes
from redisai_engine.process.frames import Link
from redisai_engine.process.given import given_by_parent
from redisai_engine.process.memory import keep_freed_memory, spare_the_collector
from redisai_engine.process.output import WorkerOutput
from redisai_engine.process.peers import Peers
from redisai_engine.process.scraping import WorkersMetrics, metrics_port
from redisai_engine.process.stopping import Shutdown
from redisai_engine.redis.address import Address, parse_address, with_password_of
from redisai_engine.redis.embedded import RedisProcess
from redisai_engine.redis.reaching import reach
from redisai_engine.service.engine import Engine
from redisai_engine.service.memory.tallies import Tallies
from redisai_engine.service.polling import PollingPlace
from redisai_engine.watching.monitor import Monitor

if TYPE_CHECKING:
    from redisai_engine.fronts.http.front import HttpFront

_log = logging.getLogger(__name__)

_WORKERS_PART = 0.9  # of the time to stop; the rest is for the parent to kill those that don't
_HOST_LINES_PER_SECOND = 10.0  # in the log, of all hosts of a backend: far fewer than a worker may write altogether
_HOST_SECONDS = 10.0  # from the signal to stop until processes of models are ended, whatever they do


async def serve(settings: Settings, output: WorkerOutput) -> None:
    """Run the engine until SIGTERM or SIGINT. Raise StartError if it can't start."""
    given = given_by_parent()
    if given is not None:  # the parent has started Redis, or has checked that it can be reached
        with Shutdown(given.settings.shutdown_timeout * _WORKERS_PART, output.close) as stop:
            address = _address(given.settings)
            quarantine = Quarantine(given.notes, wary=given.wary)
            link = await Link.open(given.link)
            await _serve_clients(
                given.settings, address, stop, output, quarantine, link=link, place=given.place, tallies=given.tallies
            )
    else:
        with Shutdown(settings.shutdown_timeout, output.close) as stop:
            await _serve_alone(settings, stop, output)


async def _serve_alone(settings: Settings, stop: Shutdown, output: WorkerOutput) -> None:
    """Serve as the process that was started by hand, with a redis-server and workers if they are wanted."""
    if settings.redis_password_file and not settings.redis:
        raise StartError("redis-password-file needs redis: an embedded redis-server has no password")
    remove_abandoned_folders()
    process = None if settings.redis else RedisProcess(Path(settings.data_dir))
    try:
        if process is not None:
            await process.start()
            process.keep_running(stop.set)
        upstream = process.address if process is not None else _address(settings)
        if process is None:  # an embedded server has answered already
            await reach(upstream, settings.wait_for_redis, output.announce, lambda: stop.is_set)
        if settings.workers > 1:
            url = str(upstream) if process is not None else settings.redis
            await _serve_with_workers(settings, url, stop, output)
        else:
            quarantine = (
                _recalled(Path(settings.data_dir), settings.quarantine) if process is not None else Quarantine()
            )
            await _serve_clients(settings, upstream, stop, output, quarantine)
    finally:
        if process is not None:
            process.stop()


def _address(settings: Settings) -> Address:
    """Return where Redis is, with the engine's own login."""
    return with_password_of(parse_address(settings.redis), settings.redis_password_file)


async def _serve_with_workers(settings: Settings, redis_url: str, stop: Shutdown, output: WorkerOutput) -> None:
    from redisai_engine.process.workers import Workers  # most engines have none

    workers = Workers(settings, redis_url, output)
    try:
        await workers.start()
        with metrics_port(settings, WorkersMetrics(workers).gather):
            _announce(settings, output, workers.host, workers.port)
            await stop.wait()
    finally:
        await workers.stop(stop)


def _recalled(data_dir: Path, seconds: float) -> Quarantine:
    """Return the quarantine of a process without a parent, which learns from how earlier ones ended."""
    crashes, notes = Crashes.recalled(data_dir, seconds)
    quarantine = Quarantine(notes)
    quarantine.take(crashes.refused)
    return quarantine


async def _serve_clients(
    settings: Settings,
    redis_address: Address,
    stop: Shutdown,
    output: WorkerOutput,
    quarantine: Quarantine,
    *,
    link: Link | None = None,
    place: PollingPlace | None = None,
    tallies: Tallies | None = None,
) -> None:
    keep_freed_memory()
    host_output = partial(output.source, lines_per_second=_HOST_LINES_PER_SECOND)
    loop = asyncio.get_running_loop()
    engine = Engine(settings, redis_address, loop, quarantine, host_output, place=place, tallies=tallies)
    monitor = Monitor(engine, partial(UserConnection, engine, OWN))
    peers = Peers(monitor.answer_peer)
    front = RespFront(engine)
    http_front: HttpFront | None = None
    try:
        if link is not None:
            peers.join(link)
            engine.ask_peers = peers.ask
        monitor.start()
        most_clients = descriptors.room_for_clients()
        if settings.http_port:
            http_front = _http_front(engine, monitor)
            most_clients, rest = most_clients * 3 // 4, most_clients // 4
            # One of these needs one descriptor only: its requests share connections to Redis.
            await http_front.listen(settings, shared=link is not None, most_clients=2 * rest)
        host, port = await front.listen(settings, shared=link is not None, most_clients=most_clients)
        _log.info("there is room for %d clients, at two descriptors each", most_clients)
        spare_the_collector()  # by now everything long-lived exists
        with metrics_port(settings if link is None else replace(settings, metrics_port=0), monitor.totals):
            if link is not None:
                peers.ready()
            else:
                _announce(settings, output, host, port)
            await stop.wait()
        monitor.ending.set()
        engine.loop.call_later(_HOST_SECONDS, engine.placement.close)
        if http_front is None:
            await front.drain(stop.seconds_left())
        else:
            await asyncio.gather(front.drain(stop.seconds_left()), http_front.drain(stop.seconds_left()))
    finally:
        if http_front is not None:
            http_front.close()
        monitor.close()
        await engine.close(stop.seconds_left())
        peers.leave()


def _http_front(engine: Engine, monitor: Monitor) -> HttpFront:
    """Return the front for HTTP. Raise StartError if what it needs isn't installed."""
    try:
        from redisai_engine.fronts.http.front import HttpFront
    except ImportError as error:
        raise StartError(
            f"http-port needs the package {error.name}, which isn't installed; pip install 'mlflow-redisai[http]'"
        ) from None
    return HttpFront(engine, monitor)


def _announce(settings: Settings, output: WorkerOutput, host: str, port: int) -> None:
    if settings.protected_mode and not is_on_this_machine((host, port)):
        _log.info("clients of other machines are let in only while Redis asks for a password (see --protected-mode)")
    if settings.http_port:
        output.announce(
            f"http: {'https' if settings.tls_cert else 'http'}://{_in_url(settings.bind)}:{settings.http_port}"
        )
    output.announce(f"ready: {host}:{port}")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
