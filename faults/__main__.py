"""
Run all faults, or those whose title contains a word, and print what came of each.

A whole run writes docs/reliability.md. `scripts/test --faults [WORD]`
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import monotonic

from tqdm import tqdm

from faults import page
from faults.run import Outcome, run
from faults.table import FAULTS


def main(word: str = "") -> int:
    """Return the exit code: 1 if something was lost, wrong or unexpected."""
    begin = monotonic()
    outcomes: list[Outcome] = []
    chosen = [fault for fault in FAULTS if word.lower() in fault.title.lower()]
    with tempfile.TemporaryDirectory() as folder:
        for fault in tqdm(chosen, desc="faults", disable=not sys.stderr.isatty()):
            outcome = run(fault, Path(folder))
            outcomes.append(outcome)
            print(f"{fault.title}: {outcome.problems or 'nothing lost'}, {outcome.recovery_s:.2f} s", flush=True)
    if not word:
        page.write(outcomes, (monotonic() - begin) / 60)
    return int(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
