"""The page docs/reliability.md: a row for each fault, the one of its latest run."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from pathlib import Path

from faults.fault import Row
from faults.outcome import Outcome
from faults.table import APART, FAULTS
from redisai_engine.redis.data_folder import version_of
from support.servers import redis_server_binary

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
_HEAD = """# Reliability

Written by `scripts/test --faults` ({machine}, {redis}). Run it again on your machine: it takes less than a quarter of
an hour. `scripts/test --faults WORD` runs one row, whose word is in its last column.

In each row real processes are at work: an engine, a redis-server that writes each change to its file before it
acknowledges it, four clients that predict without a pause and one that stores keys and models. Then something happens
to one of the processes. All answers are checked, and afterwards every acknowledged write is read again. A client whose
connection ends connects again, at once. `scripts/test --faults` fails if an answer is wrong, an acknowledged write is
lost, a client gets an error that the table of faults doesn't allow, or the engine doesn't serve again.

*Pause* is the longest time in which none of the clients got a prediction, the fault itself included.

| fault | what clients saw besides right answers | pause | work done | lost or wrong | on | word |
|---|---|---|---|---|---|---|
"""


def write(outcomes: Mapping[str, Outcome]) -> None:
    """Put the outcomes, by word, in place of earlier ones."""
    faults = [*FAULTS, *APART]
    rows = {fault.word: _row(fault, outcomes[fault.word]) for fault in faults if fault.word in outcomes}
    known = _known() | rows
    head = _HEAD.format(machine=f"{platform.system()} {platform.machine()}", redis=version_of(redis_server_binary()))
    PAGE.write_text(head + "".join(known[fault.word] for fault in faults if fault.word in known))


def _known() -> dict[str, str]:
    """Return the rows of the page as it is, by word."""
    lines = PAGE.read_text().splitlines(keepends=True) if PAGE.exists() else []
    return {line.rsplit("|", 2)[1].strip(" `"): line for line in lines if line.startswith("| ")}


def _row(fault: Row, outcome: Outcome) -> str:
    problems = "; ".join(outcome.problems[:3]) or "nothing"
    pause = "" if outcome.pause_s is None else f"{outcome.pause_s:.2f} s"
    today = datetime.date.today().isoformat()
    cells = (fault.title, outcome.saw, pause, outcome.work, problems, today, f"`{fault.word}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
