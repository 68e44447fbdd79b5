"""
What the short ways have in common: a request in progress, and how it goes on the ordinary way.

Invariant: a short way ends exactly once, with a reply. Any failure in it becomes an error reply.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Plan
from redisai_engine.commands.task import carry_out
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.replies import Reply

_log = logging.getLogger(__name__)


class ShortWay:
    """
    A request in progress. `reply` is None until it has ended.

    With `busy`, later requests of the client wait until then. `request` are the words, for a body that has to ask Redis
    about them.
    """

    def __init__(self, client: Client, request: Sequence[bytes], *, busy: bool) -> None:
        self.reply: Reply | None = None
        self.silent = False
        self.is_detached = False
        self.busy = busy
        self._client = client
        self._request = request
        self._began_at = client.engine.turn.began_at

    def begin(self) -> None:
        """Ask Redis for what is needed first. The end of this turn sends it."""
        raise NotImplementedError

    def end(self, reply: Reply) -> None:
        """Set the reply and serve the client. A no-op once it is set."""
        if self.reply is None:
            self.reply = reply
            self.is_detached = True
            self._client.touch()

    def answered(self, got: list[Any]) -> None:
        """Take Redis' replies, as bytes."""
        if self.reply is not None:
            return
        try:
            self.take(got)
        except Exception:
            self.fail()

    def take(self, got: list[bytes]) -> None:
        """Go on with Redis' replies."""
        raise NotImplementedError

    def go_on(self, body: Plan) -> None:
        """Go on the ordinary way."""
        request = self._request if self.busy else None
        carry_out(self._client, body, self.end, request=request, began_at=self._began_at)

    def fail(self) -> None:
        """Answer for a bug in the engine; the log has the details."""
        _log.exception("a command failed because of a bug in the engine")
        self.end(replies.error(texts.ENGINE_FAILED))
