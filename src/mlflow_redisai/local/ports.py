"""
Whether a TCP port of this machine is free, and if not, what kind of server listens there.

The functions bind a port for an instant, or ask a Redis server for its commands. Nothing is started here.
"""

from __future__ import annotations

import socket
from typing import Any, Literal

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from mlflow_redisai.server.bounded import bounded

HOST = "127.0.0.1"
PROBE_TIMEOUT_S = 2.0

Occupant = Literal["redis with AI commands", "redis", "another program"]


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now. Port 0 ("any free port") is always free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Set as servers set it: a connection in TIME_WAIT doesn't make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def any_free() -> int:
    """Return a port that is free at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def occupant(port: int) -> Occupant:
    """Return what kind of server listens on a port that is taken."""
    client = _client(port)
    try:
        client.ping()
        # RedisAI replies that there is no such model, a plain Redis that there is no such command.
        client.execute_command("AI.MODELGET", "mlflow-redisai:no-model", "META")
    except (redis.AuthenticationError, NoPermissionError):
        return "redis"
    except redis.ResponseError as error:
        return "redis" if "unknown command" in str(error) else "redis with AI commands"
    except (redis.RedisError, OSError, ValueError):
        return "another program"
    finally:
        client.close()
    return "redis with AI commands"


def answers_ping(port: int) -> bool:
    """Return whether a Redis server accepts commands on the port, even if it requires a password."""
    client = _client(port)
    try:
        client.ping()
    except redis.AuthenticationError:
        return True
    except (redis.BusyLoadingError, redis.ConnectionError, redis.TimeoutError, OSError):
        return False
    except redis.RedisError:
        return True
    finally:
        client.close()
    return True


def _client(port: int) -> Any:  # redis-py leaves execute_command untyped
    return bounded(
        redis.Redis(
            host=HOST,
            port=port,
            socket_timeout=PROBE_TIMEOUT_S,
            socket_connect_timeout=PROBE_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
    )
