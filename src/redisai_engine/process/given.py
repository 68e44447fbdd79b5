"""What a worker process gets from its parent (`worker.py`): descriptors, by number, and over one of them settings."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass

from redisai_engine.config import Settings
from redisai_engine.execution.notes import Notes
from redisai_engine.process.frames import receive_now
from redisai_engine.service.memory.tallies import Tallies
from redisai_engine.service.polling import PollingPlace

#: The environment variable that holds the numbers of a worker's descriptors, as JSON.
VARIABLE = "REDISAI_ENGINE_WORKER"


@dataclass(frozen=True, slots=True)
class Given:
    """What a worker gets from its parent. `wary` is explained in `execution/quarantine.py`."""

    settings: Settings
    link: socket.socket
    notes: Notes
    wary: bool
    place: PollingPlace | None
    tallies: Tallies | None


def given_by_parent() -> Given | None:
    """Return what this process was given if it is a worker, otherwise None."""
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return None
    descriptors = json.loads(text)
    os.set_inheritable(descriptors["link"], False)  # noqa: FBT003  # the name says it
    link = socket.socket(fileno=descriptors["link"])
    given = receive_now(link)
    notes = Notes(descriptors["notes"])
    os.close(descriptors["notes"])
    place = tallies = None
    if "polling" in descriptors:
        os.set_inheritable(descriptors["polling"], False)  # noqa: FBT003  # as above
        place = PollingPlace(descriptors["polling"], given["number"])
    if "tallies" in descriptors:
        tallies = Tallies(descriptors["tallies"], given["number"])
        os.close(descriptors["tallies"])
    return Given(Settings(**given["settings"]), link, notes, given["wary"], place, tallies)
