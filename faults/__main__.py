"""
Run all faults, or those whose word or title contains a word, and write what came of each into docs/reliability.md.

`scripts/test --faults [WORD]`, and `scripts/test --faults soak [SECONDS]` for the soak, which is not among all.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from faults import page
from faults.fault import Row
from faults.soak import SECONDS, Soak
from faults.table import FAULTS, run


def main(word: str = "", seconds: str = str(SECONDS)) -> int:
    """Return the exit code: 1 if something was lost, wrong or unexpected."""
    if word == Soak.word:
        chosen: list[Row] = [Soak(float(seconds))]
    else:
        chosen = [fault for fault in FAULTS if word.lower() in f"{fault.word} {fault.title.lower()}"]
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        for fault in tqdm(chosen, desc="faults", disable=not sys.stderr.isatty()):
            outcome = outcomes[fault.word] = run(fault, Path(folder))
            print(f"{fault.title}: {outcome.problems or 'nothing lost'}, {outcome.pause_s} s", flush=True)
    page.write(outcomes)
    return int(any(outcome.problems for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
