"""
The child process that judges rows: it reads a row's name a line, and answers with lines of JSON.

Frameworks are imported once. A row that never ends, or that takes the process down, costs no other row anything: the
parent (`census.running`) ends the process and starts another one.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import warnings
from typing import TextIO


def main() -> None:
    """Judge rows until the input ends. The arguments are the seed, and the seconds that a row may compute."""
    seed, limit = int(sys.argv[1]), float(sys.argv[2])
    replies = _own_output()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    from census.families import FAMILIES, row_named
    from census.verdicts import judge

    for line in sys.stdin:
        row = row_named(line.strip())

        def tell(phase: str) -> None:
            print(json.dumps({"phase": phase}), file=replies, flush=True)

        # The signal ends the process, whatever a library is busy with. Only time on a processor counts, because other
        # processes on the machine must not change a verdict.
        signal.setitimer(signal.ITIMER_PROF, limit)
        verdict = judge(row, FAMILIES[row.family], seed, tell)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"verdict": verdict.kind, "reason": verdict.reason}), file=replies, flush=True)


def _own_output() -> TextIO:
    """Return this process' standard output. What libraries print there from now on is lost."""
    kept = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return kept


if __name__ == "__main__":
    main()
