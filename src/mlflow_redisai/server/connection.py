"""
The connection to the server: one Redis or Valkey, or the node of a Redis Cluster that holds a key.

All keys of a deployment have one slot, so everything about it goes to one node over plain connections; that is why a
cluster needs no code of its own elsewhere. Invariant: whatever redis-py raises leaves this module as one of our errors.
redis-py's retries are off but for one at once (a pooled connection may have gone stale); inside a transaction there is
none, since a retried command would run outside its MULTI.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from mlflow_redisai import errors
from mlflow_redisai.server import progress
from mlflow_redisai.server.commands import Argument, Blob, Command, argument_bytes, pieces
from mlflow_redisai.server.kept_connections import KeptConnections
from mlflow_redisai.target import Target

T = TypeVar("T")

MOVES = 5  # redirections to another node of the cluster before giving up
LARGE_BYTES = 64 * 1024 * 1024  # a command from here on is sent piece by piece, and a bar shows how far it is
PIECE_BYTES = 256 * 1024  # of a large command in one call of the socket: a second's worth on a slow line


class Connection:
    """Opens connections when they are first needed, keeps them for the next call, and may be used by many threads."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.where = target.label
        self._client: Any = None
        self._kept = KeptConnections()

    def close(self) -> None:
        self._kept.close()
        if self._client is not None:
            with self.translated():
                self._client.close()
            self._client = None

    # -- commands ---------------------------------------------------------------------------------

    def call(self, key: bytes, *command: Argument, otherwise: type[errors.ServerProblem] = errors.ServerProblem) -> Any:
        """Run one command on the node that holds `key`. `otherwise` is the error for what the command itself says."""
        return self._at(key, lambda node: node.execute_command(*command), otherwise)

    def pipeline(self, key: bytes, commands: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """Run commands in one round trip; an error is an element of the result. `atomic` puts them into MULTI."""

        def work(node: Any) -> list[Any]:
            with node.pipeline(transaction=atomic) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                replies: list[Any] = pipeline.execute(raise_on_error=False)
                return _not_moved(replies)

        return self._at(key, work)

    def exchange(self, key: bytes, commands: Sequence[Command]) -> list[Any]:
        """As `pipeline`, with the replies as they come, and sooner. Only for commands that may be sent twice."""
        return self._at(key, lambda node: _not_moved(self._kept.exchange(node.connection_pool, commands)))

    def everywhere(self, *command: Argument) -> list[Any]:
        """Run one command on every primary and return all replies."""
        with self.translated():
            return [node.execute_command(*command) for node in self._primaries()]

    @contextlib.contextmanager
    def transaction(self, key: bytes) -> Iterator[WatchedTransaction]:
        """Yield a connection of its own on the node of `key`; closed at the end, so that nothing stays watched."""
        with self.translated():
            if self.target.cluster:
                self.call(key, "EXISTS", key)  # learns of a moved slot now, not in the middle
            single = self._node(key).client()
            try:
                yield WatchedTransaction(single.connection)
            finally:
                single.connection.disconnect()
                single.close()

    @contextlib.contextmanager
    def translated(self, otherwise: type[errors.ServerProblem] = errors.ServerProblem) -> Iterator[None]:
        """Turn redis-py's exceptions inside the block into ours."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, (*_redis_exceptions(), OSError, UnicodeError)):
                raise
            raise self.problem(error, otherwise) from error

    def problem(
        self, error: BaseException, otherwise: type[errors.ServerProblem] = errors.ServerProblem
    ) -> errors.ServerProblem:
        """Return our error for one of redis-py's, or for an error inside a reply."""
        if isinstance(error, OSError | UnicodeError):
            otherwise = errors.ServerUnreachable
        # The cluster client wraps what each of its nodes said.
        cause = error.__cause__ if isinstance(error.__cause__, _redis_exceptions()) else error
        said = self.target.redact(str(cause)) or type(cause).__name__
        problem = errors.translate(cause, self.where, said, otherwise)
        if self.target.cluster and isinstance(problem, errors.ClusterNode):
            return errors.ServerUnavailable(self.where, said)
        return problem

    # -- nodes ------------------------------------------------------------------------------------

    def _at(
        self, key: bytes, work: Callable[[Any], T], otherwise: type[errors.ServerProblem] = errors.ServerProblem
    ) -> T:
        from redis.exceptions import MovedError

        with self.translated(otherwise):
            for _ in range(MOVES if self.target.cluster else 0):
                with contextlib.suppress(MovedError):
                    return work(self._node(key))
                self._opened().nodes_manager.initialize()
            return work(self._node(key))

    def _node(self, key: bytes) -> Any:
        client = self._opened()
        if not self.target.cluster:
            return client
        return client.get_redis_connection(client.get_node_from_key(key))

    def _primaries(self) -> list[Any]:
        client = self._opened()
        if not self.target.cluster:
            return [client]
        return [client.get_redis_connection(node) for node in client.get_primaries()]

    def _opened(self) -> Any:
        if self._client is None:
            self._client = _open(self.target)
        return self._client


class WatchedTransaction:
    """One connection for WATCH, MULTI and EXEC, command by command. A lost connection raises, it is never renewed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def command(self, *command: Argument) -> Any:
        self._connection.send_command(*command)
        return self._connection.read_response()

    def queue(self, commands: Sequence[Command], *, what: str = "") -> None:
        """
        Open MULTI and queue commands; raise what the server refuses already now (rights, memory).

        `what` is uploaded, for the user who watches a large command.
        """
        self.command("MULTI")
        for command in commands:
            if argument_bytes(command) < LARGE_BYTES:
                self.command(*command)
            else:
                self._upload(command, what)

    def _upload(self, command: Command, what: str) -> None:
        """
        Run a command that redis-py would copy twice and give to the socket at once, all of it within one timeout.

        redis-py sends piece after piece of what it iterates over, so here too a signal leaves the connection closed.
        """
        total = sum(len(piece) for piece in pieces(command, PIECE_BYTES))
        with progress.upload(what, total) as sent:
            self._connection.send_packed_command(_counted(pieces(command, PIECE_BYTES), sent))
            self._connection.read_response()

    def execute(self) -> list[Any] | None:
        """Send EXEC: return the replies, errors among them as exceptions, or None if a watched key was changed."""
        replies: list[Any] | None = self.command("EXEC")
        return replies


def _counted(blobs: Iterable[Blob], sent: Callable[[int], object]) -> Iterator[Blob]:
    """Yield the blobs to a caller that sends each before it asks for the next."""
    for blob in blobs:
        yield blob
        sent(len(blob))


def _open(target: Target) -> Any:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.cluster import RedisCluster
    from redis.retry import Retry

    arguments = target.redis_arguments()
    if target.cluster:
        return RedisCluster(**arguments, retry=Retry(NoBackoff(), 1))
    return Redis(**arguments, db=target.db, retry=Retry(NoBackoff(), 1))


def _not_moved(replies: list[Any]) -> list[Any]:
    from redis.exceptions import MovedError

    for reply in replies:
        if isinstance(reply, MovedError):
            raise reply
    return replies


def _redis_exceptions() -> tuple[type[Exception], ...]:
    """Return every exception class of redis-py; not all of them derive from RedisError."""
    import redis.exceptions

    return tuple(
        kind for kind in vars(redis.exceptions).values() if isinstance(kind, type) and issubclass(kind, Exception)
    )
