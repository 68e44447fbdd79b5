"""
The errors for bytes that violate RESP, from a client or from Redis.

Error replies of commands are not here: they are texts (`texts.py`) and belong to the commands.
"""

from __future__ import annotations


class ProtocolError(ValueError):
    """
    The bytes are not RESP and nothing after them can be understood, so the connection must be closed.

    For a client's bytes, `text` is what Redis answers to the same bytes, without its prefix "ERR ".
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class TooLargeBeforeLogin(ProtocolError):
    """
    The request is larger than Redis takes of a client that has not logged in.

    The connection goes on if the client turns out to have logged in, or to need no login.
    """
