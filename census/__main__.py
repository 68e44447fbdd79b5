"""`python -m census`: run the census or a part of it, print what is wrong, and write the results."""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

from census.families import all_rows
from census.running import LIMIT, Judged, run
from census.verdicts import FAULTS


def main() -> int:
    arguments = _arguments()
    rows = [row for name, row in all_rows().items() if re.search(arguments.only, name)]
    if arguments.row:
        rows = [all_rows()[name] for name in arguments.row]
    if arguments.sample:
        rows = random.Random(arguments.seed).sample(rows, min(arguments.sample, len(rows)))
    if arguments.list:
        print("\n".join(row.name for row in rows))
        return 0
    ends = time.monotonic() + arguments.seconds if arguments.seconds else None
    counts: Counter[str] = Counter()
    with (Path(arguments.log) if arguments.log else Path("/dev/null")).open("a") as log:
        for judged in run(
            rows,
            arguments.seed,
            jobs=arguments.jobs,
            limit=arguments.limit,
            until=lambda: ends is not None and time.monotonic() > ends,
        ):
            counts[judged.verdict.kind] += 1
            print(_line(judged), file=log, flush=True)
            if arguments.row or arguments.all or judged.verdict.kind in FAULTS:
                print(_line(judged), flush=True)
    print(f"seed {arguments.seed}, {sum(counts.values())} of {len(rows)} rows: {dict(counts)}")
    return 1 if any(counts[kind] for kind in FAULTS) else 0


def _line(judged: Judged) -> str:
    return f"{judged.verdict.kind}\t{judged.row.name}\t{judged.seconds:.1f} s\t{judged.verdict.reason}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/census", description=__doc__)
    parser.add_argument("--row", action="append", help="the name of a row to repeat, as a run prints it")
    parser.add_argument("--only", default="", help="a regular expression that names of rows must contain")
    parser.add_argument("--sample", type=int, help="number of rows to draw")
    parser.add_argument("--seconds", type=float, help="begin no row after so many seconds")
    parser.add_argument("--seed", type=int, default=1, help="seed of data and sample (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes (default: 1)")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"seconds that a row may take (default: {LIMIT:g})")
    parser.add_argument("--all", action="store_true", help="print every verdict, not only faults")
    parser.add_argument("--list", action="store_true", help="print the names of the rows, and run none")
    parser.add_argument("--log", help="file to append every verdict to")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
