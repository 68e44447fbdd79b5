"""
What is raised for bytes that break RESP, whichever side they came from.

Not the errors that commands answer: those are texts, and belong to the commands.
"""

from __future__ import annotations


class ProtocolError(ValueError):
    """
    The bytes are not RESP, and nothing after them can be understood: the connection has to be closed.

    `text` is what Redis says of the same bytes, without the "ERR " that it writes before it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
