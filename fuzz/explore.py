"""
Explores one parser in a process of its own: with atheris, which sees what an input reaches, or else with Hypothesis.

`python -m fuzz.explore TARGET --seed 1 --seconds 10` goes on after a fault. The smallest input of each is in
`--findings`, next to its traceback. What ends the process itself, atheris leaves there as crash-*, timeout-* or oom-*.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import random
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from fuzz.limits import Check

LONG_ONE_IN = 32  # of the inputs that a target would make long, which take as much time as many short ones
LEAK_SECONDS = 30  # in which inputs of the corpus are searched for leaks, if exploring has no limit of time either
ADDRESS_SPACE_MIB = 2048
HANG_SECONDS = 30  # ends what never returns to Python
BATCH = 500  # inputs that Hypothesis makes up with one seed
SERVED = ("commands", "blobs")  # the targets that need servers
CAN_SEE = importlib.util.find_spec("atheris") is not None


def main() -> None:
    arguments = _arguments()
    logging.disable(logging.WARNING)  # of columns that are ignored
    warnings.simplefilter("error", RuntimeWarning)  # of NumPy's: a case that nobody thought of
    for folder in (arguments.findings, arguments.corpus):
        folder.mkdir(parents=True, exist_ok=True)
    if arguments.leaks:
        _search_leaks(arguments)
    elif arguments.target in SERVED:
        _a_session(arguments)
    elif CAN_SEE:
        _with_atheris(arguments)
    else:
        _a_parser(arguments)


def _with_atheris(arguments: argparse.Namespace) -> None:
    import atheris

    # Nothing of the engine may have been imported before.
    with atheris.instrument_imports(include=["redisai_engine"]):
        from fuzz import targets
    flags = {
        "seed": arguments.seed,
        "max_len": targets.MOST_BYTES,
        "timeout": HANG_SECONDS,
        "report_slow_units": HANG_SECONDS,  # by the clock, which a busy machine makes useless
        "artifact_prefix": f"{arguments.findings}/",
        "print_final_stats": 1,
        "max_total_time": arguments.seconds or 0,
        "runs": arguments.inputs or -1,
    }
    folders = [str(arguments.corpus), str(targets.CORPUS / arguments.target)]
    atheris.Setup([sys.argv[0], *(f"-{name}={value}" for name, value in flags.items()), *folders], _check(arguments))
    atheris.Fuzz()  # ends the process


def _a_parser(arguments: argparse.Namespace) -> None:
    from hypothesis import strategies as st

    from fuzz import targets

    seeds = [path.read_bytes() for path in targets.corpus(arguments.target)]
    spliced = st.builds(_spliced, st.sampled_from(seeds), st.binary(), st.integers(0, 999))
    _with_hypothesis(_check(arguments), st.binary(max_size=targets.MOST_BYTES) | spliced, arguments)


def _a_session(arguments: argparse.Namespace) -> None:
    from fuzz import limits, sessions

    session = sessions.SESSIONS[arguments.target]
    with session.served() as check:
        _with_hypothesis(limits.collecting(check, arguments.findings), session.inputs(), arguments)


def _with_hypothesis(check: Check, inputs: SearchStrategy[bytes], arguments: argparse.Namespace) -> None:
    """Check batches of inputs, until the time is over or there were enough."""
    from hypothesis import HealthCheck, given, seed, settings

    ends = time.monotonic() + (arguments.seconds or float("inf"))
    count, batch = 0, min(arguments.inputs or BATCH, BATCH)

    def counted(data: bytes) -> None:
        nonlocal count
        if time.monotonic() < ends:
            count += 1
            check(data)

    rules = settings(max_examples=batch, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    while time.monotonic() < ends and (not arguments.inputs or count < arguments.inputs):
        seed(arguments.seed + count)(rules(given(inputs)(counted)))()
    print(f"Done {count} runs")


def _spliced(seed: bytes, piece: bytes, place: int) -> bytes:
    place %= len(seed) + 1
    return seed[:place] + piece + seed[place + len(piece) :]


def _search_leaks(arguments: argparse.Namespace) -> None:
    """Read inputs of the corpus again and again, in a process without atheris, which keeps objects itself."""
    from fuzz import limits, targets

    check = targets.TARGETS[arguments.target]
    search = limits.collecting(lambda data: limits.check_leak(check, data), arguments.findings)
    ends = time.monotonic() + (arguments.seconds or LEAK_SECONDS)
    paths = [*targets.corpus(arguments.target), *sorted(arguments.corpus.iterdir())]
    random.Random(arguments.seed).shuffle(paths)
    for path in paths:
        if time.monotonic() < ends:
            search(path.read_bytes())


def _check(arguments: argparse.Namespace) -> Check:
    from fuzz import choices, limits, targets

    check = limits.bounded(targets.TARGETS[arguments.target], limits.SECONDS_SEEN if CAN_SEE else limits.SECONDS)
    for path in targets.corpus(arguments.target):  # what is imported or prepared once counts for no input
        with contextlib.suppress(Exception):
            targets.TARGETS[arguments.target](path.read_bytes())
    limits.limit_address_space(ADDRESS_SPACE_MIB)
    choices.Choices.long_one_in = LONG_ONE_IN
    return limits.collecting(check, arguments.findings)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz.explore", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--leaks", action="store_true", help="explore nothing, but search the corpus for leaks")
    parser.add_argument("--findings", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True, help="where inputs are kept that reach something new")
    return parser.parse_args()


if __name__ == "__main__":
    main()
