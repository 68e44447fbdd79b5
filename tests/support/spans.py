"""The spans that an engine has made of requests, which its exporter `console` prints."""

from __future__ import annotations

import json
from typing import Any

from support.servers import Server

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def spans(engine: Server) -> list[dict[str, Any]]:
    """Return the whole spans in the engine's log, where the exporter `console` prints them."""
    text = engine.log.read_text()
    found = []
    decoder = json.JSONDecoder()
    lines = "\n".join(line.partition("printed: ")[2] or line for line in text.splitlines())
    at = lines.find('{\n    "name"')
    while at >= 0:
        try:
            value, end = decoder.raw_decode(lines, at)
        except json.JSONDecodeError:
            break
        found.append(value)
        at = lines.find('{\n    "name"', end)
    return found
