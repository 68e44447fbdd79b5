"""
The connection to the server: a single Redis or Valkey, or the node of a Redis Cluster that holds a key.

All keys of a deployment are in one slot, so everything about it goes to one node over plain connections. That is why
the other modules need no code for clusters.

redis-py's retries are off. A command that may be sent twice is sent once more if its connection turns out to be lost,
because a pooled connection may have gone stale; a warning says so. Inside a transaction nothing is retried: a retried
command would run outside its MULTI. `deployments` knows when the whole may be started over.

Invariant: every exception of redis-py leaves this module as one of the plugin's errors.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from mlflow_redisai import deadline, errors
from mlflow_redisai.server import progress, translation
from mlflow_redisai.server.bounded import bounded
from mlflow_redisai.server.commands import Argument, Blob, Command, argument_bytes, pieces
from mlflow_redisai.server.kept_connections import KeptConnections
from mlflow_redisai.target import Target

_logger = logging.getLogger(__name__)

T = TypeVar("T")

MOVES = 5  # redirections to other nodes of the cluster before giving up
LARGE_BYTES = 64 * 1024 * 1024  # commands of this size or more are sent in pieces, with a progress bar
_LOSSES = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
PIECE_BYTES = 256 * 1024  # sent in one call of the socket; on a slow line this takes about a second


class Connection:
    """Connections to one server, opened on first use and kept. Many threads may use it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.where = target.label
        self._client: Any = None
        self._kept = KeptConnections()

    def close(self) -> None:
        """Close all connections."""
        self._kept.close()
        if self._client is not None:
            with self.translated():
                self._client.close()
            self._client = None

    # -- commands ---------------------------------------------------------------------------------

    def call(self, key: bytes, *command: Argument, otherwise: type[errors.ServerProblem] = errors.ServerProblem) -> Any:
        """
        Run one command on the node that holds `key`.

        Only for commands that may be carried out twice. `otherwise` is the class for an error that the command itself
        reports.
        """
        return self._at(key, lambda node: node.execute_command(*command), otherwise)

    def pipeline(self, key: bytes, commands: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """
        Run commands in one round trip and return their replies, in which an error is an exception object.

        With `atomic`, they run inside MULTI and EXEC. Only for commands that may be carried out twice.
        """

        def work(node: Any) -> list[Any]:
            with node.pipeline(transaction=atomic) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                replies: list[Any] = pipeline.execute(raise_on_error=False)
                return _not_moved(replies)

        return self._at(key, work)

    def exchange(self, key: bytes, commands: Sequence[Command]) -> list[Any]:
        """
        Like `pipeline`, but faster, with replies as redis-py's parser returns them.

        Only for commands that may be sent twice.
        """
        return self._at(key, lambda node: _not_moved(self._kept.exchange(node.connection_pool, commands)))

    def everywhere(self, *command: Argument) -> list[Any]:
        """Run one command on every primary and return all replies."""
        with self.translated():
            return self._twice(lambda: [node.execute_command(*command) for node in self._primaries()])

    @contextlib.contextmanager
    def transaction(self, key: bytes) -> Iterator[WatchedTransaction]:
        """Yield a dedicated connection to the node of `key`. It is closed at the end, so that no key stays watched."""
        with self.translated():
            if self.target.cluster:
                self.call(key, "EXISTS", key)  # discovers a moved slot now, not inside the transaction
            single = self._node(key).client()
            try:
                yield WatchedTransaction(single.connection)
            finally:
                single.connection.disconnect()
                single.close()

    def translated(
        self, otherwise: type[errors.ServerProblem] = errors.ServerProblem
    ) -> contextlib.AbstractContextManager[None]:
        """Raise redis-py's exceptions inside the block as the plugin's errors."""
        return _Translated(self, otherwise)

    def problem(
        self, error: BaseException, otherwise: type[errors.ServerProblem] = errors.ServerProblem
    ) -> errors.ServerProblem:
        """Return the plugin's error for an exception of redis-py, or for an error inside a reply."""
        if isinstance(error, OSError | UnicodeError):
            otherwise = errors.ServerUnreachable
        # The cluster client wraps the errors of its nodes.
        cause = error.__cause__ if isinstance(error.__cause__, _redis_exceptions()) else error
        said = self.target.redact(str(cause)) or type(cause).__name__
        problem = translation.translate(cause, self.where, said, otherwise)
        # In a cluster, MOVED is temporary. The advice of ClusterNode, cluster=true, has been followed already.
        if self.target.cluster and isinstance(problem, errors.ClusterNode):
            return errors.ServerUnavailable(self.where, said)
        return problem

    def warn_of_loss(self, lost: BaseException, what: str) -> None:
        """Log that the connection was lost and what is done about it."""
        said = errors.one_sentence(self.target.redact(str(lost)))
        _logger.warning("The connection to %s was lost (%s); %s", self.where, said, what)

    # -- nodes ------------------------------------------------------------------------------------

    def _at(
        self, key: bytes, work: Callable[[Any], T], otherwise: type[errors.ServerProblem] = errors.ServerProblem
    ) -> T:
        with self.translated(otherwise):
            if not self.target.cluster:
                try:
                    return work(self._opened())
                except Exception as error:
                    self._refuse_or_warn(error)
                return work(self._opened())
            from redis.exceptions import MovedError

            for _ in range(MOVES):
                with contextlib.suppress(MovedError):
                    return self._twice(lambda: work(self._node(key)))
                # The slot has moved: load the cluster's new layout.
                self._opened().nodes_manager.initialize()
            return self._twice(lambda: work(self._node(key)))

    def _refuse_or_warn(self, error: Exception) -> None:
        """Raise the error unless it is a lost connection, and warn that the command is sent again if it is."""
        if not is_loss(error):
            raise error
        self.warn_of_loss(error, "the command is sent again")

    def _twice(self, work: Callable[[], T]) -> T:
        """Do something that may be done twice, and do it again if the connection was lost meanwhile."""
        try:
            return work()
        except Exception as error:
            self._refuse_or_warn(error)
        return work()

    def _node(self, key: bytes) -> Any:
        client = self._opened()
        if not self.target.cluster:
            return client
        return bounded(client.get_redis_connection(client.get_node_from_key(key)))

    def _primaries(self) -> list[Any]:
        client = self._opened()
        if not self.target.cluster:
            return [client]
        return [bounded(client.get_redis_connection(node)) for node in client.get_primaries()]

    def _opened(self) -> Any:
        if self._client is None:
            self._client = _open(self.target)
        return self._client


class _Translated:
    """A class, because a prediction has no time for contextlib."""

    __slots__ = ("_connection", "_otherwise")

    def __init__(self, connection: Connection, otherwise: type[errors.ServerProblem]) -> None:
        self._connection, self._otherwise = connection, otherwise

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: object) -> None:
        if isinstance(error, Exception) and isinstance(error, (*_redis_exceptions(), OSError, UnicodeError)):
            deadline.check()
            raise self._connection.problem(error, self._otherwise) from error


