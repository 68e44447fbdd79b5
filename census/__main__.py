"""
Run the census or a part of it. Print faults as they are found, and what was counted at the end.

`python -m census --publish` writes the results and docs/census.md too.
"""

from __future__ import annotations

import argparse
import random
import re
import shlex
import sys
import time
from collections import Counter
from pathlib import Path

from census import page
from census.families import all_rows, row_named
from census.results import Found, Results, append, circumstances, read_log
from census.rows import Row
from census.running import LIMIT, run
from census.verdicts import EQUAL, FAULTS, UNTRAINED


def main() -> int:
    arguments = _arguments()
    rows = _chosen(arguments)
    if arguments.list:
        print("\n".join(row.name for row in rows))
        return 0
    kept = read_log(arguments.log) if arguments.log else {}
    found = {row.name: kept[row.name] for row in rows if row.name in kept and not _again(kept[row.name], arguments)}
    waiting = [row for row in rows if row.name not in found]
    for each in _judged(waiting, arguments):
        found[each.row.name] = each
    counts = Counter(each.verdict.kind for each in found.values())
    print(f"seed {arguments.seed}, {len(found)} of {len(rows)} rows: {dict(counts)}")
    if arguments.publish:
        about = circumstances(_command(arguments), arguments.seed, len(all_rows()))
        page.publish(Results(about, tuple(found.values())).write())
    return 1 if any(counts[kind] for kind in FAULTS) else 0


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that asks for the same rows. Where the log is and how many processes ran changes none."""
    given = {"--only": arguments.only, "--sample": arguments.sample, "--seed": arguments.seed}
    words = [word for name, value in given.items() if value for word in (name, str(value))]
    return shlex.join(["scripts/census", *words])


def _chosen(arguments: argparse.Namespace) -> list[Row]:
    if arguments.row:
        return [row_named(name) for name in arguments.row]
    rows = [row for name, row in all_rows().items() if re.search(arguments.only, name)]
    return random.Random(arguments.seed).sample(rows, min(arguments.sample or len(rows), len(rows)))


def _again(found: Found, arguments: argparse.Namespace) -> bool:
    """Return whether a row of the log is run again."""
    return bool(arguments.again) and found.verdict.kind not in (EQUAL, UNTRAINED)


def _judged(rows: list[Row], arguments: argparse.Namespace) -> list[Found]:
    ends = time.monotonic() + arguments.seconds if arguments.seconds else None
    found = []
    for each in run(
        rows,
        arguments.seed,
        jobs=arguments.jobs,
        limit=arguments.limit,
        until=lambda: ends is not None and time.monotonic() > ends,
    ):
        found.append(each)
        if arguments.log:
            append(arguments.log, each)
        if arguments.row or arguments.all or each.verdict.kind in FAULTS:
            print(f"{each.verdict.kind}: {each.row.name}: {each.verdict.reason}", flush=True)
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/census", description=__doc__)
    parser.add_argument("--row", action="append", help="the name of a row to repeat, as a run prints it")
    parser.add_argument("--only", default="", help="a regular expression that names of rows must contain")
    parser.add_argument("--sample", type=int, help="number of rows to draw (default: all, in random order)")
    parser.add_argument("--seconds", type=float, help="begin no row after so many seconds")
    parser.add_argument("--seed", type=int, default=1, help="seed of data and sample (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes (default: 1)")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"seconds that a row may compute ({LIMIT:g})")
    parser.add_argument("--all", action="store_true", help="print every verdict, not only faults")
    parser.add_argument("--list", action="store_true", help="print the names of the rows, and run none")
    parser.add_argument("--log", type=Path, help="file that keeps the verdicts; rows that it has are not run again")
    parser.add_argument("--again", action="store_true", help="run the log's rows again that are not equal")
    parser.add_argument("--publish", action="store_true", help="write census/results/ and docs/census.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