class WatchedTransaction:
    """
    One connection for WATCH, MULTI and EXEC, command by command.

    If the connection is lost, it raises and never reconnects.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def command(self, *command: Argument) -> Any:
        """Send one command and return its reply."""
        self._connection.send_command(*command)
        return self._connection.read_response()

    def queue(self, commands: Sequence[Command], *, what: str = "") -> None:
        """
        Send MULTI and the commands. Raise the errors that the server reports at once (permissions, memory).

        `what` names the upload in the progress bar of a large command.
        """
        self.command("MULTI")
        for command in commands:
            if argument_bytes(command) < LARGE_BYTES:
                self.command(*command)
            else:
                self._upload(command, what)

    def _upload(self, command: Command, what: str) -> None:
        """
        Send a large command in pieces.

        redis-py would copy it twice and hand it to the socket in one call, all within one timeout. Of an iterator it
        sends piece after piece. As with any other command, it closes the connection if a signal interrupts it.
        """
        total = sum(len(piece) for piece in pieces(command, PIECE_BYTES))
        with progress.upload(what, total) as sent:
            self._connection.send_packed_command(_counted(pieces(command, PIECE_BYTES), sent))
            self._connection.read_response()

    def execute(self) -> list[Any] | None:
        """
        Send EXEC and return the replies, or None if a watched key has changed.

        An error in a reply is an exception object.
        """
        replies: list[Any] | None = self.command("EXEC")
        return replies


def _counted(blobs: Iterable[Blob], sent: Callable[[int], object]) -> Iterator[Blob]:
    """Yield the blobs and report the size of each to `sent` once the consumer asks for the next one."""
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
    return bounded(Redis(**arguments, db=target.db, retry=Retry(NoBackoff(), 0)))


def is_loss(error: BaseException | None) -> bool:
    """Return whether redis-py says that a connection, once there, was lost. Refused and silent ones are not."""
    from redis.exceptions import ConnectionError as Lost

    before = None if error is None else error.__context__
    return type(error) is Lost and (before is None or isinstance(before, _LOSSES))


def _not_moved(replies: list[Any]) -> list[Any]:
    """Return the replies. Raise MovedError if one of them is that, so that `_at` tries again on the right node."""
    for reply in replies:
        if isinstance(reply, Exception):
            from redis.exceptions import MovedError

            if isinstance(reply, MovedError):
                raise reply
    return replies


def _redis_exceptions() -> tuple[type[Exception], ...]:
    """Return all exception classes of redis-py. Not all of them derive from RedisError."""
    import redis.exceptions

    return tuple(
        kind for kind in vars(redis.exceptions).values() if isinstance(kind, type) and issubclass(kind, Exception)
    )
